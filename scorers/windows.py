"""A few windows of held-out text that stand for a whole split, for predictors that cost something to ask.

A predictor that is a rule is asked about every sampled position. One that asks a language model pays for each token, so
it is asked about a hundred blocks of the index, drawn such that every metric is still at the corpus's true prevalence.

*Three draws.* `common` blocks of the random panel, drawn without looking at any unit: they are the same for all units
of a campaign, so that requests about them begin alike and servers keep that beginning. `active` blocks: some of the
unit's strongest ones and some of the panel's in which it is active, spread evenly over their strength and not only the
strongest. `hard` blocks: silent ones of the panel that resemble the active ones in their text, or in which the units
that are most often active together with this one are.

*One weight.* For each unit its blocks are divided into disjoint cells of known sizes: active inside the panel and
outside it, silent and hardest, silent and hard, the silent rest, and silent outside the panel (the other tail). Given
how many of a cell the common draw happens to hold, that draw is a uniform sample of the cell, and so is what is drawn
in addition. So a block drawn stands for (blocks of its cell) / (blocks drawn of it) blocks like itself, whichever way
it was drawn, and weighted totals are unbiased (Horvitz & Thompson 1952, on post-strata: Holt & Smith 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from scorers.simulation import HeldOut, generator, held_out
from scorers.types import DoubleArray, View
from tools.types import BoolArray, FloatArray, IntArray, Sample, UnitId

Stratum: TypeAlias = Literal["common", "active", "hard"]
Rank: TypeAlias = Callable[[Sequence[str], Sequence[str]], FloatArray]
"""How much each of the texts [n] resembles one of the texts in which the unit is active; larger is more. [n]"""

#: Blocks of the other tail's strongest ones that are drawn: they weigh next to nothing, but must not be left out.
OTHER_TAIL: Final = 2
#: Share of the silent blocks, beyond the hardest, from which the second half of the hard ones is drawn.
HARD_SHARE: Final = 0.25
#: Active blocks, evenly over their strength, that silent ones are compared with.
_MODELS: Final = 24
#: Units nearest by co-activation whose blocks count as hard.
_NEAREST: Final = 8


@dataclass(frozen=True)
class Window:
    """A block of text that a predictor is asked about."""

    context: int
    start: int
    """First position asked about; never 0."""
    stop: int
    """One past the last."""
    document: int
    stratum: Stratum
    """How it was drawn. A common window can be active, too."""
    weight: float
    """Tokens of the split that each of its tokens stands for."""
    rows: IntArray
    """Of the sample it was drawn from, in the order of the text."""
    peak: float
    """Largest activation in it, times the polarity's sign."""
    active: bool
    """Whether any of its tokens is active."""

    def pieces(self, view: View) -> list[str]:
        """Text of each of its tokens."""
        return list(view.texts.pieces(self.context, self.start, self.stop))


@dataclass(frozen=True)
class Draw:
    """Windows drawn for one tail of a unit."""

    held: HeldOut
    """The whole sample."""
    windows: tuple[Window, ...]
    """The common ones first, in the order that all units share; then the others, shuffled."""
    settings: Mapping[str, Any]
    """What of the draw makes two scores comparable."""

    @cached_property
    def rows(self) -> IntArray:
        """Rows of `held`, window after window."""
        return np.concatenate([window.rows for window in self.windows])

    @cached_property
    def weights(self) -> DoubleArray:
        """Of each of `rows`."""
        return np.concatenate([np.full(len(w.rows), w.weight) for w in self.windows])

    @cached_property
    def part(self) -> HeldOut:
        """The sample's rows that were drawn, window after window, with what each of them stands for."""
        return self.held.part(self.rows, self.weights)


@dataclass(frozen=True)
class _Blocks:
    """A sample cut into blocks; arrays are [n_blocks]."""

    view: View
    held: HeldOut
    starts: IntArray
    """First row of each block; its rows are consecutive."""
    sizes: IntArray
    peaks: DoubleArray
    weights: DoubleArray
    panel: BoolArray
    """Whether it belongs to the random panel."""

    @classmethod
    def of(cls, view: View, held: HeldOut) -> _Blocks:
        number = held.positions // view.window
        first = np.ones(len(held), dtype=np.bool_)
        first[1:] = (np.diff(held.contexts) != 0) | (np.diff(number) != 0)
        starts = np.flatnonzero(first)
        return cls(
            view=view,
            held=held,
            starts=starts,
            sizes=np.diff(np.append(starts, len(held))),
            peaks=np.maximum.reduceat(held.values, starts),
            weights=held.weights[starts],
            panel=np.isin(held.contexts[starts], view.panel_index[0]),
        )

    @cached_property
    def active(self) -> BoolArray:
        """Which of them hold an active token."""
        return self.peaks > self.held.threshold

    def texts(self, blocks: IntArray) -> list[str]:
        """The text of each of some blocks."""
        first = self.starts[blocks]
        contexts, begin = self.held.contexts[first], self.held.positions[first]
        end = self.held.positions[first + self.sizes[blocks] - 1] + 1
        pieces = {context: self.view.texts.pieces(context) for context in set(contexts.tolist())}
        return [
            "".join(pieces[context][start:stop])
            for context, start, stop in zip(contexts.tolist(), begin.tolist(), end.tolist(), strict=True)
        ]

    def window(self, block: int, stratum: Stratum, stands_for: float) -> Window:
        """A block that stands for so many like itself."""
        rows = np.arange(self.starts[block], self.starts[block] + self.sizes[block])
        return Window(
            context=int(self.held.contexts[rows[0]]),
            start=int(self.held.positions[rows[0]]),
            stop=int(self.held.positions[rows[-1]]) + 1,
            document=int(self.held.documents[rows[0]]),
            stratum=stratum,
            weight=float(self.weights[block]) * stands_for,
            rows=rows,
            peak=float(self.peaks[block]),
            active=bool(self.active[block]),
        )


