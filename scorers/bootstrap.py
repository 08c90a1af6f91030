"""95 % intervals by resampling whole documents, honest about errors that the sample did not happen to see.

Tokens of a document resemble each other, so that resampling tokens would give intervals far too short (Cameron,
Gelbach & Miller 2008, on the pairs cluster bootstrap). Documents are drawn with replacement, as often as there are.

A plain bootstrap cannot see what the sample does not hold. That matters here more than elsewhere: the strongest blocks
of a unit are all in the sample and stand for themselves, while a position of the random panel may stand for dozens.
A rule without an error in the sample would get the interval [1, 1], although one unseen document of the panel could
halve its precision; with planted rules the plain (and the bias-corrected and accelerated) bootstrap covered the truth
in 30-80 % of such cases. So each end of the interval is taken with one more document than was seen, as in the exact
binomial interval (Clopper & Pearson 1934: the lower end adds a failure to the count, the upper end a success): for the
lower end a document with misses or with false alarms, for the upper end one with hits, each as heavy as a document of
the panel. Its weight in a resample is exponential with mean 1, which for a share of zero among n reproduces Clopper and
Pearson's end exactly, -log(0.025)/n for large n. That end is exact in never covering too seldom; it covers too often
by what a discrete sample leaves over, for rare units 98-100 % instead of 95 %. So the unseen document is there in half
of the resamples only, which is the mid-p version of the end (Lancaster 1961; Agresti & Gottard 2005): -log(0.05)/n for
none among n. Over prevalences of 0.1-10 % and F1 from 0.3 to 0.96 the intervals then cover the truth 96 % of the time
on average, and no less than 92 % anywhere (`python -m benchmarks.error_control`; docs/design/0008-error-control.md).
Where many documents carry the value, one more hardly matters and the interval is the ordinary percentile one.

Every metric is a function of totals that add up over documents, so all resamples are one product of the drawn counts
[resamples, documents] with the totals per document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import sparse

from scorers.metrics import N_SUMS, Comparison, Metric, Totals
from scorers.types import DoubleArray
from tools.types import BoolArray, IntArray

#: Ranking metrics are resampled on at most this many levels of predicted values; beyond it the value does not change by
#: more than a thousandth, and the cost would grow with the number of positions.
MAX_LEVELS: Final = 256
#: Entries of a block of resampled totals (resamples x columns): 32 MB of doubles.
BLOCK_ENTRIES: Final = 4_000_000
TAIL: Final = 0.025
"""Probability left out on each side."""
PHANTOM_SHARE: Final = 0.5
"""Share of the resamples that hold a document which the sample did not: 1 would be Clopper and Pearson's exact ends,
which cover too often; 0 the plain bootstrap, which covers far too seldom; one half is mid-p."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; an end is None where it is unbounded or where there is only one document."""

    low: float | None
    high: float | None


def intervals(
    metrics: Sequence[Metric],
    comparison: Comparison,
    documents: IntArray,
    *,
    resamples: int = 1000,
    rng: np.random.Generator | Resampler,
    active_weight: float | None = None,
) -> dict[str, Interval]:
    """Document-clustered 95 % bootstrap intervals of several metrics, from the same resamples.

    Args:
        metrics: what to compute; names are the keys of the result.
        comparison: n positions.
        documents: [n] document of each position.
        resamples: number of bootstrap resamples.
        rng: source of the resamples; or a resampler, which has its own number of them.
        active_weight: weight of an active position that was not seen; that of the sample's heaviest where it is None.
            In a sample drawn by activity, which positions are active is known of many more than were drawn, and a
            position that stands for many silent ones stands for none that is active.

    Returns:
        Per metric an interval. With a single document there is nothing to resample and both ends are None.

    A resample on which a metric is undefined (no active position was drawn) says nothing, so it counts towards both
    ends as the worst and the best possible value.
    """
    _, document = np.unique(documents, return_inverse=True)
    n = int(document.max()) + 1
    if n < 2:
        return {metric.name: Interval(None, None) for metric in metrics}
    low_counts, high_counts = rng.of(n) if isinstance(rng, Resampler) else _drawn(n, resamples, rng)
    whole = np.concatenate([np.ones(n), np.zeros(3)])[None]
    result = {}
    for data, family in _families(metrics, comparison):
        ranked = any(metric.ranked for metric in family)
        clusters = _Clusters(_with_phantoms(data, document, active_weight), document, data.centre, ranked=ranked)
        values = clusters.values(family, whole)[:, 0]
        low, high = clusters.values(family, low_counts), clusters.values(family, high_counts)
        for k, metric in enumerate(family):
            result[metric.name] = _interval(metric, float(values[k]), low[k], high[k])
    return {metric.name: result[metric.name] for metric in metrics}


