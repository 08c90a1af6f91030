from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scorers.error_rates import with_q_values
from scorers.errors import ScorerError
from scorers.types import Null, Score
from scorers.verdict import Verdict, VerdictRule, judge

ROTATION = Null("rotation", 0.7, 0.02, 0.05, 1e-4, 9999)
PAIRING = Null("pairing", 0.7, 0.05, 0.2, 0.01, 99)
GOOD = Score(
    "simulation",
    "f1",
    0.7,
    0.6,
    0.8,
    5000,
    200,
    80,
    0.02,
    1e-4,
    "score",
    "rule",
    "hash",
    True,
    nulls=(ROTATION, PAIRING),
)


def verdict(**changes: Any) -> tuple[Verdict, str]:
    judgement = judge([replace(GOOD, **changes)])
    return judgement.verdict, "; ".join(judgement.reasons)


def test_a_claim_that_passes_everything_is_supported() -> None:
    assert verdict()[0] is Verdict.SUPPORTED
    assert judge([GOOD]).reasons == ("f1 0.70 [0.60, 0.80] reaches 0.5 and stays above 0.3",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"value": 0.45, "low": 0.35}, "does not reach 0.5"),
        ({"low": 0.2}, "reaches down below 0.3"),
        ({"p_value": 0.2}, "p = 0.2 against chance"),
        ({"q_value": 0.3}, "q = 0.3 against chance"),
        ({"p_value": None, "nulls": ()}, "no p-value"),
        ({"nulls": (ROTATION, replace(PAIRING, p_value=0.4))}, "fits other units as well"),
        ({"low": None, "high": None}, "single document"),
    ],
)
def test_a_claim_that_fails_one_condition_is_inconclusive_and_says_which(changes: dict[str, Any], why: str) -> None:
    found, reasons = verdict(**changes)
    assert found is Verdict.INCONCLUSIVE
    assert why in reasons


def test_data_that_exclude_a_useful_value_refute() -> None:
    assert verdict(value=0.1, low=0.05, high=0.2)[0] is Verdict.REFUTED
    # A wide interval refutes nothing, however low the value.
    assert verdict(value=0.0, low=0.0, high=0.6)[0] is Verdict.INCONCLUSIVE


def test_an_undefined_or_missing_score_leaves_the_claim_untested() -> None:
    assert verdict(value=None, reason="the unit is active at no sampled position") == (
        Verdict.UNTESTED,
        "f1 is undefined: the unit is active at no sampled position",
    )
    assert judge([]).verdict is Verdict.UNTESTED
    assert judge([replace(GOOD, metric="auroc")]).verdict is Verdict.UNTESTED


def test_too_few_other_units_cannot_speak_against_a_claim() -> None:
    few = Null("pairing", 0.7, 0.05, 0.2, 0.5, 7)
    assert verdict(nulls=(ROTATION, few))[0] is Verdict.SUPPORTED


def test_a_verdict_on_data_that_the_explainer_saw_is_refused() -> None:
    with pytest.raises(ScorerError, match="not on 'explore'"):
        judge([replace(GOOD, split="explore")])
    with pytest.raises(ScorerError, match="one f1 score"):
        judge([GOOD, GOOD])


def test_thresholds_are_the_rule_s() -> None:
    assert judge([GOOD], VerdictRule(target=0.9)).verdict is Verdict.INCONCLUSIVE
    assert judge([GOOD], VerdictRule(floor=0.85, target=0.9)).verdict is Verdict.REFUTED


def test_verdicts_are_revised_by_the_q_values_of_the_campaign() -> None:
    # p = 0.03 supports one claim; among a hundred like it, nearly all of them by chance, it does not.
    claim = replace(GOOD, p_value=0.03)
    assert judge([claim]).verdict is Verdict.SUPPORTED
    others = [replace(GOOD, p_value=p / 100) for p in range(1, 100)]
    revised = with_q_values([claim, *others])[0]
    assert revised.q_value is not None
    assert revised.q_value > 0.05
    assert judge([revised]).verdict is Verdict.INCONCLUSIVE
    assert "q = " in judge([revised]).reasons[0]


def test_e_values_decide_where_the_campaign_controls_errors_by_them() -> None:
    weak, strong = replace(GOOD, e_value=30.0), replace(GOOD, e_value=5000.0)
    rest = [replace(GOOD, e_value=1.0, p_value=0.6)] * 98
    done = with_q_values([weak, strong, *rest], "e-bh")
    assert judge([done[0]]).verdict is Verdict.INCONCLUSIVE
    assert judge([done[1]]).verdict is Verdict.SUPPORTED


def test_an_e_value_stands_in_for_a_p_value_that_is_not_there() -> None:
    assert verdict(p_value=None, e_value=100.0)[0] is Verdict.SUPPORTED
    found, reasons = verdict(p_value=None, e_value=5.0)
    assert found is Verdict.INCONCLUSIVE
    assert "1/e = 0.2 against chance" in reasons