def draw_windows(
    view: View,
    held: HeldOut,
    *,
    active: int = 20,
    hard: int = 12,
    common: int = 64,
    others: Sequence[UnitId] = (),
    rank: Rank | None = None,
    seed: int = 0,
    common_seed: int = 0,
) -> Draw:
    """Draw windows of a unit's sample.

    Args:
        view: the split.
        held: the unit's whole sample of it, from `scorers.simulation.held_out`.
        active: active windows beside those that are common; fewer where there are fewer.
        hard: silent windows beside those that are common.
        common: windows that all units share; all of a panel that has fewer.
        others: other units, for hard windows by co-activation; the unit itself is skipped.
        rank: likeness of texts, for hard windows by text. It is given all of the panel's blocks, in an order that all
            units share. With neither `others` nor `rank`, hard windows are drawn from all silent ones.
        seed: with the unit and polarity, decides which active and hard windows are drawn.
        common_seed: decides the common ones, alone.
    """
    blocks = _Blocks.of(view, held)
    rng = generator(seed, held.unit, held.polarity).spawn(1)[0]
    in_panel = np.flatnonzero(blocks.panel)
    shared = in_panel[np.random.default_rng([common_seed, len(in_panel)]).permutation(len(in_panel))[:common]].tolist()
    cells = _active_cells(blocks, shared, active)
    hardest = _hardest_first(blocks, others, rank) if hard else None
    cells += _silent_cells(blocks, shared, hard, rng.permutation(in_panel) if hardest is None else hardest,
                           ranked=hardest is not None)  # fmt: skip
    drawn: dict[int, Stratum] = dict.fromkeys(shared, "common")
    stands_for = np.zeros(len(blocks.starts))
    extra: list[int] = []
    for cell, stratum, wanted in cells:
        free = np.array([block for block in cell.tolist() if block not in drawn], dtype=np.int64)
        there = len(cell) - len(free)
        # No cell must go without, or nothing would stand for it.
        taken = _spread(free, max(wanted, 0 if there else 1), rng).tolist()
        drawn.update(dict.fromkeys(taken, stratum))
        extra += taken
        stands_for[cell] = len(cell) / (there + len(taken))
    order = [*shared, *rng.permutation(np.array(extra, dtype=np.int64)).tolist()]
    return Draw(
        held,
        tuple(blocks.window(block, drawn[block], float(stands_for[block])) for block in order),
        {
            "active": active, "hard": hard, "common": common, "window": view.window,
            "hard by": [name for name, there in (("text", rank is not None), ("co-activation", bool(others))) if there],
        },
    )  # fmt: skip


def thin(
    view: View,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    others: Sequence[UnitId] = (),
    rank: Rank | None = None,
    seed: int = 0,
    common_seed: int = 0,
) -> Sample:
    """A weighted sample of two requests' worth of windows, to choose among rival descriptions on an open split.

    As `SplitView.sample`, with rows window after window, the common ones first.
    """
    draw = draw_windows(
        view, held_out(view, unit, polarity, threshold), active=8, hard=8, common=16, others=others, rank=rank,
        seed=seed, common_seed=common_seed,
    )  # fmt: skip
    part = draw.part
    sign = 1.0 if polarity == "+" else -1.0
    return Sample(
        contexts=part.contexts,
        positions=part.positions,
        values=(sign * part.values).astype(np.float32),
        weights=part.weights.astype(np.float32),
        documents=part.documents,
    )


Cell: TypeAlias = tuple[IntArray, Stratum, int]
"""Blocks among which each is as likely to be drawn, in an order over which to spread; how many to draw."""


