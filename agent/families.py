"""Families of tests of a campaign: which scores stand together, and the q-values of a family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorers.e_values import mixture_calibrator
from scorers.edges import METRIC as EDGE_METRIC
from scorers.error_rates import E_BH, q_values
from scorers.types import Score
from store.claim_rows import ClaimRow


@dataclass(frozen=True)
class Test:
    """One score of one claim in its family."""

    claim: ClaimRow
    score: Score
    score_id: int

    @property
    def p_value(self) -> float | None:
        if self.score.metric != EDGE_METRIC:
            return self.score.p_value
        # Against even attention, which is what the verdict asks; the other heads of a layer are too few to test with.
        return next((null.p_value for null in self.score.nulls if null.name == "uniform"), None)


def family_q_values(tests: Sequence[Test], p_values: Sequence[float], method: str) -> dict[int, float]:
    """q-values by score id.

    Controls are no part of the family. Theirs is the least rate at which a real claim with evidence as strong as theirs
    is accepted, so that they pass by the same standard.
    """
    e_values = [test.score.e_value for test in tests]
    real = [i for i, test in enumerate(tests) if test.claim.control is None]
    adjusted = q_values([p_values[i] for i in real], method, e_values=[e_values[i] for i in real])
    found = {tests[i].score_id: q for i, q in zip(real, adjusted, strict=True) if q is not None}

    def strength(i: int) -> float:
        e = e_values[i]
        if method != E_BH:
            return -p_values[i]
        return e if e is not None else float(mixture_calibrator(np.array([max(p_values[i], 1e-300)]))[0])

    for i, test in enumerate(tests):
        if test.claim.control is not None:
            passed = [found[tests[j].score_id] for j in real if strength(j) <= strength(i)]
            found[test.score_id] = min(passed, default=1.0 if real else p_values[i])
    return found
