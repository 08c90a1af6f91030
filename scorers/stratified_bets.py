"""Betting on whether an F1 lies above a bar, from documents with activity and documents without.

*Linear.* With weighted totals TP, FP, FN and f a bar, F1 > f says 2(1 - f) TP - f FN - f FP > 0. Corrected for chance,
F1 > f + (1 - f) c with c = 2 a P / (A + P) (share a of positions active, A active, P predicted) says
2(1 - f)(1 - a) TP - f FN - (f + 2(1 - f) a) FP > 0; its f = 0 is "better than chance". So each bar is a statement about
the mean over documents of a sum over the document's positions, and documents can be betted on (`scorers.e_values`).
What is known for certain (the strongest blocks, which stand for themselves) shifts the bar.

*Two strata.* Let the share s1 of the documents hold activity and s0 none: the null says s1 m1 + s0 m0 + shift <= 0 for
the strata's means m1 and m0. Whatever m0 is, betting against m1 <= -(shift + s0 m0) / s1 on the one stratum and against
m0 on the other gives an e-process: their product, in whatever order documents come. The smallest over m0 therefore
holds against the whole null. It is bounded from below on a grid of m0: in each cell, the first factor is taken at the
end where it is smallest, and so is the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from scorers.e_values import STAKES, log_growth, mixed
from scorers.types import DoubleArray

#: Cells of the grid over the mean of documents without activity.
CELLS: Final = 24
#: Documents are taken to hold at most so many false alarms, or as many as the fullest document holds activity.
CAP_LEAST: Final = 4.0
#: Largest e-value given; beyond it, numbers say nothing more.
LARGEST: Final = 1e100

ACTIVE, SILENT = 0, 1
"""The strata: documents that hold activity, and those that hold none."""


@dataclass(frozen=True)
class Bar:
    """What a hit brings, and what a miss and a false alarm cost, where the balance is zero at the bar."""

    hit: float
    miss: float
    false_alarm: float

    @classmethod
    def plain(cls, f1: float) -> Bar:
        """F1 itself is above `f1`."""
        return cls(2 * (1 - f1), f1, f1)

    @classmethod
    def corrected(cls, f1: float, density: float) -> Bar:
        """F1, corrected for chance, is above `f1`; `density` is the share of positions active."""
        return cls(2 * (1 - f1) * (1 - density), f1, f1 + 2 * (1 - f1) * density)

    def balance(self, counts: DoubleArray) -> DoubleArray:
        """Of (hits, misses, false alarms) [..., 3]."""
        result: DoubleArray = counts @ np.array([self.hit, -self.miss, -self.false_alarm])
        return result


@dataclass(frozen=True)
class Design:
    """What is known of the documents before any is asked for."""

    activity: tuple[float, ...]
    """Active positions of each document that holds any; at least one does."""
    silent: int
    """Number of documents that hold none."""

    @property
    def documents(self) -> tuple[int, int]:
        """How many are in each stratum."""
        return len(self.activity), self.silent

    @property
    def fullest(self) -> float:
        """Active positions in the document that holds most."""
        return max(self.activity)

    def creditable(self, share: float) -> tuple[float, float]:
        """Hits of a document that are counted at most, and how many more there could be in a document on average.

        A few full documents would make every bet against an F1 timid: all their activity might be hits. Hits beyond K
        are not counted, and the null's mean is raised by as many as there could be, the mean of max(0, activity - K).
        K is best for a description that hits nothing and thereby gains `share` of a hit for each active position.
        """
        activity = np.array(self.activity)
        candidates = np.unique(activity)
        beyond = np.maximum(activity - candidates[:, None], 0).mean(axis=1)
        best = int(((share * activity.mean() - beyond) / candidates).argmax())
        return float(candidates[best]), float(beyond[best])

    @property
    def cap(self) -> float:
        """False alarms that a document is taken to hold at most."""
        return max(CAP_LEAST, self.fullest)

    @property
    def shares(self) -> tuple[float, float]:
        n = sum(self.documents)
        return self.documents[ACTIVE] / n, self.documents[SILENT] / n


class Bet:
    """The e-process against "the balance is at most zero" (side 1), or against "at least zero" (side -1).

    Args:
        bar: whose balance.
        side: 1 or -1.
        design: the documents.
        certain: [3] hits, misses and false alarms known for certain, as multiples of what a document would have to hold
            on average to make up for them: totals / (weight of a panel position x panel documents).
        cap: false alarms that a document is taken to hold at most; the design's own where it is None. A document's
            length is a bound without any assumption, and good enough against chance, where a false alarm costs little.
    """

    def __init__(self, bar: Bar, side: int, design: Design, certain: DoubleArray, *, cap: float | None = None) -> None:
        self.bar, self.side, self.design = bar, side, design
        self.cap = design.cap if cap is None else cap
        shares = design.shares
        shift = side * float(bar.balance(certain))
        if side > 0:
            # False alarms are all that a document without activity can hold, and they count against.
            worst = bar.false_alarm * self.cap
            self.lower = (-bar.miss * design.fullest - worst, -worst)
            edges = np.append(-worst * np.geomspace(1, 0.01, CELLS), 0.0)
            self.most_hits, beyond = np.inf, 0.0
        else:
            self.most_hits, beyond = design.creditable(bar.miss / bar.hit if bar.hit else 1.0)
            self.lower = (-bar.hit * self.most_hits, 0.0)
            shift -= bar.hit * beyond * shares[ACTIVE]
            # With more false alarms than this, the null could not be true whatever the active documents held.
            most = (-self.lower[ACTIVE] * shares[ACTIVE] - shift) / max(shares[SILENT], 1e-12)
            edges = np.append(0.0, max(most, 0.0) * np.geomspace(0.01, 1, CELLS))
        if not shares[SILENT]:
            edges = np.zeros(2)
        self.nulls = (-(shift + shares[SILENT] * edges[:-1]) / shares[ACTIVE], edges[1:])
        self.wealth: tuple[DoubleArray, DoubleArray] = (
            np.zeros((len(edges) - 1, len(STAKES))),
            np.zeros((len(edges) - 1, len(STAKES))),
        )
        self.seen = [0, 0]

    def add(self, stratum: int, counts: DoubleArray) -> None:
        """Documents [n, 3] of one stratum: hits, misses and false alarms."""
        most_false = self.cap if self.side > 0 else np.inf
        counts = np.minimum(counts, np.array([self.most_hits, np.inf, most_false]))
        values = self.side * self.bar.balance(counts)
        self.wealth[stratum][:] += log_growth(values, self.nulls[stratum], self.lower[stratum]).sum(axis=0)
        self.seen[stratum] += len(counts)

    def _log(self) -> tuple[DoubleArray, DoubleArray]:
        return mixed(self.wealth[ACTIVE]), mixed(self.wealth[SILENT])

    @property
    def e_value(self) -> float:
        """The e-process now; at most `LARGEST`."""
        active, silent = self._log()
        return min(LARGEST, float(np.exp(min((active + silent).min(), 2 + np.log(LARGEST)))))

    def growth(self) -> tuple[float, float]:
        """Mean growth (log) that a document of each stratum has brought where the null resists most; `inf` before any
        was seen."""
        active, silent = self._log()
        worst = int((active + silent).argmin())
        return tuple(
            float(log[worst]) / seen if seen else np.inf for log, seen in zip((active, silent), self.seen, strict=True)
        )  # type: ignore[return-value]


def confidence_sequence(
    bars: Sequence[Bar], design: Design, certain: DoubleArray, seen: tuple[DoubleArray, DoubleArray], *, enough: float
) -> tuple[int | None, int | None]:
    """Which of ascending bars are excluded from either end.

    Args:
        bars: ascending.
        design: the documents.
        certain: as in `Bet`.
        seen: the documents asked for in each stratum, [n, 3].
        enough: e-value at which a bar is excluded; 2/alpha gives a sequence of level 1 - alpha, whenever one looks.

    Returns:
        The last bar from the bottom such that it and all below are excluded as upper bounds, and the first from the top
        such that it and all above are excluded as lower bounds; None where not even the outermost is.
    """

    def excluded(bar: Bar, side: int) -> bool:
        bet = Bet(bar, side, design, certain)
        for stratum in (ACTIVE, SILENT):
            bet.add(stratum, seen[stratum])
        return bet.e_value >= enough

    low = high = None
    for at in range(len(bars)):
        if not excluded(bars[at], 1):
            break
        low = at
    for at in reversed(range(len(bars))):
        if not excluded(bars[at], -1):
            break
        high = at
    return low, high
