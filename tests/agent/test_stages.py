"""Several explainers in turn: who is asked, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from agent.accounts import StoreAccount, StoreAccounts
from agent.stages import StagedExplainer, StageOf
from explainers.llm.accounts import charged_to, current_account
from explainers.llm.types import AnswerError
from explainers.types import Evidence, Explainer, Explanation, NullRecorder


@dataclass
class Fixed:
    """Says always the same; counts how often it is asked."""

    name: str
    f1: float | None
    fails: bool = False
    asked: int = 0
    predictions: list[str] = field(default_factory=list)

    def explain(self, evidence: Evidence, recorder: Any) -> list[Explanation]:
        self.asked += 1
        if self.fails:
            raise AnswerError("nonsense")
        return [Explanation(self.name, self.name, "fires", None, None, None, {"f1": self.f1})]

    def predictor(self, explanation: Explanation) -> Any:
        self.predictions.append(explanation.label)


def marked(rivals: Sequence[Explanation], evidence: Evidence, explainer: Explainer) -> list[float | None]:
    return [rival.details["f1"] for rival in rivals]


def explained(*stages: tuple[Fixed, float | None]) -> tuple[StagedExplainer, list[Explanation]]:
    made = StagedExplainer([StageOf(explainer, below) for explainer, below in stages], marked)
    evidence = cast("Evidence", type("E", (), {"polarity": "+"})())
    return made, made.explain(evidence, NullRecorder())


def test_a_dear_explainer_is_not_asked_when_the_cheap_one_does_well() -> None:
    dear = Fixed("dear", 0.99)
    _, rivals = explained((Fixed("cheap", 0.8), None), (dear, 0.6))
    assert dear.asked == 0
    assert [rival.label for rival in rivals] == ["cheap"]
    assert rivals[0].details["stages"] == [
        {"stage": 1, "explainer": "cheap", "ran": True, "f1_before": None, "f1_after": 0.8},
        {"stage": 2, "explainer": "dear", "ran": False, "f1_before": 0.8, "f1_after": 0.8},
    ]


def test_it_is_asked_when_there_is_room_and_all_rivals_are_kept() -> None:
    _, rivals = explained((Fixed("cheap", 0.3), None), (Fixed("dear", 0.2), 0.6))
    assert [rival.label for rival in rivals] == ["cheap", "dear"]
    assert rivals[0].details["stages"][1]["f1_after"] == 0.3


def test_a_stage_without_a_mark_leaves_room() -> None:
    dear = Fixed("dear", 0.7)
    _, rivals = explained((Fixed("cheap", None), None), (dear, 0.1))
    assert dear.asked == 1
    assert rivals[0].details["stages"][1] == {
        "stage": 2, "explainer": "dear", "ran": True, "f1_before": None, "f1_after": 0.7,
    }  # fmt: skip


def test_a_later_stage_that_fails_is_on_record_and_takes_nothing_away() -> None:
    _, rivals = explained((Fixed("cheap", 0.3), None), (Fixed("dear", 1.0, fails=True), None))
    assert [rival.label for rival in rivals] == ["cheap"]
    assert rivals[0].details["stages"][1]["failed"] == "nonsense"
    with pytest.raises(AnswerError):
        explained((Fixed("dear", 1.0, fails=True), None), (Fixed("cheap", 0.3), None))


def test_two_stages_of_one_explainer_are_charged_apart() -> None:
    class Asking(Fixed):
        """Notes on whose account it is asked."""

        def explain(self, evidence: Any, recorder: Any) -> list[Explanation]:
            charged.append(cast("StoreAccount", current_account()).asker)
            return super().explain(evidence, recorder)

    charged: list[str | None] = []
    account = StoreAccounts(cast("Any", None), 1).of(1, asker="stages")
    with charged_to(account):
        _, rivals = explained((Asking("cheap", 0.3), None), (Asking("other", 0.2), None), (Asking("cheap", 0.4), None))
    assert charged == ["cheap (1)", "other", "cheap (2)"]
    assert [row.get("asker") for row in rivals[0].details["stages"]] == ["cheap (1)", None, "cheap (2)"]


def test_each_description_is_turned_into_predictions_by_its_author() -> None:
    cheap, dear = Fixed("cheap", 0.3), Fixed("dear", 0.9)
    staged, rivals = explained((cheap, None), (dear, None))
    for rival in rivals:
        staged.predictor(rival)
    assert (cheap.predictions, dear.predictions) == (["cheap"], ["dear"])
