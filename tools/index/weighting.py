"""From blocks to weights: how a panel of contexts and the strongest blocks together stand for a whole split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tools.types import BoolArray, FloatArray, IntArray

#: Levels of `UnitStatistics.quantiles`, with the keys under which they are given.
QUANTILES = {key: float(key) for key in (
    "0.0005", "0.001", "0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99", "0.999", "0.9995",
)}  # fmt: skip

HISTOGRAM_BINS = 60

Weights = npt.NDArray[np.float64]


def weigh_panel(population: int, certain: int, panel_certain: BoolArray) -> tuple[float, bool]:
    """Weight of a panel token outside the blocks that are in the sample for certain (Horvitz-Thompson).

    Args:
        population: Tokens of the split.
        certain: Tokens of the certain blocks.
        panel_certain: Which panel tokens lie in certain blocks.

    Returns:
        The weight, and whether certain blocks inside the panel must give up their certainty: when they cover the
        whole panel, nothing else in it could stand for the rest of the split.
    """
    outside = int((~panel_certain).sum())
    if outside:
        return (population - certain) / outside, False
    if population == certain:
        return 1.0, False
    return (population - (certain - len(panel_certain))) / len(panel_certain), True


def weighted_quantiles(values: FloatArray, weights: Weights) -> dict[str, float]:
    """Smallest value at which the weighted distribution function reaches each level of `QUANTILES`."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # Relative to the last sum, so that rounding never asks for more than there is.
    at = np.searchsorted(reached, np.array(list(QUANTILES.values())) * reached[-1], side="left")
    found = values[order][np.minimum(at, len(values) - 1)]
    return {key: float(value) for key, value in zip(QUANTILES, found, strict=True)}


def weighted_histogram(values: FloatArray, weights: Weights, minimum: float, maximum: float,
                       tokens: int) -> tuple[tuple[float, ...], tuple[int, ...]]:  # fmt: skip
    """Edges of equal bins from minimum to maximum and estimated counts, rounded so that they add up to `tokens`."""
    if minimum == maximum:
        minimum, maximum = minimum - 0.5, maximum + 0.5
    edges = np.linspace(minimum, maximum, HISTOGRAM_BINS + 1)
    inside = np.clip(values.astype(np.float64), minimum, maximum)
    shares, _ = np.histogram(inside, bins=edges, weights=weights)
    shares *= tokens / shares.sum()
    counts = np.floor(shares).astype(np.int64)
    # Largest remainders take what rounding down has left over.
    left = tokens - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    return tuple(edges.tolist()), tuple(counts.tolist())


def block_key(contexts: IntArray, blocks: IntArray, blocks_per_context: int) -> IntArray:
    """One number for each (context, block)."""
    return contexts * blocks_per_context + blocks
