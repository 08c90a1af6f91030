"""Figures of output halves against planted effects, on marks made for the test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.planted.effects import OutputMarks, summarise_outputs

RIGHT = OutputMarks("mlp:0:1+", "token set", False, 2.5, "changes", "supported", 2.9, 1.0, 0.8, 1e-4, 1.0, 1e-3)
INERT = OutputMarks(
    "mlp:0:2+", "inert look-alike", True, None, "nothing", "supported", None, None, None, None, None, None
)


def test_effects_units_without_any_and_doses_are_counted() -> None:
    found = summarise_outputs([
        RIGHT,
        replace(RIGHT, verdict="refuted", precision=0.5, recall=0.2, dose_p=0.5),
        replace(RIGHT, kind="nothing", shift=None, precision=None, recall=None, dose_p=None),
        INERT,
        replace(INERT, verdict="inconclusive"),
        replace(RIGHT, kind=None, verdict="untested"),
    ])  # fmt: skip
    assert found["described"] == 5
    assert found["inert"] == {"units": 2, "called": 1}
    assert found["false_none"] == {"units": 3, "false": 1}
    assert found["planted"]["found"] == 1
    assert found["planted"]["precision"] == pytest.approx(0.75)
    assert found["planted"]["recall"] == pytest.approx(0.5)
    assert found["dose"] == {"units": 3, "detected": 1}
    assert found["weak_dose"] == {"units": 3, "detected": 3}
    assert found["false_causal"] == {"claims": 1, "false": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        replace(INERT, kind="changes", shift=1.0),
        replace(INERT, kind="varies"),
        replace(INERT, kind="later"),
        replace(RIGHT, shift=0.01),
        replace(RIGHT, shift=-2.0),
    ],
)
def test_an_effect_that_is_not_there_is_a_false_claim_when_it_is_supported(wrong: OutputMarks) -> None:
    assert wrong.false_causal
    assert not replace(wrong, verdict="inconclusive").false_causal
    assert summarise_outputs([RIGHT, wrong])["false_causal"] == {"claims": 2, "false": 1}
