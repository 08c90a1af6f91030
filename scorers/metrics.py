"""How well predicted activations match true ones: every metric once, with its source.

All metrics are weighted, so that a sample enriched with strong activations still estimates the value at the corpus's
true prevalence. They are functions of a few weighted totals, not of the positions themselves:

* seven sums (weight, activation, prediction, their squares and product) and three counts (active, predicted active,
  both) give F1, precision, recall, IoU, balanced accuracy, Pearson, cosine and R²;
* the weight of active and of inactive positions at each distinct predicted value gives average precision and AUROC.

Totals add up over documents. That makes resampling documents a matrix product (`scorers.bootstrap`) and shifting the
predictions a convolution (`scorers.permutation`), both through the very same functions as the value itself.

Inside this room, an entry of an array of values is NaN where the metric is undefined; `evaluate` turns it into None
with a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Final

import numpy as np

from scorers.errors import ScorerError
from scorers.registry import Registry
from scorers.types import DoubleArray
from tools.types import BoolArray, IntArray

#: Columns of `Totals.sums`. Activations and predictions are centred first, so that variances do not cancel.
WEIGHT, ACTIVATION, PREDICTION, ACTIVATION2, PREDICTION2, PRODUCT, ACTIVE, PREDICTED, BOTH = range(9)
N_SUMS: Final = 9


@dataclass(frozen=True)
class Comparison:
    """True and predicted activation at n positions; arrays are parallel, [n]."""

    activation: DoubleArray
    """Magnitude on the described polarity, zero on the other side: max(0, sign * value)."""
    active: BoolArray
    """Whether the unit counts as active there: sign * value > threshold."""
    prediction: DoubleArray
    predicted: BoolArray
    """prediction > threshold."""
    weights: DoubleArray
    """How many of the corpus's positions each one stands for."""

    def __post_init__(self) -> None:
        shapes = {getattr(self, field.name).shape for field in fields(self)}
        if len(shapes) != 1 or len(self.weights.shape) != 1 or not len(self.weights):
            raise ScorerError(f"A comparison needs parallel, non-empty arrays, not shapes {sorted(shapes)}.")
        if not (np.isfinite(self.activation).all() and np.isfinite(self.prediction).all()):
            raise ScorerError("Activations and predictions must be finite.")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise ScorerError("Weights must be positive.")

    # What follows is kept: a value, its interval and its two nulls all start from it.

    @cached_property
    def centre(self) -> tuple[float, float]:
        """Weighted means of activation and prediction."""
        return (
            float(np.average(self.activation, weights=self.weights)),
            float(np.average(self.prediction, weights=self.weights)),
        )

    @cached_property
    def levels(self) -> tuple[DoubleArray, IntArray]:
        """Distinct predicted values, highest first, and for each position which of them it has."""
        distinct, level = np.unique(-self.prediction, return_inverse=True)
        return -distinct, level.astype(np.int64)

    @cached_property
    def totals(self) -> Totals:
        """Of all positions."""
        return Totals.of(self)

    def rows(self, chosen: IntArray) -> Comparison:
        """Some of the positions."""
        return Comparison(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def merged(self, levels: int) -> Comparison:
        """The same with at most so many distinct predicted values; see `coarsen`."""
        if len(self.levels[0]) <= levels:
            return self
        return replace(self, prediction=coarsen(self.prediction, levels))

    def columns(self, centre: tuple[float, float]) -> DoubleArray:
        """[n, 9]: each position's contribution to `Totals.sums`."""
        y, p = self.activation - centre[0], self.prediction - centre[1]
        parts = [np.ones_like(y), y, p, y * y, p * p, y * p, self.active, self.predicted, self.active & self.predicted]
        return np.stack(parts, axis=1) * self.weights[:, None]


@dataclass(frozen=True)
class Totals:
    """Weighted totals of one or of many comparisons; leading axes are shared by all fields."""

    sums: DoubleArray
    """[..., 9]; see the column constants."""
    positives: DoubleArray
    """[..., levels]: weight of active positions at each predicted value, highest value first. May have no levels
    where no ranking metric is asked for."""
    negatives: DoubleArray
    """[..., levels]: the same for inactive positions."""
    centre: tuple[float | DoubleArray, float]
    """What was subtracted from activations and predictions before they were summed."""

    @classmethod
    def of(cls, comparison: Comparison) -> Totals:
        centre = comparison.centre
        values, level = comparison.levels
        count = len(values)
        weight, active = comparison.weights, comparison.active
        return cls(
            comparison.columns(centre).sum(axis=0),
            np.bincount(level, weight * active, count).astype(np.float64),
            np.bincount(level, weight * ~active, count).astype(np.float64),
            centre,
        )

    def __getitem__(self, column: int) -> DoubleArray:
        result: DoubleArray = self.sums[..., column]
        return result

    @property
    def activation_variance(self) -> DoubleArray:
        """Weighted sum of squared deviations of the activation from its mean; tiny negatives are rounding."""
        return np.maximum(self[ACTIVATION2] - self[ACTIVATION] ** 2 / self[WEIGHT], 0)

    @property
    def prediction_variance(self) -> DoubleArray:
        return np.maximum(self[PREDICTION2] - self[PREDICTION] ** 2 / self[WEIGHT], 0)

    @property
    def raw_activation2(self) -> DoubleArray:
        """Weighted sum of squared, uncentred activations."""
        a = self.centre[0]
        return self[ACTIVATION2] + 2 * a * self[ACTIVATION] + a * a * self[WEIGHT]

    @property
    def raw_prediction2(self) -> DoubleArray:
        b = self.centre[1]
        return self[PREDICTION2] + 2 * b * self[PREDICTION] + b * b * self[WEIGHT]

    @property
    def raw_product(self) -> DoubleArray:
        a, b = self.centre
        return self[PRODUCT] + a * self[PREDICTION] + b * self[ACTIVATION] + a * b * self[WEIGHT]


@dataclass(frozen=True)
class Need:
    """A condition without which a metric is undefined, and the words for its failure."""

    holds: Callable[[Totals], BoolArray]
    otherwise: str


ANY_ACTIVE = Need(lambda t: t[ACTIVE] > 0, "the unit is active at no sampled position")
ANY_INACTIVE = Need(lambda t: t[ACTIVE] < t[WEIGHT] * (1 - 1e-12), "the unit is active at every sampled position")
ANY_PREDICTED = Need(lambda t: t[PREDICTED] > 0, "the description predicts activity at no sampled position")
# Relative tolerances: below them a difference is rounding of the stored activations.
ACTIVATION_VARIES = Need(
    lambda t: t.activation_variance > 1e-12 * t.raw_activation2, "the activation does not vary over the sample"
)
PREDICTION_VARIES = Need(
    lambda t: t.prediction_variance > 1e-12 * t.raw_prediction2, "the prediction does not vary over the sample"
)
ACTIVATION_NOT_ZERO = Need(lambda t: t.raw_activation2 > 0, "the activation is zero at every sampled position")
PREDICTION_NOT_ZERO = Need(lambda t: t.raw_prediction2 > 0, "the prediction is zero at every sampled position")


@dataclass(frozen=True)
class Metric:
    """One metric: a function of totals, when it is defined, and whether it may headline."""

    name: str
    source: str
    compute: Callable[[Totals], DoubleArray]
    needs: tuple[Need, ...]
    headline: bool = False
    """May be shown as the result. Only a metric that passes both tests of `scorers.sanity` may; the others are
    diagnostics, kept because published numbers use them."""
    ranked: bool = False
    """Uses the levels of predicted values."""
    bounds: tuple[float, float] = (0.0, 1.0)

    def values(self, totals: Totals) -> DoubleArray:
        """[...]: the metric for each comparison, NaN where it is undefined."""
        defined = np.ones(totals.sums.shape[:-1], dtype=bool)
        for need in self.needs:
            defined &= need.holds(totals)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(defined, self.compute(totals), np.nan)
        # Rounding must not carry a correlation beyond 1; the comparison keeps NaN as it is.
        return np.clip(values, *self.bounds)

    def reason(self, totals: Totals) -> str | None:
        """Why the metric is undefined on a single comparison; None if it is defined."""
        return next((need.otherwise for need in self.needs if not bool(need.holds(totals))), None)


def _average_precision(t: Totals) -> DoubleArray:
    found = np.cumsum(t.positives, axis=-1)
    seen = np.cumsum(t.positives + t.negatives, axis=-1)
    # Levels that a resample does not contain have no weight and add nothing.
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    result: DoubleArray = (t.positives * precision).sum(axis=-1) / t.positives.sum(axis=-1)
    return result


def _auroc(t: Totals) -> DoubleArray:
    negatives = t.negatives.sum(axis=-1)
    below = negatives[..., None] - np.cumsum(t.negatives, axis=-1) + t.negatives / 2
    result: DoubleArray = (t.positives * below).sum(axis=-1) / (t.positives.sum(axis=-1) * negatives)
    return result


def _pearson(t: Totals) -> DoubleArray:
    covariance = t[PRODUCT] - t[ACTIVATION] * t[PREDICTION] / t[WEIGHT]
    return covariance / np.sqrt(t.activation_variance * t.prediction_variance)


def _r2(t: Totals) -> DoubleArray:
    shift = t.centre[0] - t.centre[1]
    error = t[ACTIVATION2] - 2 * t[PRODUCT] + t[PREDICTION2]
    error = error + 2 * shift * (t[ACTIVATION] - t[PREDICTION]) + shift * shift * t[WEIGHT]
    return 1 - error / t.activation_variance


def _balanced_accuracy(t: Totals) -> DoubleArray:
    inactive = t[WEIGHT] - t[ACTIVE]
    return (t[BOTH] / t[ACTIVE] + 1 - (t[PREDICTED] - t[BOTH]) / inactive) / 2


METRICS: Registry[Metric] = Registry("metric")

for _metric in (
    Metric(
        "f1",
        "van Rijsbergen 1979, Information Retrieval, ch. 7, with beta = 1; weighted as in arXiv 2506.05774",
        lambda t: 2 * t[BOTH] / (t[ACTIVE] + t[PREDICTED]),
        (ANY_ACTIVE,),
        headline=True,
    ),
    Metric(
        "average_precision",
        "sum over distinct predicted values of (recall gained) x (precision there), ties together: "
        "scikit-learn's average_precision_score; Davis & Goadrich 2006 on why not to interpolate",
        _average_precision,
        (ANY_ACTIVE,),
        headline=True,
        ranked=True,
    ),
    Metric(
        "pearson",
        "correlation over all positions of all texts pooled (Bills et al. 2023, ev_correlation), weighted",
        _pearson,
        (ACTIVATION_VARIES, PREDICTION_VARIES),
        headline=True,
        bounds=(-1.0, 1.0),
    ),
    Metric(
        "iou",
        "Jaccard 1912; Network Dissection, arXiv 1704.05796",
        lambda t: t[BOTH] / (t[ACTIVE] + t[PREDICTED] - t[BOTH]),
        (ANY_ACTIVE,),
        headline=True,
    ),
    Metric(
        "cosine",
        "uncentred correlation (arXiv 2506.05774, table of metrics)",
        lambda t: t.raw_product / np.sqrt(t.raw_activation2 * t.raw_prediction2),
        (ACTIVATION_NOT_ZERO, PREDICTION_NOT_ZERO),
        headline=True,
        bounds=(-1.0, 1.0),
    ),
    Metric(
        "r2",
        "1 - squared error / variance of the activation; Bills et al. 2023 divide by the mean square instead, which "
        "credits the mean of a dense unit to the description",
        _r2,
        (ACTIVATION_VARIES,),
        headline=True,
        bounds=(-np.inf, 1.0),
    ),
    Metric("precision", "share of predicted activity that is true", lambda t: t[BOTH] / t[PREDICTED],
           (ANY_ACTIVE, ANY_PREDICTED)),
    Metric("recall", "share of activity that is predicted", lambda t: t[BOTH] / t[ACTIVE], (ANY_ACTIVE,)),
    Metric(
        "auroc",
        "probability that an active position is ranked above an inactive one, ties half: Hanley & McNeil 1982",
        _auroc,
        (ANY_ACTIVE, ANY_INACTIVE),
        ranked=True,
    ),
    Metric(
        "balanced_accuracy",
        "mean of the true-positive and true-negative rates: Brodersen et al. 2010; 'detection' of arXiv 2410.13928",
        _balanced_accuracy,
        (ANY_ACTIVE, ANY_INACTIVE),
    ),
):  # fmt: skip
    METRICS.add(_metric.name, _metric)


def coarsen(prediction: DoubleArray, levels: int) -> DoubleArray:
    """Merge predicted values until at most `levels` distinct ones are left; finest at the top.

    The number of positions in the groups grows geometrically from the highest value down, because a ranking metric at
    low prevalence is decided at the top. Rules predict few values and come back unchanged.

    Args:
        prediction: [n].
        levels: how many distinct values may remain.
    """
    distinct, inverse, counts = np.unique(-prediction, return_inverse=True, return_counts=True)
    if len(distinct) <= levels:
        return prediction
    above = np.concatenate([[0], np.cumsum(counts)[:-1]])
    edges = np.unique(np.geomspace(1, len(prediction), levels).astype(np.int64))
    group = np.searchsorted(edges, above, side="right")
    first = np.unique(group, return_index=True)[1]
    merged = -distinct[first][np.unique(group, return_inverse=True)[1]]
    return np.asarray(merged[inverse], dtype=np.float64)


def evaluate(metric: Metric, comparison: Comparison) -> tuple[float | None, str | None]:
    """A metric's value on a sample, or None and the reason why it has none."""
    totals = comparison.totals
    reason = metric.reason(totals)
    return (None, reason) if reason else (float(metric.values(totals)), None)
