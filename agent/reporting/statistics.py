"""The few statistics of a campaign's report, each exact where there is an exact one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

_Array = npt.NDArray[np.float64]

#: Permutations and bootstrap resamples behind the report's own p-values and intervals.
RESAMPLES = 2_000
#: Permutations or resamples that are held in memory at once.
_CHUNK = 100


@dataclass(frozen=True)
class Share:
    """A share of a whole with its exact 95 % interval."""

    count: int
    total: int
    value: float | None
    """None when the whole is empty."""
    low: float | None
    high: float | None


def share_of(count: int, total: int, confidence: float = 0.95) -> Share:
    """`count` of `total` with the interval of Clopper and Pearson (1934), which covers at least as often as it says."""
    if total == 0:
        return Share(0, 0, None, None, None)
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(stats.beta.isf(tail, count + 1, total - count))
    return Share(count, total, count / total, low, high)


def excess_p(count: int, total: int, rate: float) -> float:
    """One-sided exact binomial p-value of at least `count` of `total` when each happens with probability `rate`."""
    return float(stats.binom.sf(count - 1, total, rate))


def fewest_in_excess(total: int, rate: float, level: float) -> int:
    """The smallest count of `total` whose `excess_p` does not exceed `level`; ``total + 1`` when no count does."""
    # One of one at a rate of exactly the level is in excess, rounding or not.
    return next((n for n in range(total + 1) if excess_p(n, total, rate) <= level * (1 + 1e-9)), total + 1)


@dataclass(frozen=True)
class Separation:
    """How well a score tells real claims from controls."""

    auc: float
    """Probability that a real claim scores above a control, ties counting one half (Hanley & McNeil 1982)."""
    low: float
    high: float
    p_value: float
    """One-sided, from permuting which units are controls."""
    least_p: float
    """The smallest p-value that so many units allow."""


def separation(
    values: Sequence[float], control: Sequence[bool], units: Sequence[Hashable], *, seed: int = 0
) -> Separation | None:
    """Area under the ROC curve of real claims against controls; None when there are none of one sort.

    The claims of one unit (its two tails) move together, in the permutations as in the bootstrap behind the interval.

    Args:
        values: the score of each claim, [n].
        control: whether it is a control, [n].
        units: which unit it belongs to, [n].
        seed: of the resampling.
    """
    scores, is_control = np.asarray(values, dtype=np.float64), np.asarray(control, dtype=bool)
    if not len(scores) or is_control.all() or not is_control.any():
        return None
    _, unit = np.unique([str(one) for one in units], return_inverse=True)
    n_units = int(unit.max()) + 1
    unit_is_control = np.zeros(n_units, dtype=bool)
    unit_is_control[unit] = is_control
    ranks = stats.rankdata(scores)
    generator = np.random.default_rng(seed)
    observed = float(_auc(ranks, ~is_control[None])[0])
    reached = 0
    for start in range(0, RESAMPLES, _CHUNK):
        rows = min(_CHUNK, RESAMPLES - start)
        shuffled = generator.permuted(np.tile(unit_is_control, (rows, 1)), axis=1)
        reached += int((_auc(ranks, ~shuffled[:, unit]) >= observed - 1e-9).sum())
    low, high = _auc_interval(scores, unit, unit_is_control, generator)
    arrangements = float(special.comb(n_units, int(unit_is_control.sum())))
    least = max(1 / (1 + RESAMPLES), 1 / arrangements)
    return Separation(observed, low, high, max(least, (1 + reached) / (1 + RESAMPLES)), least)


def _auc(ranks: _Array, real: npt.NDArray[np.bool_]) -> _Array:
    """Area under the curve for each row of a mask [k, n] over ranks [n] (the Mann-Whitney statistic)."""
    n_real = real.sum(axis=1)
    n_control = real.shape[1] - n_real
    pairs = np.maximum(n_real * n_control, 1)
    return np.asarray((real @ ranks - n_real * (n_real + 1) / 2) / pairs, dtype=np.float64)


def _auc_interval(
    scores: _Array, unit: npt.NDArray[np.intp], unit_is_control: npt.NDArray[np.bool_], generator: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval from resampling real units and control units, each among themselves."""
    order = np.argsort(scores, kind="stable")
    ordered, unit = scores[order], unit[order]
    first, after = np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right")
    is_control = unit_is_control[unit]
    drawn: list[float] = []
    for start in range(0, RESAMPLES, _CHUNK):
        n = min(_CHUNK, RESAMPLES - start)
        times = np.zeros((n, len(unit_is_control)))
        for group in (np.flatnonzero(~unit_is_control), np.flatnonzero(unit_is_control)):
            times[:, group] = _times_drawn(len(group), n, generator)
        weights = times[:, unit]
        controls, real = np.where(is_control, weights, 0), np.where(is_control, 0, weights)
        # Weight of the controls before each place in the order: below its ties, and with them.
        before = np.concatenate([np.zeros((n, 1)), np.cumsum(controls, axis=1)], axis=1)
        won = (real * (before[:, first] + before[:, after]) / 2).sum(axis=1)
        drawn += (won / (real.sum(axis=1) * controls.sum(axis=1))).tolist()
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def _times_drawn(size: int, resamples: int, generator: np.random.Generator) -> _Array:
    """How often each of `size` things is drawn when as many are, with replacement, [resamples, size]."""
    drawn = generator.integers(0, size, (resamples, size)) + size * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * size)
    return counts.reshape(resamples, size).astype(np.float64)


@dataclass(frozen=True)
class Mean:
    """A mean over units with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Units."""


def unit_mean(values: Sequence[float], units: Sequence[Hashable]) -> Mean | None:
    """Mean over units of each unit's mean, with Student's interval; None when there are no values.

    A single unit tells nothing about the spread: its interval is the whole line.

    Args:
        values: one a claim, [n].
        units: which unit each belongs to, [n].
    """
    if not values:
        return None
    _, unit = np.unique([str(one) for one in units], return_inverse=True)
    means = np.bincount(unit, weights=np.asarray(values, dtype=np.float64)) / np.bincount(unit)
    mean, n = float(means.mean()), len(means)
    half = np.inf if n == 1 else float(stats.t.isf(0.025, n - 1) * means.std(ddof=1) / np.sqrt(n))
    return Mean(mean, mean - half, mean + half, n)


def percentile_in(value: float, distribution: Sequence[float]) -> float | None:
    """Share of a distribution below a value, ties counting one half; None when it is empty."""
    if not distribution:
        return None
    below = sum(1.0 if one < value else 0.5 if one == value else 0.0 for one in distribution)
    return below / len(distribution)


def histogram(values: Sequence[float], bins: int, low: float = 0.0, high: float = 1.0) -> list[int]:
    """Counts in `bins` equal bins of [low, high]; values beyond an end count in the bin at that end."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), low, high)
    return [int(n) for n in np.histogram(clipped, bins=bins, range=(low, high))[0]]
