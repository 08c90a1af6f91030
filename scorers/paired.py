"""Two F1s of one prediction, against two truths at the same positions, and the interval of their difference.

Documents are resampled for both at once, so that what is hard in a document is hard in both and cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorers.bootstrap import Resampler
from scorers.types import DoubleArray
from tools.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Difference:
    """second - first, with its 95 % interval."""

    first: float
    second: float
    low: float | None
    """None where there is a single document."""
    high: float | None

    @property
    def value(self) -> float:
        """The difference itself."""
        return self.second - self.first


def paired_f1(
    predicted: BoolArray,
    first: BoolArray,
    second: BoolArray,
    weights: FloatArray,
    documents: IntArray,
    *,
    rng: np.random.Generator | Resampler,
    resamples: int = 1000,
) -> Difference | None:
    """F1 of a prediction against each of two truths.

    Args:
        predicted: [n] where activity is predicted.
        first: [n] where there is activity at first.
        second: [n] the same later; 0 activity gives F1 = 0 as long as something is predicted.
        weights: [n] how many positions of the corpus each stands for.
        documents: [n] of each position.
        rng: source of the resamples; or a resampler, which has its own number of them.
        resamples: how many.

    Returns:
        None where F1 is undefined at first: nothing is active and nothing predicted.
    """
    _, document = np.unique(documents, return_inverse=True)
    n = int(document.max()) + 1 if len(document) else 0
    w = weights.astype(np.float64)

    def totals(active: BoolArray) -> DoubleArray:
        parts = (predicted & active, predicted, active)
        return np.stack([np.bincount(document, w * part, n) for part in parts], 1).astype(np.float64)

    def f1(sums: DoubleArray) -> DoubleArray:
        either = sums[..., 1] + sums[..., 2]
        return np.divide(2 * sums[..., 0], either, out=np.zeros_like(either), where=either > 0)

    before, after = totals(first), totals(second)
    if not before[:, 1:].sum():
        return None
    values = [float(f1(sums.sum(0)[None])[0]) for sums in (before, after)]
    if n < 2:
        return Difference(values[0], values[1], None, None)
    counts = rng.of(n)[0][:, :n] if isinstance(rng, Resampler) else _drawn(n, resamples, rng)
    differences = f1(counts @ after) - f1(counts @ before)
    low, high = np.quantile(differences, [0.025, 0.975])
    return Difference(values[0], values[1], float(low), float(high))


def _drawn(n: int, resamples: int, rng: np.random.Generator) -> DoubleArray:
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
