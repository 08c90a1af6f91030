"""Where a unit's effect on the output is measured: positions at which it is on, each in another document."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tools.types import BoolArray, FloatArray, IntArray, Sample, UnitId

#: Positions, at most.
MOST_PLACES = 32


class Texts(Protocol):
    """The tokens of a split; `tools.index.SplitView` has them."""

    def ids(self, context: int) -> IntArray: ...


class View(Protocol):
    """What is needed of one split; `tools.index.SplitView` is one."""

    @property
    def texts(self) -> Any: ...

    @property
    def panel_contexts(self) -> IntArray: ...

    def sample(self, unit: UnitId) -> Sample: ...


@dataclass(frozen=True)
class Places:
    """Positions in texts at which a unit is on; arrays are parallel, [n]."""

    texts: tuple[tuple[int, ...], ...]
    """Token ids of the whole contexts."""
    positions: IntArray
    """Never 0."""
    on: FloatArray
    """The unit's activation."""
    documents: IntArray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: IntArray) -> Places:
        """Some of them."""
        return Places(
            tuple(self.texts[row] for row in rows.tolist()), self.positions[rows], self.on[rows], self.documents[rows]
        )

    def shortest(self, n: int) -> IntArray:
        """Which n have the fewest tokens before them, where a run costs least; ascending."""
        return np.sort(np.argsort(self.positions, kind="stable")[:n])


def active_places(
    view: View,
    unit: UnitId,
    sign: float,
    threshold: float,
    *,
    room: int,
    most: int = MOST_PLACES,
    seed: int = 0,
    common_seed: int = 0,
) -> Places:
    """Positions at which a unit is on, each in another document.

    Which position of a document is drawn by the unit's seed, which documents by the common one, so that units share
    texts. Those of the panel, a random sample of the split, come first; the unit's strongest blocks follow where it is
    too rare for the panel.

    Args:
        view: Of a split.
        unit: Whose activations.
        sign: 1 or -1, the tail.
        threshold: Magnitude above which it is on.
        room: Positions from this one on are left out, since too little of the model's context is left behind them.
        most: How many at most.
        seed: Of the unit.
        common_seed: Of the campaign.
    """
    sample = view.sample(unit)
    rows = np.flatnonzero((sign * sample.values > threshold) & (sample.positions >= 1) & (sample.positions < room))
    panel = np.asarray(view.panel_contexts)
    rank = dict(zip(np.random.default_rng(common_seed).permutation(panel).tolist(), range(len(panel)), strict=True))
    ranks = np.array([rank.get(context, len(panel)) for context in sample.contexts[rows].tolist()], dtype=np.int64)
    order = rows[np.lexsort((np.random.default_rng(seed).random(len(rows)), ranks))]
    _, first = np.unique(sample.documents[order], return_index=True)
    chosen = order[np.sort(first)[:most]]
    return Places(
        tuple(tuple(view.texts.ids(context).tolist()) for context in sample.contexts[chosen].tolist()),
        sample.positions[chosen], sample.values[chosen].astype(np.float32), sample.documents[chosen],
    )  # fmt: skip


@dataclass(frozen=True)
class Off:
    """What stands for a unit that is off: values that it has where it is not on."""

    method: str
    """'resample' (one of those values at each place), 'mean' (theirs) or 'zero'."""
    values: FloatArray
    """The values, of the explore split, in the order in which they are used."""

    def at(self, n: int) -> FloatArray:
        """One for each of n places, float32 [n]."""
        if self.method == "zero" or not len(self.values):
            return np.zeros(n, dtype=np.float32)
        if self.method == "mean":
            return np.full(n, self.values.mean(), dtype=np.float32)
        return np.resize(self.values, n)

    def to_json(self) -> dict[str, Any]:
        """The method and, where it has one, its reference set: how many values, and the digest of them."""
        if self.method == "zero":
            return {"method": self.method}
        digest = hashlib.sha256(self.values.tobytes()).hexdigest()[:16]
        return {"method": self.method, "values": len(self.values), "sha256": digest}


def off_values(sample: Sample, threshold: float, *, method: str = "resample", n: int = 64, seed: int = 0) -> Off:
    """Values of a unit where it is not on in either tail, drawn at the rate at which the corpus has them.

    Args:
        sample: Of the explore split.
        threshold: Magnitude above which it is on.
        method: See `Off.method`.
        n: How many are drawn.
        seed: Of the draw.
    """
    off: BoolArray = np.abs(sample.values) <= threshold
    if not off.any():
        # It is never off: its weakest values are the nearest to it.
        off = np.abs(sample.values) <= np.quantile(np.abs(sample.values), 0.05) if len(sample) else off
    values, weights = sample.values[off], sample.weights[off].astype(np.float64)
    if not len(values):
        return Off("zero", np.zeros(0, dtype=np.float32))
    drawn = np.random.default_rng(seed).choice(len(values), n, p=weights / weights.sum())
    return Off(method, values[drawn].astype(np.float32))
