"""From a description to the predictor that stands for it in tests: the explainer's own, or the description's rule."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from explainers.types import Explainer, Explanation, Predictor


@runtime_checkable
class MakesPredictors(Protocol):
    """An explainer whose descriptions are not, or not only, rules: it says itself how one becomes predictions."""

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """The predictor that stands for one of this explainer's descriptions; None when it predicts nothing.

        It must follow from the explanation's text, rule and JSON details alone, for an investigation that was cut off
        is resumed by another process.
        """
        ...


def predictor_of(explainer: Explainer | None, explanation: Explanation) -> Predictor | None:
    """The predictor that stands for a description. None when it predicts nothing.

    Args:
        explainer: Who wrote the description; asked first when it makes predictors (`MakesPredictors`). None when that
            is not known, as for a description read back from a file.
        explanation: The description; its rule predicts when the explainer makes no predictors.

    Raises:
        RuleError: The rule is not one.
    """
    if isinstance(explainer, MakesPredictors):
        return explainer.predictor(explanation)
    return None if explanation.rule is None else RulePredictor(parse_rule(explanation.rule))
