"""Contents compared: claim by claim, and number by number."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agent.claim_changes import agreement, claim_changes


def content(**changes: Any) -> dict[str, Any]:
    row = {
        "polarity": "+", "rank": 1, "superseded": False, "label": "the article", "input_half": "fires on it",
        "output_half": None, "exceptions": None, "rule": "r", "verdict_input": "supported",
        "verdict_output": "untested", "claim": "abc",
        "scores": [
            {"metric": "weighted_f1", "headline": True, "split": "score", "value": 0.8, "low": 0.7, "high": 0.9},
            {"metric": "auroc", "headline": False, "split": "score", "value": 0.9, "low": 0.8, "high": 0.95},
        ],
        **changes,
    }  # fmt: skip
    control = copy.deepcopy(row)
    return {
        "investigations": {
            "f00d mlp:0:1": {"control": None, "descriptions": [row, {**row, "rank": 2, "label": "a runner-up"}]},
            "f00d control:x:1": {"control": "swapped", "descriptions": [control]},
        }
    }


def test_the_same_claims_have_no_changes() -> None:
    assert claim_changes(content(), content()) == []


def test_a_change_is_told_with_both_of_its_ends() -> None:
    [found] = claim_changes(content(), content(label="articles", verdict_input="refuted"))
    assert (found.unit, found.kind) == ("mlp:0:1+", "changed")
    assert [(one.what, one.before, one.after) for one in found.changes] == [
        ("label", "the article", "articles"),
        ("verdict_input", "supported", "refuted"),
    ]


def test_a_headline_score_is_told_with_its_interval_and_others_are_not() -> None:
    new = content()
    scores = new["investigations"]["f00d mlp:0:1"]["descriptions"][0]["scores"]
    scores[0]["value"], scores[1]["value"] = 0.75, 0.1
    [found] = claim_changes(content(), new)
    assert [(one.what, one.before, one.after) for one in found.changes] == [
        ("weighted_f1", [0.8, 0.7, 0.9], [0.75, 0.7, 0.9])
    ]


def test_claims_that_are_gone_or_new_are_told() -> None:
    without: dict[str, Any] = {"investigations": {}}
    assert [(one.unit, one.kind) for one in claim_changes(content(), without)] == [("mlp:0:1+", "gone")]
    assert [(one.unit, one.kind) for one in claim_changes(without, content())] == [("mlp:0:1+", "new")]


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        (1.0, 1.0 + 9e-6, True),
        (1.0, 1.0 + 2e-5, False),
        (1000.0, 1000.009, True),  # relative, above 1
        (1000.0, 1000.02, False),
        (0.0, 9e-6, True),
        ("f1 0.42 [0.38, 0.57]", "f1 0.43 [0.38, 0.57]", True),  # the last digit that is shown
        ("f1 0.42 [0.38, 0.57]", "f1 0.44 [0.38, 0.57]", False),
        ("p 4e-05", "p 5e-05", True),
        ("12 rules", "13 rules", False),
        ("supported", "refuted", False),
        (True, False, False),
        (None, 0.0, False),
        ([1, 2], [1, 2, 3], False),
    ],
)
def test_numbers_may_differ_a_little_and_nothing_else(old: object, new: object, agree: bool) -> None:
    assert (agreement({"x": old}, {"x": new}, 1e-5).differences == []) is agree


def test_the_largest_difference_is_told_and_digests_are_passed_over() -> None:
    found = agreement({"a": 1.0, "b": [0.5, 2.0], "digest": "x"}, {"a": 1.0, "b": [0.5, 2.000004], "digest": "y"}, 1e-5)
    assert found.differences == []
    assert found.largest == pytest.approx(2e-6, rel=1e-3)


def test_rows_are_compared_by_what_names_them() -> None:
    rows = [{"position": 1, "value": 0.1}, {"position": 0, "value": 0.2}]
    assert agreement({"rows": rows}, {"rows": rows[::-1]}, 1e-5).differences == []
