"""What `campaign show` says of a campaign's blind controls."""

from __future__ import annotations

from typing import Any

import pytest

from neurogloss.render.controls import controls_lines


def outcome(accepted: int, *, excess: bool, **changes: Any) -> dict[str, Any]:
    kinds = {
        "shuffled": {"controls": 4, "thrown_out": 1, "failed": 0, "claims": 6, "accepted": accepted},
        "constant": {"controls": 2, "thrown_out": 2, "failed": 0, "claims": 0, "accepted": 0},
    }
    controls = {
        "controls": 6, "thrown_out": 3, "failed": 0, "claims": 6, "accepted": accepted, "share": accepted / 6,
        "low": 0.0, "high": 0.4, "p_value": 0.00008, "excess": excess, "kinds": kinds,
    }  # fmt: skip
    return {
        "alpha": 0.05, "error_method": "bh", "claims": 30, "accepted_before": 22, "accepted": 20,
        "expected_false": 0.66, "expected_false_by_controls": 0.0, "controls": controls, **changes,
    }  # fmt: skip


def test_controls_are_told_by_kind_with_what_triage_threw_out() -> None:
    told, false = controls_lines(outcome(0, excess=False))
    assert told.plain == "controls: 0 of 6 accepted; shuffled 0 of 6; 3 thrown out by triage"
    assert "red" not in str(told.style) + str(told.spans)
    assert false.plain == "of the 20 accepted descriptions at most 0.7 are expected to be false (bh at 5 %)"


def test_too_many_accepted_controls_are_a_warning_in_red() -> None:
    told, warning, _ = controls_lines(outcome(5, excess=True))
    assert told.plain.startswith("controls: 5 of 6 accepted")
    assert "red" in str(told.spans)
    assert warning.style == "red"
    assert "More controls were accepted than an error rate of 5 % explains (p = 8e-05)" in warning.plain


@pytest.mark.parametrize("given", [None, {}, {"controls": {"controls": 0}}])
def test_an_open_campaign_and_one_without_controls_say_nothing(given: Any) -> None:
    assert controls_lines(given) == []
