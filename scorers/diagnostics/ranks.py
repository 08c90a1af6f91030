"""How well activations rank texts that have a label above those that have none, with interval and null.

Both come from whole clusters (a document's windows; a written text is a cluster of its own). The interval is that of
`scorers.bootstrap`. For the null, labels are shuffled: they move by clusters, each to another one with as many texts,
so that texts of a document keep belonging together. Where clusters are all of different sizes nothing can be shuffled
and there is no null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

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
    if np.ptp(activation) == 0:
        return Ranked(None, None, None, None, "the activation is the same in every text")
    comparison = Comparison(np.maximum(activation, 0), labelled, activation, activation > threshold, weights)
    value, reason = evaluate(metric, comparison)
    if value is None:
        labels = "no text has the label" if not labelled.any() else "every text has the label"
        return Ranked(None, None, None, None, labels if not labelled.any() or labelled.all() else reason)
    ends = intervals([metric], comparison, clusters, resamples=resamples, rng=rng)[metric.name]
    orders = shuffles(clusters, resamples, rng)
    scale, shift = (2.0, -1.0) if signed else (1.0, 0.0)
    null = None
    if orders is not None:
        draws = scale * values_of(metric, comparison, labelled[orders]) + shift
        null = Null.of("permutation", scale * value + shift, draws)
    low, high = (None if end is None else scale * end + shift for end in (ends.low, ends.high))
    return Ranked(scale * value + shift, low, high, null, None)


def values_of(metric: Metric, comparison: Comparison, labels: BoolArray) -> DoubleArray:
    """[k] the metric of a ranking under each of k labellings [k, n]."""
    level, count = comparison.levels()
    member = np.zeros((len(level), count))
    member[np.arange(len(level)), level] = 1.0
    weight = labels * comparison.weights
    sums = np.zeros((len(labels), N_SUMS))
    sums[:, WEIGHT] = comparison.weights.sum()
    sums[:, ACTIVE] = weight.sum(axis=1)
    positives: DoubleArray = weight @ member
    return metric.values(Totals(sums, positives, comparison.weights @ member - positives, (0.0, 0.0)))


def shuffles(clusters: IntArray, draws: int, rng: np.random.Generator) -> IntArray | None:
    """[draws, n] from where each row takes its label when clusters of equal size swap theirs; None if none can."""
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    by_cluster = np.split(np.argsort(cluster, kind="stable"), np.cumsum(sizes)[:-1])
    orders = np.tile(np.arange(len(clusters)), (draws, 1))
    moved = False
    for size in np.unique(sizes).tolist():
        rows = np.stack([members for members in by_cluster if len(members) == size])
        if len(rows) > 1:
            moved = True
            swapped = rng.permuted(np.tile(np.arange(len(rows)), (draws, 1)), axis=1)
            orders[:, rows.ravel()] = rows[swapped].reshape(draws, -1)
    return orders if moved else None


def against_others(name: str, observed: float, others: Sequence[float], least: int) -> Null | None:
    """The same texts held against other units: what a description of no particular unit would reach.

    None with fewer than `least` units, which could not tell.
    """
    known = np.array([value for value in others if np.isfinite(value)], dtype=np.float64)
    return Null.of(name, observed, known) if len(known) >= least else None