def _families(metrics: Sequence[Metric], comparison: Comparison) -> list[tuple[Comparison, list[Metric]]]:
    """Metrics by what they are computed from: those that rank from merged predictions, where there are many."""
    plain = [metric for metric in metrics if not metric.ranked]
    ranked = [metric for metric in metrics if metric.ranked]
    if not ranked:
        return [(comparison, plain)]
    merged = comparison.merged(MAX_LEVELS)
    if merged is comparison:
        return [(comparison, list(metrics))]
    return [(data, family) for data, family in ((comparison, plain), (merged, ranked)) if family]


class Resampler:
    """Resamples of documents, drawn once for each number of them: what is compared then differs by nothing else.

    Args:
        generator: makes the source of random numbers, anew for each number of documents.
        resamples: how many are drawn.
    """

    def __init__(self, generator: Callable[[], np.random.Generator], resamples: int) -> None:
        self._generator, self._resamples = generator, resamples
        self._drawn: dict[int, tuple[DoubleArray, DoubleArray]] = {}

    def of(self, n: int) -> tuple[DoubleArray, DoubleArray]:
        """[resamples, n + 3] how often each document is taken, and each phantom in the order of `_with_phantoms`
        (misses, false alarms, hits): for the lower end and for the upper end."""
        if n not in self._drawn:
            self._drawn[n] = _drawn(n, self._resamples, self._generator())
        return self._drawn[n]


def _drawn(n: int, resamples: int, rng: np.random.Generator) -> tuple[DoubleArray, DoubleArray]:
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    extra = rng.exponential(size=resamples) * (rng.random(resamples) < PHANTOM_SHARE)
    heads = rng.random(resamples) < 0.5
    none = np.zeros(resamples)
    return np.column_stack([counts, extra * heads, extra * ~heads, none]), np.column_stack([counts, none, none, extra])


def mean_resamples(
    values: DoubleArray, documents: IntArray, *, resamples: int, rng: np.random.Generator
) -> DoubleArray:
    """[resamples] means of `values` [n] when documents are resampled."""
    _, document = np.unique(documents, return_inverse=True)
    n = int(document.max()) + 1
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    means: DoubleArray = (counts @ np.bincount(document, values, n)) / (counts @ np.bincount(document, minlength=n))
    return means


