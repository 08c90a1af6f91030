"""What a metric would be by chance: nulls that keep the autocorrelation of text, and p-values against them.

*Rotation* (the p-value of a score). Activations come in runs and so do predictions; shuffling tokens would destroy the
runs and make chance agreement look rarer than it is. So the predictions are rotated as a whole against the
activations, over all sampled positions in the order of the text: under the hypothesis that a description has nothing
to do with its unit, every rotation is as likely as none (circular shift test). *All* rotations are evaluated, save
those shorter than a context, at which a prediction still overlaps its own surroundings: the totals behind a metric are
circular cross-correlations, which the fast Fourier transform gives for all rotations at once. So the p-value is not a
matter of luck and resolves 1/n, about 4e-5.

*Pairing*. A description of something that many units share (the end of a line) beats the rotation null with ease. The
same predictions are therefore compared with other units of the group, on the random panel, where all units'
activations are known: is this description better for its own unit than for others? To compare like with like, each
other unit's threshold is set such that as many positions are active as for the described unit. With K units the
p-value cannot go below 1/(K+1); `pooled_p_values` pools the draws of a campaign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft

from scorers.errors import ScorerError
from scorers.metrics import Comparison, Metric, Totals, coarsen
from scorers.types import DoubleArray, Null
from tools.types import BoolArray, FloatArray, IntArray

#: Ranking metrics are evaluated on at most this many levels of predicted values under a null.
MAX_LEVELS: Final = 64
#: With fewer rotations or units than this no p-value could reach 0.05, and a null says nothing.
MIN_DRAWS: Final = 19
#: More rotations than this are thinned evenly, so that memory stays below some 20 MB per array of levels.
MAX_ROTATIONS: Final = 32_768
#: Other units evaluated together.
_UNITS: Final = 64

ComplexArray: TypeAlias = npt.NDArray[np.complex128]


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


def pairing_null(
    metrics: Sequence[Metric], comparison: Comparison, others: FloatArray | DoubleArray
) -> dict[str, Null]:
    """Compare each metric with its value when the same predictions are held against other units.

    Args:
        metrics: names are the keys of the result.
        comparison: the described unit on the random panel. Weights are ignored: each position of the panel stands for
            the same number of the corpus's.
        others: [units, n] activations of other units at the same positions, times the polarity's sign.

    Returns:
        Nulls of the metrics that are defined, with their draws. Units that are active at fewer than half as many
        positions as the described one cannot be matched and are left out. Empty when the described unit is active
        nowhere on the panel, or when no unit can be matched.
    """
    level = Comparison(**{**comparison.__dict__, "weights": np.ones(len(comparison.weights))})
    wanted = int(level.active.sum())
    if not wanted or not len(others):
        return {}
    ranked = any(metric.ranked for metric in metrics)
    observed = _observed(level, ranked=ranked)
    defined = [metric for metric in metrics if metric.reason(observed) is None]
    blocks = [
        _against_others(level, np.asarray(others[start : start + _UNITS], dtype=np.float64), wanted, ranked=ranked)
        for start in range(0, len(others), _UNITS)
    ]
    draws = {metric.name: np.concatenate([metric.values(block) for block in blocks]) for metric in defined}
    return {
        metric.name: Null.of("pairing", float(metric.values(observed)), draws[metric.name], keep=metric.headline)
        for metric in defined
        if len(draws[metric.name])
    }


def pooled_p_values(
    observed: Sequence[float], draws: Sequence[Sequence[float]], strata: Sequence[object] | None = None
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


def _observed(comparison: Comparison, *, ranked: bool) -> Totals:
    exact = Totals.of(comparison)
    if not ranked:
        return exact
    merged = Totals.of(Comparison(**{**comparison.__dict__, "prediction": coarsen(comparison.prediction, MAX_LEVELS)}))
    return Totals(exact.sums, merged.positives, merged.negatives, exact.centre)


def _level_indicators(comparison: Comparison) -> Iterator[DoubleArray]:
    """[n] of 0 and 1 for each of the merged predicted values, highest first."""
    merged = coarsen(comparison.prediction, MAX_LEVELS)
    for value in np.unique(merged)[::-1]:
        yield (merged == value).astype(np.float64)


def _rotated(comparison: Comparison, shifts: IntArray, *, ranked: bool) -> Totals:
    """Totals at every shift s, where position i meets the prediction of position (i + s) mod n."""
    n = len(comparison.weights)
    centre = comparison.centre()
    weight = comparison.weights
    y, p = comparison.activation - centre[0], comparison.prediction - centre[1]
    # Cross-correlation theorem: sum_i a[i] b[i + s] is the inverse transform of conj(A) B.
    over_weight, over_active, over_y = (np.conj(fft.rfft(a)) for a in (weight, weight * comparison.active, weight * y))

    def meet(fixed: ComplexArray, moving: ComplexArray) -> DoubleArray:
        return np.asarray(fft.irfft(fixed * moving, n)[shifts], dtype=np.float64)

    moving_p, moving_predicted = fft.rfft(p), fft.rfft(comparison.predicted.astype(np.float64))
    ones = np.ones(len(shifts))
    sums = [
        ones * weight.sum(),
        ones * (weight * y).sum(),
        meet(over_weight, moving_p),
        ones * (weight * y * y).sum(),
        meet(over_weight, fft.rfft(p * p)),
        meet(over_y, moving_p),
        ones * (weight * comparison.active).sum(),
        np.maximum(meet(over_weight, moving_predicted), 0),
        np.maximum(meet(over_active, moving_predicted), 0),
    ]
    positives, everything = [], []
    for indicator in _level_indicators(comparison) if ranked else ():
        moving = fft.rfft(indicator)
        positives.append(np.maximum(meet(over_active, moving), 0))
        everything.append(meet(over_weight, moving))
    return Totals(np.stack(sums, axis=1), *_stacked(positives, everything, len(shifts)), centre)


def _against_others(comparison: Comparison, others: DoubleArray, wanted: int, *, ranked: bool) -> Totals:
    """Totals of the predictions against each unit whose density can be matched; unweighted, leading axis units."""
    threshold = np.partition(others, -wanted, axis=1)[:, -wanted]
    active: BoolArray = (others >= threshold[:, None]) & (others > 0)
    matched = 2 * active.sum(axis=1) >= wanted
    y, active = np.maximum(others[matched], 0), active[matched]
    units, n = y.shape
    means = y.mean(axis=1)
    y -= means[:, None]
    p_mean = float(comparison.prediction.mean())
    p = comparison.prediction - p_mean
    predicted = comparison.predicted.astype(np.float64)
    ones, hits = np.ones(units), active.astype(np.float64)
    sums = [
        ones * n, y.sum(axis=1), ones * p.sum(), (y * y).sum(axis=1), ones * (p * p).sum(), y @ p,
        hits.sum(axis=1), ones * predicted.sum(), hits @ predicted,
    ]  # fmt: skip
    positives, everything = [], []
    for indicator in _level_indicators(comparison) if ranked else ():
        positives.append(hits @ indicator)
        everything.append(ones * indicator.sum())
    return Totals(np.stack(sums, axis=1), *_stacked(positives, everything, units), (means, p_mean))


def _stacked(positives: list[DoubleArray], everything: list[DoubleArray], rows: int) -> tuple[DoubleArray, DoubleArray]:
    """[rows, levels] weights of active and of inactive positions, from lists over levels."""
    if not positives:
        return np.zeros((rows, 0)), np.zeros((rows, 0))
    found = np.stack(positives, axis=1)
    return found, np.maximum(np.stack(everything, axis=1) - found, 0)