def _active_cells(blocks: _Blocks, common: Sequence[int], wanted: int) -> list[Cell]:
    """Active blocks of the panel, and the unit's strongest ones outside it, weakest first."""
    by_peak = np.argsort(blocks.peaks, kind="stable")
    by_peak = by_peak[blocks.active[by_peak]]
    inside, outside = by_peak[blocks.panel[by_peak]], by_peak[~blocks.panel[by_peak]]
    left = len(inside) - int(np.isin(inside, common).sum())
    # A block of the panel stands for many others, one of the strongest for itself: most are taken from the panel.
    n_outside = min(len(outside), max(wanted // 3, wanted - left))
    cells: list[Cell] = [(inside, "active", min(left, wanted - n_outside)), (outside, "active", n_outside)]
    return [cell for cell in cells if len(cell[0])]


def _silent_cells(
    blocks: _Blocks, common: Sequence[int], wanted: int, hardest: IntArray, *, ranked: bool
) -> list[Cell]:
    """The hardest silent blocks of the panel, the hard ones, the rest of them, and those outside the panel.

    Args:
        blocks: all blocks.
        common: those drawn for all units.
        wanted: how many to draw.
        hardest: blocks of the panel in the order of their hardness.
        ranked: False: that order says nothing.
    """
    outside = np.flatnonzero(~blocks.active & ~blocks.panel)
    n_outside = min(len(outside), OTHER_TAIL, wanted)
    wanted -= n_outside
    inside = hardest[~blocks.active[hardest]]
    first = second = 0
    if ranked and wanted:
        # Where the first cell ends depends on no more than which blocks before its end are common, so that those
        # beyond are still a uniform sample of what is beyond.
        free = np.cumsum(~np.isin(inside, common))
        first = int(np.searchsorted(free, wanted - wanted // 2)) + 1
        second = first + int(HARD_SHARE * max(0, len(inside) - first))
    cells: list[Cell] = [
        (inside[:first], "hard", wanted - wanted // 2),
        (inside[first:second], "hard", wanted // 2),
        (inside[second:], "hard", 0 if ranked else wanted),
        (outside, "hard", n_outside),
    ]
    return [cell for cell in cells if len(cell[0])]


def _hardest_first(blocks: _Blocks, others: Sequence[UnitId], rank: Rank | None) -> IntArray | None:
    """All panel blocks, hardest first: by text and by co-activation in turn. None when there is nothing to go by."""
    inside = np.flatnonzero(blocks.panel)
    orders = []
    models = np.flatnonzero(blocks.active)
    if rank is not None and len(models):
        models = models[np.argsort(blocks.peaks[models], kind="stable")]
        models = models[np.linspace(0, len(models) - 1, min(_MODELS, len(models))).astype(np.int64)]
        likeness = rank(blocks.texts(inside), blocks.texts(models))
        orders.append(inside[np.argsort(-np.asarray(likeness), kind="stable")])
    together = _co_activation(blocks, inside, [other for other in others if other != blocks.held.unit])
    if together is not None:
        orders.append(inside[np.argsort(-together, kind="stable")])
    if not orders:
        return None
    in_turn = np.stack(orders, axis=1).ravel().tolist()
    return np.array(list(dict.fromkeys(in_turn)), dtype=np.int64)


def _co_activation(blocks: _Blocks, inside: IntArray, others: Sequence[UnitId]) -> DoubleArray | None:
    """[n_panel_blocks] how strong the units most like this one are in each block; None if nothing is known of any.

    Units are alike when their activations on the panel correlate; a block counts by the largest activation there of
    any of the nearest units, relative to that unit's own largest.
    """
    if not others:
        return None
    sign = 1.0 if blocks.held.polarity == "+" else -1.0
    # Columns of the panel are its positions in the order of the text, as are the sample's rows within it.
    panel = np.maximum(np.float32(sign) * blocks.view.panel_matrix([blocks.held.unit, *others]), 0, dtype=np.float64)
    mean, n = panel.mean(axis=1), panel.shape[1]
    spread = np.sqrt(np.maximum(np.einsum("ui,ui->u", panel, panel) / n - mean * mean, 0))
    live = np.flatnonzero((spread[1:] > 1e-9 * mean[1:]) & (spread[1:] > 0)) + 1
    if not spread[0] or not len(live):
        return None
    correlation = ((panel @ panel[0])[live] - n * mean[live] * mean[0]) / (spread[live] * spread[0])
    nearest = live[np.argsort(-correlation, kind="stable")[:_NEAREST]]
    ends = np.cumsum(blocks.sizes[inside])
    strongest = np.maximum.reduceat(panel[nearest], ends - blocks.sizes[inside], axis=1)
    result: DoubleArray = (strongest / strongest.max(axis=1, keepdims=True)).max(axis=0)
    return result


def _spread(blocks: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """n of the blocks, evenly over their order from a random start: each is as likely as any other."""
    if n >= len(blocks):
        return blocks
    step = len(blocks) / n if n else 0.0
    chosen: IntArray = blocks[np.floor(step * (np.arange(n) + rng.random())).astype(np.int64)]
    return chosen