class _Clusters:
    """Totals per document and per phantom, [documents + 3, 9 + 2 * levels]."""

    def __init__(self, rows: Comparison, document: IntArray, centre: tuple[float, float], *, ranked: bool) -> None:
        n = int(document.max()) + 1
        where = np.concatenate([document, n + np.arange(3)])
        shape = (n + 3, len(where))
        self.centre = centre
        membership = sparse.csr_array((np.ones(len(where)), (where, np.arange(len(where)))), shape=shape)
        self.sums: DoubleArray = membership @ rows.columns(centre)
        self.ranks = None
        self.levels = 0
        if ranked:
            distinct, level = rows.levels
            self.levels = len(distinct)
            column = 2 * level + ~rows.active
            # Transposed, so that the product with a dense matrix of counts is one pass over the rows.
            self.ranks = sparse.csr_array((rows.weights, (column, where)), shape=(2 * self.levels, n + 3))

    def totals(self, counts: DoubleArray) -> Totals:
        """Totals when document d is taken counts[k, d] times; leading axis k."""
        ranks = np.zeros((0, len(counts))) if self.ranks is None else self.ranks @ np.ascontiguousarray(counts.T)
        return Totals(counts @ self.sums, ranks[0::2].T, ranks[1::2].T, self.centre)

    def values(self, metrics: Sequence[Metric], counts: DoubleArray) -> DoubleArray:
        """[metrics, k], in blocks so that memory does not grow with the number of distinct predictions."""
        step = max(1, BLOCK_ENTRIES // (N_SUMS + 2 * self.levels))
        blocks = [self.totals(counts[start : start + step]) for start in range(0, len(counts), step)]
        return np.stack([np.concatenate([metric.values(block) for block in blocks]) for metric in metrics])


def _with_phantoms(comparison: Comparison, document: IntArray, active_weight: float | None = None) -> Comparison:
    """The comparison with three rows more: a document's misses, its false alarms, its hits.

    A phantom is as heavy as the sample's heaviest position (or as `active_weight`, where it is active) times the number
    of active (or of predicted) positions of a typical document that has any; it holds the typical activation and
    prediction of its kind.
    """
    active, predicted, weights = comparison.active, comparison.predicted, comparison.weights
    heaviest = float(weights.max())
    heaviest_active = heaviest if active_weight is None else active_weight
    strong = _mean(comparison.activation, active, weights, default=float(comparison.activation.max()))
    weak = _mean(comparison.activation, ~active, weights, default=0.0)
    high = _median(comparison.prediction, predicted, weights, default=float(comparison.prediction.max()))
    low = _median(comparison.prediction, ~predicted, weights, default=float(comparison.prediction.min()))
    n_active, n_predicted = _per_document(active, document), _per_document(predicted, document)
    return Comparison(
        activation=np.append(comparison.activation, [strong, weak, strong]),
        active=np.append(active, [True, False, True]),
        prediction=np.append(comparison.prediction, [low, high, high]),
        predicted=np.append(predicted, [False, True, True]),
        weights=np.append(weights, [heaviest_active * n_active, heaviest * n_predicted, heaviest_active * n_active]),
    )


def _per_document(chosen: BoolArray, document: IntArray) -> float:
    """Mean number of chosen positions in the documents that have any; 1 if none has."""
    return float(chosen.sum() / len(np.unique(document[chosen]))) if chosen.any() else 1.0


def _mean(values: DoubleArray, chosen: BoolArray, weights: DoubleArray, *, default: float) -> float:
    return float(np.average(values[chosen], weights=weights[chosen])) if chosen.any() else default


def _median(values: DoubleArray, chosen: BoolArray, weights: DoubleArray, *, default: float) -> float:
    """Weighted lower median, which is one of the values: a phantom adds no level of its own to a ranking."""
    if not chosen.any():
        return default
    order = np.argsort(values[chosen])
    cumulative = np.cumsum(weights[chosen][order])
    return float(values[chosen][order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def _interval(metric: Metric, value: float, low: DoubleArray, high: DoubleArray) -> Interval:
    if np.isnan(value):
        return Interval(None, None)
    worst, best = metric.bounds
    ends = (
        _quantile(np.where(np.isnan(low), worst, low), TAIL),
        _quantile(np.where(np.isnan(high), best, high), 1 - TAIL),
    )
    # A bootstrap that is biased on few documents could leave the value itself outside.
    bottom, top = min(ends[0], value), max(ends[1], value)
    return Interval(bottom if np.isfinite(bottom) else None, top if np.isfinite(top) else None)


def _quantile(values: DoubleArray, share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed: numpy's 'inverted_cdf', which takes
    most of its time to find out what it was asked."""
    at = max(0, math.ceil(round(share * len(values), 9)) - 1)
    return float(np.partition(values, at)[at])
