"""Which rivals are left standing, and how sure the choice among them is.

Rivals that predict the same activity are one description in several wordings; rivals that predict another one and do
almost as well are disagreement, which is kept. How surely one was chosen is seen by choosing again: documents of the
refine split are drawn anew, and the share of draws in which a rival does best is its selection probability (Efron &
Tibshirani 1993, chapter 9; for sets of explanations arXiv 2512.18092). It says how far the data tell the rivals apart,
not that one of them is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorers.metrics import Comparison
from scorers.types import DoubleArray
from tools.types import IntArray

#: Rivals that agree so far on where the unit is active say the same.
SAME = 0.95
#: Runners-up that are kept beside what is asserted.
KEPT = 2
#: A runner-up that is chosen less often is none.
LEAST = 0.01
#: Draws of documents.
RESAMPLES = 500
#: Differences of F1 that are rounding.
_TIE = 1e-12


@dataclass(frozen=True)
class Standing:
    """One of the descriptions that are left, and the rivals that say the same."""

    rival: int
    """Its number among the rivals."""
    selection: float
    """Share of the resamples in which it, or one that says the same, does best; ties are shared evenly."""
    agreement: float | None
    """How far it agrees with what is asserted on where the unit is active; None where nothing was predicted."""
    same: tuple[int, ...] = ()
    """Numbers of the rivals that say the same."""


def agreement(one: Comparison, other: Comparison) -> float:
    """How far two predictions of the same positions agree on where the unit is active, from 0 to 1.

    The weighted Jaccard index of the positions that each predicts to be active: those of both, of those of either.
    Where both predict silence they agree without saying much, for that is nearly everywhere; such positions are left
    out. Two that predict no activity at all say the same.
    """
    either = float(one.weights[one.predicted | other.predicted].sum())
    both = float(one.weights[one.predicted & other.predicted].sum())
    return both / either if either > 0 else 1.0


def selection_probabilities(
    comparisons: Sequence[Comparison | None], documents: IntArray, *, seed: int, resamples: int = RESAMPLES
) -> DoubleArray:
    """Share of resamples in which each rival has the highest F1, [rival]; ties are shared evenly.

    Args:
        comparisons: Of each rival with the unit, all on the same n positions; None for one that predicts nothing,
            which is chosen only where nobody predicts anything.
        documents: Document of each position, [n]; whole documents are drawn.
        seed: Of the draws.
        resamples: Number of draws.
    """
    known = [(i, one) for i, one in enumerate(comparisons) if one is not None]
    shares = np.zeros(len(comparisons))
    if not known:
        return shares + 1 / len(comparisons)
    values = resampled_f1([one for _, one in known], documents, seed=seed, resamples=resamples)
    best = values >= values.max(0) - _TIE
    shares[[i for i, _ in known]] = (best / best.sum(0)).mean(1)
    return shares


def resampled_f1(
    comparisons: Sequence[Comparison], documents: IntArray, *, seed: int, resamples: int = RESAMPLES
) -> DoubleArray:
    """F1 of each rival when whole documents are drawn anew, the same for all, [rival, resample]; 0 where undefined."""
    _, document = np.unique(documents, return_inverse=True)
    n = int(document.max()) + 1
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    rows = []
    for one in comparisons:
        parts = (one.active & one.predicted, one.active, one.predicted)
        both, active, predicted = (counts @ np.bincount(document, one.weights * part, n) for part in parts)
        either = active + predicted
        rows.append(np.divide(2 * both, either, out=np.zeros(resamples), where=either > 0))
    return np.stack(rows)


def standings(
    comparisons: Sequence[Comparison | None], documents: IntArray, order: Sequence[int], *, seed: int
) -> list[Standing]:
    """What is left of the rivals: what is asserted, then at most `KEPT` runners-up that say something else.

    Args:
        comparisons: Of each rival with the unit on the refine split, on the same n positions; None for one that
            predicts nothing, or was not asked.
        documents: Document of each position, [n].
        order: Numbers of all rivals, the one that is asserted first, then from the best on.
        seed: Of the draws.
    """
    first = comparisons[order[0]]
    shares = (
        selection_probabilities(comparisons, documents, seed=seed)
        if len(documents)
        else np.eye(len(comparisons))[order[0]]
    )
    groups: list[list[int]] = []
    for rival in order:
        own = comparisons[rival]
        home = next((group for group in groups if _same(comparisons[group[0]], own)), None)
        if home is None:
            groups.append([rival])
        else:
            home.append(rival)
    found = [
        Standing(
            rival=group[0],
            selection=float(shares[group].sum()),
            agreement=None if first is None or (own := comparisons[group[0]]) is None else agreement(first, own),
            same=tuple(sorted(group[1:])),
        )
        for group in groups
    ]
    runners_up = [one for one in found[1:] if one.selection >= LEAST]
    return [found[0], *runners_up[:KEPT]]


def _same(one: Comparison | None, other: Comparison | None) -> bool:
    return one is not None and other is not None and agreement(one, other) >= SAME
