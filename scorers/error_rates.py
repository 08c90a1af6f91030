"""Error rates over many claims: q-values by Benjamini-Hochberg, Benjamini-Yekutieli, Storey and e-BH.

A claim with q-value q belongs to a set of claims of which, on average, at most the share q is false. Claims without a
p-value or e-value (untested) take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from scorers.e_values import e_q_values, mixture_calibrator
from scorers.errors import ScorerError
from scorers.types import DoubleArray, Score


def benjamini_hochberg(p_values: DoubleArray) -> DoubleArray:
    """Adjusted p-values; valid for independent or positively dependent tests (Benjamini & Hochberg 1995)."""
    return np.asarray(stats.false_discovery_control(p_values, method="bh"), dtype=np.float64)


def benjamini_yekutieli(p_values: DoubleArray) -> DoubleArray:
    """Adjusted p-values; valid under any dependence, sum(1/i) times larger (Benjamini & Yekutieli 2001)."""
    return np.asarray(stats.false_discovery_control(p_values, method="by"), dtype=np.float64)


def true_null_share(p_values: DoubleArray, cut: float = 0.5) -> float:
    """Estimated share of claims that are false, from p-values above `cut`, where few true claims lie.

    (1 + #{p > cut}) / (m (1 - cut)), at most 1: the finite-sample form of Storey, Taylor & Siegmund 2004 (eq. 8), which
    keeps the false discovery rate controlled.
    """
    return min(1.0, float((1 + (p_values > cut).sum()) / (len(p_values) * (1 - cut))))


def storey(p_values: DoubleArray) -> DoubleArray:
    """Storey's q-values: Benjamini-Hochberg times the estimated share of false claims (Storey 2002)."""
    return benjamini_hochberg(p_values) * true_null_share(p_values)


METHODS: dict[str, Callable[[DoubleArray], DoubleArray]] = {
    "bh": benjamini_hochberg,
    "by": benjamini_yekutieli,
    "storey": storey,
}


E_BH = "e-bh"
ERROR_METHODS = (*METHODS, E_BH)
"""Names of all ways to set q-values: those on p-values, and e-BH on e-values."""


def q_values(
    p_values: Sequence[float | None], method: str = "bh", *, e_values: Sequence[float | None] | None = None
) -> list[float | None]:
    """q-values in the order given; None stays None and does not count as a test.

    Args:
        p_values: one p-value per claim, one metric only: the claims are the family, not their metrics.
        method: one of `ERROR_METHODS`. 'bh', 'by' and 'storey' use the p-values. 'e-bh' uses the e-values (Wang &
            Ramdas 2022); the p-value of a claim that has no e-value is calibrated, at a great loss (see
            `scorers.e_values`): e-BH is for claims that were tested sequentially.
        e_values: one per claim; looked at by 'e-bh' only.

    Raises:
        ScorerError: unknown method, a p-value outside [0, 1], a negative e-value, lengths that differ.
    """
    if method not in ERROR_METHODS:
        raise ScorerError(f"There is no error-rate method '{method}'. Known: {', '.join(ERROR_METHODS)}.")
    if any(p is not None and not 0 <= p <= 1 for p in p_values):
        raise ScorerError("p-values must lie between 0 and 1.")
    if method == E_BH:
        return _from_e_values(p_values, [None] * len(p_values) if e_values is None else e_values)
    tested = np.array([p for p in p_values if p is not None], dtype=np.float64)
    adjusted = iter(METHODS[method](tested).tolist() if len(tested) else [])
    return [None if p is None else next(adjusted) for p in p_values]


def _from_e_values(p_values: Sequence[float | None], e_values: Sequence[float | None]) -> list[float | None]:
    if len(p_values) != len(e_values):
        raise ScorerError(f"{len(p_values)} p-values and {len(e_values)} e-values are not of the same claims.")
    evidence = [
        e if e is not None or p is None else float(mixture_calibrator(np.array([max(p, 1e-300)]))[0])
        for p, e in zip(p_values, e_values, strict=True)
    ]
    adjusted = iter(e_q_values([e for e in evidence if e is not None]).tolist())
    return [None if e is None else next(adjusted) for e in evidence]


def with_q_values(scores: Sequence[Score], method: str = "bh") -> list[Score]:
    """The same scores with `q_value` set; every metric is a family of its own."""
    result = list(scores)
    for metric in {score.metric for score in scores}:
        members = [i for i, score in enumerate(scores) if score.metric == metric]
        found = q_values([scores[i].p_value for i in members], method, e_values=[scores[i].e_value for i in members])
        for i, q in zip(members, found, strict=True):
            result[i] = replace(result[i], q_value=q)
    return result
