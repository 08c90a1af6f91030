from __future__ import annotations

import numpy as np
import pytest

from explainers.predictors import predictor_of
from explainers.rules.ast import RuleError
from explainers.types import Evidence, Explanation, Predictor, Recorder, TextSource
from tools.types import FloatArray, IntArray

RULE = 'rule v1\n2.0 if token in {" the"}\nelse 0.0\n'


def explanation(rule: str | None) -> Explanation:
    return Explanation("someone", "label", "Fires on something.", None, rule, None, {"level": 5.0})


class Texts:
    def pieces(self, context: int) -> list[str]:
        return ["on", " the", " mat"]


class Always:
    name = "always"

    def __init__(self, level: float):
        self.level = level

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        return np.full(len(contexts), self.level, np.float32)


class Wordy:
    """An explainer that makes its own predictors."""

    name = "wordy"

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        raise NotImplementedError

    def predictor(self, explanation: Explanation) -> Predictor | None:
        return Always(explanation.details["level"]) if explanation.rule is None else None


class Plain:
    """An explainer that leaves it to its rules."""

    name = "plain"

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        raise NotImplementedError


@pytest.mark.parametrize("explainer", [None, Plain()])
def test_a_rule_predicts_for_an_explainer_that_makes_no_predictors(explainer: Plain | None) -> None:
    predictor = predictor_of(explainer, explanation(RULE))
    assert predictor is not None
    assert predictor.predict(Texts(), np.zeros(3, int), np.arange(3)).tolist() == [0.0, 2.0, 0.0]


@pytest.mark.parametrize("explainer", [None, Plain()])
def test_without_a_rule_nothing_is_predicted(explainer: Plain | None) -> None:
    assert predictor_of(explainer, explanation(None)) is None


def test_an_explainer_that_makes_predictors_is_asked_first() -> None:
    assert predictor_of(Wordy(), explanation(RULE)) is None
    predictor = predictor_of(Wordy(), explanation(None))
    assert predictor is not None
    assert predictor.predict(Texts(), np.zeros(1, int), np.zeros(1, int)).tolist() == [5.0]


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(RuleError):
        predictor_of(None, explanation("rule v1\n2.0 if nonsense\nelse 0\n"))
