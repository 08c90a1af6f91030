"""Probabilities that can be held to: made from raw scores by isotonic regression, and checked by what came.

A raw score says which of two places is likelier to be active, not how likely. Isotonic regression (Zadrozny & Elkan
2002) turns it into a probability: of all functions that never fall, the one nearest to what was seen. Whether
probabilities are right is measured by the Brier score (Brier 1950), the logarithmic score (Good 1952), and the
calibration curve with its expected calibration error (Naeini, Cooper & Hauskrecht 2015): of the places that were given
30 %, three in ten should be active.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from scorers.types import DoubleArray
from tools.types import BoolArray, IntArray

#: Bins of a calibration curve, of equal width.
BINS = 10
#: No probability is nearer to 0 or 1: nothing is sure, and a logarithmic score must not be infinite.
NEAREST = 1e-4
#: By how many log odds a kind of text may well differ from others.
SPREAD = 1.0


@dataclass(frozen=True)
class Calibrator:
    """From raw scores to probabilities: linear between the levels that were seen, constant beyond them."""

    levels: DoubleArray
    """[level], ascending."""
    probabilities: DoubleArray
    """[level], never falling."""

    def __call__(self, raw: DoubleArray) -> DoubleArray:
        """Probability at each raw score, [n]."""
        return np.asarray(np.interp(raw, self.levels, self.probabilities))

    def to_json(self) -> dict[str, list[float]]:
        return {"levels": self.levels.tolist(), "probabilities": self.probabilities.tolist()}


def fit_calibrator(raw: DoubleArray, active: BoolArray, weights: DoubleArray, documents: IntArray) -> Calibrator:
    """The isotonic fit of activity to a raw score on a weighted sample; all arrays are [n], n at least 1.

    What was seen at a level counts as many observations as it is worth: its effective sample size (Kish 1965), and no
    more than its documents, since tokens of a document resemble each other. Half a success and half a failure are
    added at each level (Jeffreys' prior), so that a level which was seen three times is not called sure.
    """
    levels, level = np.unique(raw, return_inverse=True)
    count = len(levels)
    total = np.bincount(level, weights, count)
    share = np.bincount(level, weights * active, count) / total
    pairs = np.unique(np.stack([level, documents]), axis=1)
    effective = np.minimum(total**2 / np.bincount(level, weights**2, count), np.bincount(pairs[0], minlength=count))
    smoothed = (effective * share + 0.5) / (effective + 1)
    fitted = optimize.isotonic_regression(smoothed, weights=effective + 1).x
    return Calibrator(levels.astype(np.float64), np.clip(fitted, NEAREST, 1 - NEAREST))


def shift_of(probabilities: DoubleArray, happened: BoolArray) -> float:
    """By how much log odds must be moved for probabilities to agree with what happened, [n] each.

    Logistic recalibration in the large (Cox 1958): the slope stays 1 and the intercept is fitted, as a posterior mode
    under a normal prior around 0 with standard deviation `SPREAD`, so that few cases move little.
    """
    odds = _log_odds(probabilities)

    def slope(shift: float) -> float:
        return shift / SPREAD**2 - float((happened - special.expit(odds + shift)).sum())

    return float(optimize.brentq(slope, -30, 30)) if len(odds) else 0.0


def moved(probabilities: DoubleArray, shifts: DoubleArray) -> DoubleArray:
    """Probabilities with their log odds moved, [n]."""
    told = np.clip(special.expit(_log_odds(probabilities) + shifts), NEAREST, 1 - NEAREST)
    return np.where(shifts == 0, probabilities, told)


def _log_odds(probabilities: DoubleArray) -> DoubleArray:
    return np.asarray(special.logit(np.clip(probabilities, NEAREST, 1 - NEAREST)))


def brier(probabilities: DoubleArray, happened: BoolArray) -> DoubleArray:
    """Squared error of each prediction, [n]; 0 is best, always saying one half scores 0.25."""
    return np.asarray((probabilities - happened) ** 2)


def log_loss(probabilities: DoubleArray, happened: BoolArray) -> DoubleArray:
    """Surprise at what came, in nats, [n]; 0 is best, always saying one half scores 0.69."""
    said = np.where(happened, probabilities, 1 - probabilities)
    return np.asarray(-np.log(np.maximum(said, NEAREST)))


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability, and how often what they are about came."""

    low: float
    high: float
    n: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share that came."""
    observed_low: float
    """Lower end of its 95 % interval (Wilson 1927)."""
    observed_high: float


@dataclass(frozen=True)
class Curve:
    """A calibration curve."""

    n: int
    bins: tuple[Bin, ...]
    """Those that hold any prediction, in order."""
    error: float
    """Expected calibration error: mean distance of predicted and observed over bins, by their numbers."""
    brier: float
    log_loss: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def calibration_curve(probabilities: DoubleArray, happened: BoolArray, bins: int = BINS) -> Curve | None:
    """How predicted probabilities compare with what came, [n] each; None of nothing."""
    n = len(probabilities)
    if not n:
        return None
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(probabilities, edges[1:-1], right=True), 0, bins - 1)
    found = []
    for number in np.unique(place).tolist():
        own = place == number
        k, m = int(happened[own].sum()), int(own.sum())
        ends = stats.binomtest(k, m).proportion_ci(0.95, method="wilson")
        found.append(
            Bin(
                float(edges[number]), float(edges[number + 1]), m, float(probabilities[own].mean()), k / m,
                float(ends.low), float(ends.high),
            )
        )  # fmt: skip
    error = sum(one.n * abs(one.predicted - one.observed) for one in found) / n
    return Curve(
        n, tuple(found), error, float(brier(probabilities, happened).mean()),
        float(log_loss(probabilities, happened).mean()),
    )  # fmt: skip
