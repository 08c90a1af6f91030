"""Where a unit's numbers come from: dense files or sparse postings, seen alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tools.index.dense import margins
from tools.index.plan import PanelLayout
from tools.index.settings import SPLITS
from tools.index.sparse import Postings
from tools.index.storage import load_array
from tools.index.texts import Texts
from tools.index.weighting import Weights
from tools.types import FloatArray, IntArray


@dataclass(frozen=True)
class Moments:
    """Exact figures over a split."""

    mean: float
    variance: float
    minimum: float
    maximum: float
    nonzero: float

    @classmethod
    def of(
        cls, tokens: int, total: float, squares: float, nonzero: float, *, minimum: float, maximum: float
    ) -> Moments:
        """From a sum, a sum of squares and a number of non-zeros over `tokens` tokens."""
        mean = total / tokens
        return cls(mean, max(0.0, squares / tokens - mean * mean), minimum, maximum, nonzero / tokens)


@dataclass(frozen=True)
class Tail:
    """Strongest blocks of one tail, strongest first, from distinct documents."""

    contexts: IntArray
    blocks: IntArray
    values: FloatArray
    """[n, before + window + after]: the block's activations with its margins; NaN where there is no counted token."""


class Source(Protocol):
    """A unit's numbers over one split."""

    def moments(self) -> Moments: ...

    def panel(self) -> FloatArray:
        """Activations at the split's panel positions."""
        ...

    def tails(self) -> tuple[Tail, Tail]:
        """Strongest blocks of the '+' and of the '-' tail."""
        ...

    def distribution(self) -> tuple[FloatArray, Weights] | None:
        """All values with their numbers of tokens, where they are known; None where a sample must do."""
        ...


class DenseSplit:
    """The dense files of one split, mapped."""

    def __init__(self, folder: Path, which: int) -> None:
        name = SPLITS[which]
        self.moments = load_array(folder / f"moments-{name}.npy")
        self.panel = load_array(folder / f"panel-{name}.npy")
        self.contexts = load_array(folder / f"top_contexts-{name}.npy")
        self.blocks = load_array(folder / f"top_blocks-{name}.npy")
        self.values = load_array(folder / f"top_values-{name}.npy")


@dataclass(frozen=True)
class DenseSource:
    """A dense unit: row `row` of the dense files."""

    files: DenseSplit
    row: int
    tokens: int

    def moments(self) -> Moments:
        total, squares, nonzero, minimum, maximum = self.files.moments[self.row].tolist()
        return Moments.of(self.tokens, total, squares, nonzero, minimum=minimum, maximum=maximum)

    def panel(self) -> FloatArray:
        return np.asarray(self.files.panel[self.row], dtype=np.float32)

    def tails(self) -> tuple[Tail, Tail]:
        contexts, blocks, values = (
            np.array(array[self.row]) for array in (self.files.contexts, self.files.blocks, self.files.values)
        )
        n = (contexts >= 0).sum(1)
        plus, minus = (Tail(contexts[t, : n[t]], blocks[t, : n[t]], values[t, : n[t]]) for t in (0, 1))
        return plus, minus

    def distribution(self) -> None:
        return None


class SparseSource:
    """A latent: its postings in one split; everything is computed from them."""

    def __init__(self, postings: Postings, latent: int, which: int, texts: Texts, layout: PanelLayout, *, tokens: int,
                 window: int, top_k: int) -> None:  # fmt: skip
        self._positions, self._values = postings.read(latent, which)
        self._texts, self._layout = texts, layout
        self._tokens, self._window, self._top_k = tokens, window, top_k

    def moments(self) -> Moments:
        values = self._values.astype(np.float64)
        # Where any token has no posting, zero is one of the values.
        zeros = [0.0] if len(values) < self._tokens else []
        low, high = min([*values.tolist(), *zeros]), max([*values.tolist(), *zeros])
        return Moments.of(
            self._tokens, float(values.sum()), float((values**2).sum()), len(values), minimum=low, maximum=high
        )

    def panel(self) -> FloatArray:
        length = self._texts.context_length
        return self._at(self._layout.contexts * length + self._layout.positions)

    def _at(self, keys: IntArray) -> FloatArray:
        """Activations at positions given as context * context length + position."""
        if not len(self._positions):
            return np.zeros(keys.shape, dtype=np.float32)
        at = np.minimum(np.searchsorted(self._positions, keys), len(self._positions) - 1)
        return np.where(self._positions[at] == keys, self._values[at], np.float32(0.0))

    def tails(self) -> tuple[Tail, Tail]:
        return self._tail(1.0), self._tail(-1.0)

    def _tail(self, sign: float) -> Tail:
        length = self._texts.context_length
        active = sign * self._values > 0
        strengths = np.abs(self._values[active])
        contexts, positions = np.divmod(self._positions[active], length)
        keys = contexts * (length + 1) + positions // self._window
        firsts = np.flatnonzero(np.diff(keys, prepend=-1))
        if not len(firsts):
            empty = np.zeros(0, dtype=np.int64)
            return Tail(empty, empty, np.zeros((0, sum(margins(self._window)) + self._window), dtype=np.float32))
        peaks = np.maximum.reduceat(strengths, firsts)
        contexts, blocks = contexts[firsts], positions[firsts] // self._window
        order = np.argsort(-peaks, kind="stable")
        # The first of each document, in order of strength.
        _, first = np.unique(self._texts.documents[contexts[order]], return_index=True)
        order = order[np.sort(first)[: self._top_k]]
        contexts, blocks = contexts[order], blocks[order]
        before, after = margins(self._window)
        at = blocks[:, None] * self._window + np.arange(-before, self._window + after)
        inside = (at >= 1) & (at < self._texts.lengths[contexts][:, None])
        values = np.where(inside, self._at(contexts[:, None] * length + at), np.float32(np.nan))
        return Tail(contexts, blocks, values)

    def distribution(self) -> tuple[FloatArray, Weights]:
        zeros = self._tokens - len(self._values)
        values: npt.NDArray[np.float32] = np.append(self._values, np.float32(0.0))
        return values, np.append(np.ones(len(self._values)), float(zeros))
