"""Rival descriptions from elsewhere than the explainer: each competes with its own like any other."""

from __future__ import annotations

from collections.abc import Sequence

from agent.desk import Desk
from explainers.output.rivals import output_rivals
from explainers.predictors import MakesPredictors
from explainers.types import Evidence, Explanation


def further_rivals(desk: Desk, evidence: Evidence, known: Sequence[Explanation]) -> list[Explanation]:
    """What the campaign's other sources propose, without what was proposed already.

    They are rules, and are compared by them; where the explainer's descriptions must be read by a language model, or
    are values of a function, there are none.
    """
    if isinstance(desk.bench.explainer, MakesPredictors):
        return []
    found = output_rivals(evidence) if "output" in desk.bench.spec.rivals_from else []
    return [one for one in found if one.rule not in {other.rule for other in known}]
