"""Small statistics that causal tools share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


def ratio(numerators: npt.NDArray[Any], denominators: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Sum over sum, with its standard error from clusters (Cochran 1977, "Sampling Techniques", eq. 6.13).

    Args:
        numerators: [cluster, ...]; a cluster is what was sampled by itself: a text, a pair of prompts.
        denominators: [cluster], or of the numerators' shape.

    Returns:
        The ratio and its standard error, both of the numerators' trailing shape; the error is NaN for a single cluster,
        and both are where the denominators sum to 0.
    """
    top = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    below = np.broadcast_to(below.reshape(below.shape + (1,) * (top.ndim - below.ndim)), top.shape)
    n = len(top)
    total = below.sum(0)
    known = total != 0
    value = np.divide(top.sum(0), total, out=np.full(total.shape, np.nan), where=known)
    if n < 2:
        return value, np.full(value.shape, np.nan)
    spread = np.sqrt(((top - value * below) ** 2).sum(0) * n / (n - 1))
    return value, np.divide(spread, np.abs(total), out=np.full(total.shape, np.nan), where=known)


def ranks(values: npt.NDArray[Any]) -> Array:
    """Ranks from 1, ties sharing the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Array = (last - counts + 1 + last) / 2
    return means[inverse.reshape(-1)]


def rank_correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float | None:
    """Spearman's: Pearson's correlation of ranks. None where one of them is constant, or there are fewer than 3."""
    first, second = ranks(np.ravel(a)), ranks(np.ravel(b))
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def divergence(clean: Tensor, other: Tensor) -> Tensor:
    """KL(clean || other) in nats, [...], of log-probabilities [..., vocabulary].

    As the sum of p (q / p - 1 - log(q / p)), whose terms are all 0 or more, so that small divergences survive float32.
    """
    change = other - clean
    return (clean.exp() * (torch.expm1(change) - change)).sum(-1)
