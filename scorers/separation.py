"""Which of many units tell two sets of texts apart, with the false-discovery rate kept and no winner's curse.

Units are chosen on one half of the texts, by a one-sided Mann-Whitney test of their responses and Benjamini-Hochberg
over all units and both tails; what is reported of those chosen comes from the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scorers.error_rates import benjamini_hochberg
from scorers.errors import ScorerError
from scorers.types import DoubleArray
from tools.types import BoolArray, FloatArray

LEAST = 8
"""Texts of each kind that are needed: with four of each in a half no p-value is smaller than 1/70."""


@dataclass(frozen=True)
class Separation:
    """One chosen unit (by its row) and tail."""

    row: int
    polarity: str
    q_value: float
    """Of the choice, over all units and both tails."""
    auroc: float
    """On the other half: how often a positive text has the larger response."""
    low: float
    """95 % interval (Hanley & McNeil 1982)."""
    high: float
    p_value: float
    """On the other half, one-sided."""
    confirmed: bool
    """Whether it is separated there too, Benjamini-Hochberg over those chosen."""
    mean_positive: float
    """Mean response to the other half's positive texts."""
    mean_negative: float


def auroc(positive: DoubleArray, negative: DoubleArray) -> DoubleArray:
    """[..., unit] share of pairs in which the positive text responds more, ties counting half.

    Args:
        positive: [unit, positive texts].
        negative: [unit, negative texts].
    """
    ranks = stats.rankdata(np.concatenate([positive, negative], -1), axis=-1)
    n, m = positive.shape[-1], negative.shape[-1]
    found: DoubleArray = (ranks[..., :n].sum(-1) - n * (n + 1) / 2) / (n * m)
    return found


def _interval(value: float, n: int, m: int) -> tuple[float, float]:
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + (n - 1) * (q1 - value**2) + (m - 1) * (q2 - value**2)) / (n * m)
    reach = 1.96 * max(variance, 0.25 / (n * m)) ** 0.5
    return max(0.0, value - reach), min(1.0, value + reach)


def separating(
    high: FloatArray, low: FloatArray, positive: BoolArray, *, alpha: float = 0.05, seed: int = 0
) -> list[Separation]:
    """Units whose responses to positive texts are larger, best first.

    Args:
        high: [unit, text] responses of the positive tail.
        low: [unit, text] responses of the negative one.
        positive: [text] which texts are positive.
        alpha: False-discovery rate of the choice, and of the confirmation.
        seed: Of the halves.

    Raises:
        ScorerError: There are too few texts of a kind.
    """
    counts = int(positive.sum()), int((~positive).sum())
    if min(counts) < LEAST:
        raise ScorerError(
            f"Telling sets of texts apart needs at least {LEAST} of each; there are {counts[0]} positive and "
            f"{counts[1]} negative ones."
        )
    rng = np.random.default_rng(seed)
    first = np.zeros(len(positive), dtype=bool)
    for kind in (positive, ~positive):
        own = rng.permutation(np.flatnonzero(kind))
        first[own[: (len(own) + 1) // 2]] = True
    tails = [tail.astype(np.float64) for tail in (high, low)]
    p_first = np.stack([_p(tail[:, first & positive], tail[:, first & ~positive]) for tail in tails])
    q = benjamini_hochberg(p_first.ravel()).reshape(p_first.shape)
    chosen = [(int(tail), int(row)) for tail, row in zip(*np.nonzero(q <= alpha), strict=True)]
    if not chosen:
        return []
    second = ~first
    p_second, values = [], []
    for tail, row in chosen:
        a, b = tails[tail][row, second & positive], tails[tail][row, second & ~positive]
        p_second.append(float(_p(a[None], b[None])[0]))
        values.append((float(auroc(a[None], b[None])[0]), float(a.mean()), float(b.mean())))
    kept = benjamini_hochberg(np.array(p_second)) <= alpha
    n, m = int((second & positive).sum()), int((second & ~positive).sum())
    found = [
        Separation(
            row, "+-"[tail], float(q[tail, row]), value, *_interval(value, n, m), p, bool(ok), above, below
        )
        for (tail, row), (value, above, below), p, ok in zip(chosen, values, p_second, kept, strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (not one.confirmed, -one.auroc, one.p_value, one.row))


def _p(positive: DoubleArray, negative: DoubleArray) -> DoubleArray:
    """One-sided Mann-Whitney p-values, [unit]; 1 where nothing varies."""
    varies = np.ptp(np.concatenate([positive, negative], -1), axis=-1) > 0
    p = np.ones(len(positive))
    if varies.any():
        test = stats.mannwhitneyu(positive[varies], negative[varies], alternative="greater", axis=-1)
        p[varies] = test.pvalue
    return p
