"""Which examples a language model is shown, and how they are written.

Everything here looks at the explore split only. An excerpt is a window of tokens with magnitudes: the activation on the
polarity that is explained, 0 where it has the other sign. So '-' is shown by the size of its negative tail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from explainers.llm import show
from explainers.types import Evidence
from tools.types import Example, FloatArray, IntArray

WINDOW = 24
"""Tokens shown of each text: two thirds before the position that it is shown for, the rest from it on."""
MOST_CHARACTERS = 320
"""Of one excerpt; tokens at its ends that go beyond are left out."""
MOST_LEVELS = 6
"""Levels listed below a text: those of its strongest tokens."""
MOST = 64
"""Strongest examples that the index is asked for."""


@dataclass(frozen=True)
class Excerpt:
    """A window of one context."""

    context: int
    start: int
    """Position of its first token."""
    peak: int
    """Which of its tokens it is shown for."""
    pieces: tuple[str, ...]
    magnitudes: tuple[float, ...]

    @property
    def strength(self) -> float:
        """Magnitude at the peak."""
        return self.magnitudes[self.peak]

    @property
    def strongest(self) -> float:
        """The largest magnitude of its tokens."""
        return max(self.magnitudes)

    @property
    def place(self) -> tuple[int, int, int]:
        """Context, first position and the position after the last, for the record."""
        return self.context, self.start, self.start + len(self.pieces)


@dataclass(frozen=True)
class Line:
    """An excerpt as a prompt shows it."""

    text: str
    levels: str
    """Such as '«ing»=7, «er»=3'; empty when no token is active."""
    tokens: tuple[tuple[str, float], ...]
    """Each token as shown, with its magnitude."""


def from_example(example: Example, sign: float) -> Excerpt:
    """An example of the index on one polarity."""
    magnitudes = tuple(max(0.0, sign * float(value)) for value in example.activations)
    return Excerpt(example.context, example.start, example.peak, example.tokens, magnitudes)


class Panel:
    """The panel of the explore split as one tail of a unit sees it."""

    def __init__(self, evidence: Evidence) -> None:
        view = evidence.explore
        self.texts = view.texts
        self.contexts, self.positions = view.panel_index
        self.magnitudes: FloatArray = np.maximum(view.panel_matrix([evidence.unit])[0] * np.float32(evidence.sign), 0)

    def excerpt(self, row: int, window: int = WINDOW) -> Excerpt:
        """The window around a panel position."""
        context, position = int(self.contexts[row]), int(self.positions[row])
        pieces = self.texts.pieces(context)
        first, last = np.searchsorted(self.contexts, [context, context + 1])
        known = np.zeros(len(pieces), np.float32)
        known[self.positions[first:last]] = self.magnitudes[first:last]
        start = max(1, min(position - 2 * window // 3, len(pieces) - window))
        stop = min(start + window, len(pieces))
        return Excerpt(context, start, position - start, tuple(pieces[start:stop]), tuple(known[start:stop].tolist()))

    def peaks(self, threshold: float, window: int = WINDOW) -> IntArray:
        """Rows of the strongest position of each active block of `window` tokens, weakest first."""
        rows = np.flatnonzero(self.magnitudes > threshold)
        rows = rows[np.argsort(self.magnitudes[rows], kind="stable")]
        blocks = (
            self.contexts[rows] * (int(self.positions.max(initial=0)) // window + 1) + self.positions[rows] // window
        )
        _, last = np.unique(blocks[::-1], return_index=True)
        peaks: IntArray = rows[np.sort(len(rows) - 1 - last)]
        return peaks


def strongest(evidence: Evidence, n: int = MOST, window: int = WINDOW) -> list[Excerpt]:
    """The unit's strongest texts, strongest first, each of another document and none twice.

    Active ones; where none is active in this split, those that are above zero.
    """
    kind: Literal["top", "bottom"] = "top" if evidence.sign > 0 else "bottom"
    found = [from_example(e, evidence.sign) for e in evidence.explore.examples(evidence.unit, kind, MOST, window)]
    active = [e for e in found if e.strength > evidence.threshold] or [e for e in found if e.strength > 0]
    return distinct(active)[:n]


def over_the_tail(
    evidence: Evidence, n: int, window: int = WINDOW, *, tops: Sequence[Excerpt] | None = None, without: int = 0
) -> list[Excerpt]:
    """Active texts at evenly spaced quantiles of the tail, strongest first (Paulo et al. 2024, arXiv 2410.13928).

    The tail is the distribution, over the corpus, of the strongest activation in each active block of `window` tokens.
    A block of the panel stands for as many as its weight says and a strongest example for itself, so that the
    quantiles are those of the corpus, not of the sample.

    Args:
        evidence: Of the unit.
        n: How many at most.
        window: Tokens of each.
        tops: All of `strongest`, where they are known already.
        without: How many of these are shown already.
    """
    panel = Panel(evidence)
    tops = strongest(evidence, window=window) if tops is None else tops
    known = {e.context: e.start + e.peak for e in tops}
    rows = [
        int(row)
        for row in panel.peaks(evidence.threshold, window)
        if abs(known.get(int(panel.contexts[row]), -window) - int(panel.positions[row])) >= window
    ]
    weight = float(evidence.explore.sample(evidence.unit).weights.max(initial=1.0))
    pool: list[tuple[float, float, Excerpt | int]] = [(e.strength, 1.0, e) for e in tops[without:]]
    pool += [(float(panel.magnitudes[row]), weight, row) for row in rows]
    pool.sort(key=lambda item: item[0])
    chosen = [pool[i][2] for i in _at_quantiles([w for _, w, _ in pool], n)]
    return distinct(e if isinstance(e, Excerpt) else panel.excerpt(e, window) for e in reversed(chosen))


def _at_quantiles(weights: Sequence[float], n: int) -> list[int]:
    """Indices at n evenly spaced quantiles of a weighted, sorted list; none twice, all of it when it is short."""
    if len(weights) <= n:
        return list(range(len(weights)))
    reach = np.cumsum(weights)
    chosen: list[int] = []
    for number, at in enumerate(np.searchsorted(reach, (np.arange(n) + 0.5) / n * reach[-1]).tolist()):
        lowest, highest = (chosen[-1] + 1 if chosen else 0), len(weights) - (n - number)
        chosen.append(min(max(at, lowest), highest))
    return chosen


def distinct(excerpts: Iterable[Excerpt]) -> list[Excerpt]:
    """Excerpts whose tokens differ, in their order: a text that many documents quote is shown once."""
    kept: dict[tuple[str, ...], Excerpt] = {}
    for excerpt in excerpts:
        kept.setdefault(excerpt.pieces, excerpt)
    return list(kept.values())


def scale_of(excerpts: Iterable[Excerpt]) -> float:
    """The magnitude that is level 10: the largest of all that is shown; 0 when nothing is active."""
    return max((e.strongest for e in excerpts), default=0.0)


def line(excerpt: Excerpt, scale: float, threshold: float) -> Line:
    """An excerpt as a prompt shows it: active tokens marked, the strongest of them with their levels.

    Active is what is above the threshold; in a text where nothing is, the peak, if it is above zero.
    """
    excerpt = _shortened(excerpt)
    marked = [t for t, value in enumerate(excerpt.magnitudes) if value > threshold]
    if not marked and excerpt.strength > 0:
        marked = [excerpt.peak]
    listed = sorted(sorted(marked, key=lambda t: -excerpt.magnitudes[t])[:MOST_LEVELS])
    tokens = [(show.shown(piece), value) for piece, value in zip(excerpt.pieces, excerpt.magnitudes, strict=True)]
    levels = listing((tokens[t][0], show.level(tokens[t][1], scale)) for t in listed)
    return Line(show.show(excerpt.pieces, marked).text, levels, tuple(tokens))


def listing(levels: Iterable[tuple[str, int]]) -> str:
    """Tokens as shown with their levels: '«ing»=7, «er»=3'."""
    return ", ".join(f"{show.MARKS[0]}{piece}{show.MARKS[1]}={level}" for piece, level in levels)


def plain(excerpt: Excerpt) -> str:
    """An excerpt's text without any mark."""
    return show.show(_shortened(excerpt).pieces).text


def _shortened(excerpt: Excerpt) -> Excerpt:
    """Tokens around the peak of which at most `MOST_CHARACTERS` are shown."""
    lengths = [len(show.shown(piece)) for piece in excerpt.pieces]
    first, last = 0, len(lengths)
    while sum(lengths[first:last]) > MOST_CHARACTERS and last - first > 1:
        if last - excerpt.peak - 1 > (excerpt.peak - first) // 2:
            last -= 1
        else:
            first += 1
    if (first, last) == (0, len(lengths)):
        return excerpt
    return Excerpt(
        excerpt.context, excerpt.start + first, excerpt.peak - first, excerpt.pieces[first:last],
        excerpt.magnitudes[first:last],
    )  # fmt: skip
