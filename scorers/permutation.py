"""What a metric would be by chance: nulls that keep the autocorrelation of text, and p-values against them.

*Rotation* (the p-value of a score). Activations come in runs and so do predictions; shuffling tokens would destroy the
runs and make chance agreement look rarer than it is. So the predictions are rotated as a whole against the
activations, over all sampled positions in the order of the text: under the hypothesis that a description has nothing
to do with its unit, every rotation is as likely as none (circular shift test). *All* rotations are evaluated, save
those shorter than a context, at which a prediction still overlaps its own surroundings: the totals behind a metric are
circular cross-correlations, which the fast Fourier transform gives for all rotations at once. So the p-value is not a
matter of luck and resolves 1/n, about 4e-5.

*Maximum*. Where the best of several settings is reported (of steering strengths, layers, predictors), its null is the
maximum over the same settings under the same shuffles (`max_null`).

*Pairing*. A description of something that many units share (the end of a line) beats the rotation null with ease. The
same predictions are therefore compared with other units of the group, on the random panel, where all units'
activations are known: is this description better for its own unit than for others? To compare like with like, each
other unit's threshold is set such that as many positions are active as for the described unit. With K units the
p-value cannot go below 1/(K+1); `pooled_p_values` pools the draws of a campaign, within `density_strata`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft

from scorers.errors import ScorerError
from scorers.metrics import (
    ACTIVATION,
    ACTIVATION2,
    ACTIVE,
    BOTH,
    N_SUMS,
    PREDICTED,
    PREDICTION,
    PREDICTION2,
    PRODUCT,
    WEIGHT,
    Comparison,
    Metric,
    Totals,
)
from scorers.types import DoubleArray, Null
from tools.types import BoolArray, IntArray

#: Ranking metrics are evaluated on at most this many levels of predicted values under a null.
MAX_LEVELS: Final = 64
#: With fewer rotations or units than this no p-value could reach 0.05, and a null says nothing.
MIN_DRAWS: Final = 19
#: More rotations than this are thinned evenly, so that memory stays below some 20 MB per array of levels.
MAX_ROTATIONS: Final = 32_768
#: Up to so many predicted values, rotations are added up over the values, which takes fewer transforms.
FEW_LEVELS: Final = 8
#: Other units evaluated together.
_UNITS: Final = 64

ComplexArray: TypeAlias = npt.NDArray[np.complex128]
Activations: TypeAlias = npt.NDArray[np.floating[Any]]
"""Of the index (float32) or computed."""


def rotation_null(metrics: Sequence[Metric], comparison: Comparison, *, shortest: int) -> dict[str, Null]:
    """Compare each metric with its value under all rotations of the predictions.

    Args:
        metrics: names are the keys of the result.
        comparison: positions in the order of the text.
        shortest: rotations by fewer positions, either way, are left out; the length of a context. At most a twentieth
            of the positions: leaving out many would let the p-value be too small.

    Returns:
        Nulls of the metrics that are defined. Empty when fewer than `MIN_DRAWS` rotations remain.
    """
    n = len(comparison.weights)
    margin = max(1, min(shortest, n // 20))
    shifts = np.arange(margin, n - margin + 1)
    if len(shifts) < MIN_DRAWS:
        return {}
    if len(shifts) > MAX_ROTATIONS:
        shifts = shifts[np.linspace(0, len(shifts) - 1, MAX_ROTATIONS).astype(np.int64)]
    ranked = any(metric.ranked for metric in metrics)
    observed = _observed(comparison, ranked=ranked)
    rotated = _rotated(comparison, shifts, ranked=ranked)
    return {
        metric.name: Null.of("rotation", float(metric.values(observed)), metric.values(rotated))
        for metric in metrics
        if metric.reason(observed) is None
    }


def max_null(observed_max: float, draws_by_setting: DoubleArray | Sequence[Sequence[float]]) -> Null:
    """The null of a maximum over settings: the maximum of the null draws, shuffle by shuffle.

    A best-of-six compared with the null of a single setting is called real far too often: at a base rate of 30 % the
    best of six multipliers with fifty continuations each has a null mean of 0.12, not 0 (Westfall & Young 1993, on
    min-P and max-T; the trap is FADE's faithfulness, arXiv 2502.16994).

    Args:
        observed_max: the largest statistic over the settings.
        draws_by_setting: [settings, draws] of the same statistic. Column k must come from the same shuffle or rotation
            in every setting, so that settings are as alike under the null as they are in the data. A draw that is
            undefined (NaN) in one setting leaves the maximum to the others.

    Returns:
        A null named 'max'.

    Raises:
        ScorerError: no settings or no draws.
    """
    draws = np.asarray(draws_by_setting, dtype=np.float64)
    if draws.ndim != 2 or not draws.size:
        raise ScorerError(f"The null of a maximum needs draws of shape [settings, draws], not {draws.shape}.")
    least = np.where(np.isnan(draws), -np.inf, draws).max(axis=0)
    return Null.of("max", observed_max, np.where(np.isinf(least), np.nan, least))


def pairing_null(
    metrics: Sequence[Metric],
    comparison: Comparison,
    others: Activations,
    *,
    weighted: bool = False,
) -> dict[str, Null]:
    """Compare each metric with its value when the same predictions are held against other units.

    Args:
        metrics: names are the keys of the result.
        comparison: the described unit on the random panel.
        others: [units, n] activations of other units at the same positions, times the polarity's sign.
        weighted: whether weights count. On the whole panel they do not: each of its positions stands for the same
            number of the corpus's. On a part of it, chosen by the described unit's activity, they must.

    Returns:
        Nulls of the metrics that are defined, with their draws. Units that are active at fewer than half as many
        positions as the described one cannot be matched and are left out. Empty when the described unit is active
        nowhere on the panel, or when no unit can be matched.
    """
    scale = comparison.weights / comparison.weights.max() if weighted else np.ones(len(comparison.weights))
    level = replace(comparison, weights=scale)
    wanted = float(scale[level.active].sum())
    if not wanted or not len(others):
        return {}
    ranked = any(metric.ranked for metric in metrics)
    observed = _observed(level, ranked=ranked)
    defined = [metric for metric in metrics if metric.reason(observed) is None]
    blocks = [
        _against_others(level, others[start : start + _UNITS], wanted, ranked=ranked)
        for start in range(0, len(others), _UNITS)
    ]
    draws = {metric.name: np.concatenate([metric.values(block) for block in blocks]) for metric in defined}
    return {
        metric.name: Null.of("pairing", float(metric.values(observed)), draws[metric.name], keep=metric.headline)
        for metric in defined
        if len(draws[metric.name])
    }


def pooled_p_values(
    observed: Sequence[float] | DoubleArray, draws: Sequence[Sequence[float]], strata: Sequence[object] | None = None
) -> DoubleArray:
    """p-values of many claims against the draws of all of them together (Storey & Tibshirani 2003, SAM).

    One claim's K draws cannot give a p-value below 1/(K+1), too coarse to survive a correction over a campaign. Pooled,
    m claims resolve 1/(mK+1). That is valid where the claims' nulls have the same distribution; chance agreement
    depends on how often a unit is active, so give strata of similar density.

    Args:
        observed: [m] observed statistics.
        draws: [m] null draws of each claim; any lengths.
        strata: [m] labels; draws are pooled within a label. None pools all.

    Returns:
        [m] p-values (1 + pooled draws at least as large) / (1 + pooled draws).
    """
    labels = [None] * len(observed) if strata is None else list(strata)
    if not len(observed) == len(draws) == len(labels):
        raise ScorerError(f"{len(observed)} statistics, {len(draws)} sets of draws and {len(labels)} strata.")
    p_values = np.empty(len(observed))
    for label in set(labels):
        members = [i for i, other in enumerate(labels) if other == label]
        pool = np.sort(np.concatenate([np.asarray(draws[i], dtype=np.float64) for i in members]))
        reached = len(pool) - np.searchsorted(pool, np.asarray([observed[i] for i in members]) - 1e-9, side="left")
        p_values[members] = (1 + reached) / (1 + len(pool))
    return p_values


def density_strata(densities: Sequence[float] | DoubleArray, *, width: float = 0.5, least: int = 20) -> list[int]:
    """Strata of claims whose units are active about equally often, for `pooled_p_values`.

    Chance agreement grows with density: a description of a unit that is active at a tenth of all positions reaches an
    F1 of 0.1 by chance, one of a rare unit almost nothing. Pooled over all densities, dense units would be called real
    far too often and rare ones never.

    Args:
        densities: [m] shares of positions at which each claim's unit is active; 0 counts as the lowest stratum.
        width: of a stratum, in decades.
        least: claims in a stratum; smaller ones are joined with their smaller neighbour, so that every pool is large
            enough for the campaign's correction.

    Returns:
        [m] labels, ascending with density.
    """
    values = np.asarray(densities, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ScorerError("Densities are shares between 0 and 1.")
    decade = np.floor(np.log10(np.maximum(values, 1e-6)) / width).astype(np.int64)
    groups = [np.flatnonzero(decade == label) for label in np.unique(decade)]
    while len(groups) > 1 and min(map(len, groups)) < least:
        small = min(range(len(groups)), key=lambda i: len(groups[i]))
        beside = [i for i in (small - 1, small + 1) if 0 <= i < len(groups)]
        other = min(beside, key=lambda i: len(groups[i]))
        first, last = min(small, other), max(small, other)
        groups[first : last + 1] = [np.concatenate([groups[first], groups[last]])]
    labels = np.zeros(len(values), dtype=np.int64)
    for label, members in enumerate(groups):
        labels[members] = label
    return [int(label) for label in labels]


def _observed(comparison: Comparison, *, ranked: bool) -> Totals:
    exact = comparison.totals
    merged = comparison.merged(MAX_LEVELS).totals if ranked else exact
    if merged is exact:
        return exact
    return Totals(exact.sums, merged.positives, merged.negatives, exact.centre)


def _level_indicators(comparison: Comparison) -> Iterator[DoubleArray]:
    """[n] of 0 and 1 for each of the merged predicted values, highest first."""
    values, level = comparison.merged(MAX_LEVELS).levels
    for rank in range(len(values)):
        yield (level == rank).astype(np.float64)


def _rotated(comparison: Comparison, shifts: IntArray, *, ranked: bool) -> Totals:
    """Totals at every shift s, where position i meets the prediction of position (i + s) mod n."""
    values, level = comparison.levels
    counts, called = np.bincount(level), np.bincount(level, comparison.predicted)
    if len(values) <= (FEW_LEVELS if ranked else 3) and ((called == 0) | (called == counts)).all():
        return _rotated_levels(comparison, shifts, called > 0, ranked=ranked)
    n = len(comparison.weights)
    centre = comparison.centre
    p = comparison.prediction - centre[1]
    over_weight, over_active, over_y = _fixed(comparison)

    def meet(fixed: ComplexArray, moving: ComplexArray) -> DoubleArray:
        return np.asarray(fft.irfft(fixed * moving, n)[shifts], dtype=np.float64)

    moving_p, moving_predicted = fft.rfft(p), fft.rfft(comparison.predicted.astype(np.float64))
    sums = np.empty((len(shifts), N_SUMS))
    sums[:, PREDICTION] = meet(over_weight, moving_p)
    sums[:, PREDICTION2] = meet(over_weight, fft.rfft(p * p))
    sums[:, PRODUCT] = meet(over_y, moving_p)
    sums[:, PREDICTED] = np.maximum(meet(over_weight, moving_predicted), 0)
    sums[:, BOTH] = np.maximum(meet(over_active, moving_predicted), 0)
    found, everything = [], []
    for indicator in _level_indicators(comparison) if ranked else ():
        moving = fft.rfft(indicator)
        found.append(np.maximum(meet(over_active, moving), 0))
        everything.append(meet(over_weight, moving))
    positives = np.stack(found, axis=1) if found else np.zeros((len(shifts), 0))
    negatives = np.maximum(np.stack(everything, axis=1) - positives, 0) if found else positives
    return Totals(_unmoved(comparison, sums), positives, negatives, centre)


def _rotated_levels(comparison: Comparison, shifts: IntArray, called: BoolArray, *, ranked: bool) -> Totals:
    """As `_rotated`, where few distinct values are predicted: all totals are sums over these, and the last one is met
    by what the others leave. `called` says which values count as active."""
    values, level = comparison.levels
    indicators = (np.arange(len(values) - 1)[:, None] == level).astype(np.float64)
    moving = fft.rfft(indicators)
    met = np.empty((3, len(values), len(shifts)))
    for fixed, over in zip(_fixed(comparison), met, strict=True):
        over[:-1] = fft.irfft(fixed * moving, len(level))[:, shifts]
        over[-1] = fixed[0].real - over[:-1].sum(axis=0)
    by_weight, by_active, by_y = met
    by_weight, by_active = np.maximum(by_weight, 0), np.maximum(by_active, 0)
    p = values - comparison.centre[1]
    sums = np.empty((len(shifts), N_SUMS))
    sums[:, PREDICTION], sums[:, PREDICTION2], sums[:, PRODUCT] = p @ by_weight, (p * p) @ by_weight, p @ by_y
    sums[:, PREDICTED], sums[:, BOTH] = called @ by_weight, called @ by_active
    positives = by_active.T if ranked else np.zeros((len(shifts), 0))
    negatives = np.maximum(by_weight - by_active, 0).T if ranked else positives
    return Totals(_unmoved(comparison, sums), positives, negatives, comparison.centre)


def _fixed(comparison: Comparison) -> ComplexArray:
    """What stays in place, transformed: the weight, that of active positions, and the weighted activation.

    Cross-correlation theorem: sum_i a[i] b[i + s] is the inverse transform of conj(A) B.
    """
    weight, y = comparison.weights, comparison.activation - comparison.centre[0]
    fixed: ComplexArray = np.conj(fft.rfft(np.stack([weight, weight * comparison.active, weight * y])))
    return fixed


def _unmoved(comparison: Comparison, sums: DoubleArray) -> DoubleArray:
    """The sums with those filled in that no rotation changes."""
    for column in (WEIGHT, ACTIVATION, ACTIVATION2, ACTIVE):
        sums[:, column] = comparison.totals.sums[column]
    return sums


def _against_others(comparison: Comparison, others: Activations, wanted: float, *, ranked: bool) -> Totals:
    """Totals of the predictions against each unit whose density can be matched; leading axis units."""
    w = comparison.weights
    hits = ((others >= _matching(others, w, wanted)[:, None]) & (others > 0)).astype(np.float64)
    matched = 2 * (hits @ w) >= wanted
    y = np.maximum(others, 0, dtype=np.float64)
    if not matched.all():
        y, hits = y[matched], hits[matched]
    units = len(y)
    total = float(w.sum())
    means = (y @ w) / total
    y -= means[:, None]
    p = comparison.prediction - comparison.centre[1]
    predicted = w * comparison.predicted
    ones = np.ones(units)
    own, at_levels = y @ np.stack([w, w * p], axis=1), np.zeros((len(w), 0))
    if ranked:
        values, level = comparison.merged(MAX_LEVELS).levels
        at_levels = np.zeros((len(w), len(values)))
        at_levels[np.arange(len(w)), level] = w
    shared = hits @ np.concatenate([w[:, None], predicted[:, None], at_levels], axis=1)
    sums = [
        ones * total, own[:, 0], ones * (w @ p), np.square(y, out=y) @ w, ones * (w @ (p * p)), own[:, 1],
        shared[:, 0], ones * predicted.sum(), shared[:, 1],
    ]  # fmt: skip
    positives = shared[:, 2:]
    negatives = np.maximum(at_levels.sum(axis=0) - positives, 0)
    return Totals(np.stack(sums, axis=1), positives, negatives, (means, comparison.centre[1]))


def _matching(others: Activations, weights: DoubleArray, wanted: float) -> Activations:
    """[units] threshold of each unit at which it is active on the weight `wanted`."""
    if (weights == weights[0]).all():
        kth = round(wanted / weights[0])
        found: Activations = np.partition(others, -kth, axis=1)[:, -kth]
        return found
    order = np.argsort(-others, axis=1)
    last = (np.cumsum(weights[order], axis=1) < wanted - 1e-9).sum(axis=1)
    found = others[np.arange(len(others)), order[np.arange(len(others)), last]]
    return found
