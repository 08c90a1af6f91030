"""How well activations rank texts that have a label above those that have none, with interval and null.

The interval resamples whole clusters (a document's windows; a written text is a cluster of its own), as everywhere in
`scorers.bootstrap`. For the null, labels are shuffled. Windows of one document are alike in their text as in their
activations, so that shuffling them all would make agreement by chance look rarer than it is: the null looks at the
first window of each document alone, in the order in which they were drawn, and at what the metric is on those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, stats

from scorers.bootstrap import intervals
from scorers.metrics import ACTIVE, METRICS, N_SUMS, WEIGHT, Comparison, Metric, Totals, evaluate
from scorers.types import DoubleArray, Null
from tools.types import BoolArray, IntArray

AUROC: Final = "auroc"
PRECISION: Final = "average_precision"


@dataclass(frozen=True)
class Ranked:
    """One metric of a ranking; all None where it is undefined, with the reason."""

    value: float | None
    low: float | None
    high: float | None
    null: Null | None
    reason: str | None


def rank(
    activation: DoubleArray,
    labelled: BoolArray,
    clusters: IntArray,
    weights: DoubleArray,
    *,
    threshold: float,
    signed: bool,
    resamples: int,
    rng: np.random.Generator,
) -> Ranked:
    """Score how far labelled texts are above the others.

    Args:
        activation: [n], what texts are ranked by.
        labelled: [n].
        clusters: [n] number of the document or text.
        weights: [n] how many texts each stands for.
        threshold: above which a text counts as active, for the unseen documents of the interval.
        signed: 2 * AUROC - 1, between -1 and 1 with 0 by chance; otherwise average precision.
        resamples: of the bootstrap, and shuffles of the null.
        rng: of both.
    """
    metric = METRICS.get(AUROC if signed else PRECISION)
    if not len(activation):
        return Ranked(None, None, None, None, "there are no texts to rank")
    comparison = Comparison(np.maximum(activation, 0), labelled, activation, activation > threshold, weights)
    value, reason = evaluate(metric, comparison)
    if value is None:
        labels = "no text has the label" if not labelled.any() else "every text has the label"
        return Ranked(None, None, None, None, labels if not labelled.any() or labelled.all() else reason)
    scale, shift = (2.0, -1.0) if signed else (1.0, 0.0)
    ends = intervals([metric], comparison, clusters, resamples=resamples, rng=rng)[metric.name]
    low, high = (None if end is None else scale * end + shift for end in (ends.low, ends.high))
    if signed and np.ptp(activation) == 0:
        # Nothing that was seen stands out, which no resampling can doubt: an unseen text or document might.
        low = -share_interval(0, len(np.unique(clusters[~labelled])))[1]
        high = share_interval(0, len(np.unique(clusters[labelled])))[1]
    shuffled = _shuffled(metric, comparison, clusters, resamples, rng)
    null = None
    if shuffled is not None:
        shuffled = scale * shuffled + shift
        null = Null.of("permutation", float(shuffled[0]), shuffled[1:])
    return Ranked(scale * value + shift, low, high, null, None)


def _shuffled(
    metric: Metric, whole: Comparison, clusters: IntArray, draws: int, rng: np.random.Generator
) -> DoubleArray | None:
    """The metric on the first row of each cluster, then when their labels are shuffled, [1 + draws]; None where those
    rows have one label only."""
    first = np.sort(np.unique(clusters, return_index=True)[1])
    part = whole.rows(first)
    if part.active.all() or not part.active.any():
        return None
    labels = np.tile(part.active, (draws + 1, 1))
    labels[1:] = rng.permuted(labels[1:], axis=1)
    return values_of(metric, part, labels)


def values_of(metric: Metric, comparison: Comparison, labels: BoolArray) -> DoubleArray:
    """[k] the metric of a ranking under each of k labellings [k, n]."""
    distinct, level = comparison.levels
    count = len(distinct)
    member = np.zeros((len(level), count))
    member[np.arange(len(level)), level] = 1.0
    weight = labels * comparison.weights
    sums = np.zeros((len(labels), N_SUMS))
    sums[:, WEIGHT] = comparison.weights.sum()
    sums[:, ACTIVE] = weight.sum(axis=1)
    positives: DoubleArray = weight @ member
    return metric.values(Totals(sums, positives, comparison.weights @ member - positives, (0.0, 0.0)))


def against_others(name: str, observed: float, others: Sequence[float], least: int) -> Null | None:
    """The same texts held against other units: what a description of no particular unit would reach.

    None with fewer than `least` units, which could not tell.
    """
    known = np.array([value for value in others if np.isfinite(value)], dtype=np.float64)
    return Null.of(name, observed, known) if len(known) >= least else None


def share_interval(hits: int, n: int, tail: float = 0.025) -> tuple[float, float]:
    """Mid-p binomial 95 % interval of a share (Clopper & Pearson 1934, Lancaster 1961): each end is where the observed
    count, counted half, and what is beyond it have probability `tail`."""

    def beyond(p: float) -> float:
        return float(stats.binom.sf(hits, n, p) + 0.5 * stats.binom.pmf(hits, n, p))

    low = 0.0 if hits == 0 else optimize.brentq(lambda p: beyond(p) - tail, 0, 1)
    high = 1.0 if hits == n else optimize.brentq(lambda p: beyond(p) - (1 - tail), 0, 1)
    return float(low), float(high)
