"""Trends over doses, and where a unit stands among its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

#: Orders of the doses that are drawn for a p-value.
PERMUTATIONS = 4000


def slope(amounts: Sequence[float], responses: Floats) -> Floats:
    """Least-squares slope of responses [..., amount] over the amounts, [...]."""
    x = np.asarray(amounts, dtype=np.float64)
    x = x - x.mean()
    return np.asarray((np.asarray(responses, dtype=np.float64) * x).sum(-1) / (x * x).sum())


def trend(amounts: Sequence[float], responses: Floats, sign: int, seed: int = 0) -> tuple[float, float]:
    """Whether responses rise (sign +1) or fall (-1) with the dose, in one text after the other.

    Page's test for ordered alternatives (Page 1963): within each text the responses are ranked, and the ranks are
    compared with those of the doses. The p-value is that of orders drawn at random within each text.

    Args:
        amounts: The doses, all different.
        responses: [text, amount].
        sign: The direction that is tested.
        seed: Of the orders.

    Returns:
        The mean over texts of Spearman's correlation between dose and response, and the one-sided p-value.
    """
    doses = _ranks(np.asarray(amounts, dtype=np.float64)[None])[0]
    ranks = _ranks(np.asarray(responses, dtype=np.float64))
    doses, ranks = doses - doses.mean(), ranks - ranks.mean(-1, keepdims=True)
    spread = np.sqrt((ranks**2).sum(-1) * (doses**2).sum())
    found = float(np.mean(np.divide(ranks @ doses, spread, out=np.zeros(len(ranks)), where=spread > 0)))
    generator = np.random.default_rng(seed)
    observed = sign * float((ranks @ doses).sum())
    null = np.zeros(PERMUTATIONS)
    for row in ranks:
        orders = generator.permuted(np.tile(doses, (PERMUTATIONS, 1)), axis=1)
        null += sign * (orders @ row)
    return found, float((1 + (null >= observed - 1e-9).sum()) / (PERMUTATIONS + 1))


def _ranks(values: Floats) -> Floats:
    """Ranks along the last axis; ties share their mean rank."""
    smaller = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return np.asarray(smaller + (equal - 1) / 2.0, dtype=np.float64)


def p_value(observed: float, null: Floats) -> float:
    """Share of a null at least as large, the observed value counted in: never 0 (Phipson & Smyth 2010)."""
    return float((1 + (null >= observed).sum()) / (1 + len(null)))


def percentile(observed: float, null: Floats) -> float:
    """Per cent of a null below the observed value, ties counted half; 50 where there is no null."""
    if not len(null):
        return 50.0
    return float(100 * ((null < observed).mean() + 0.5 * (null == observed).mean()))
