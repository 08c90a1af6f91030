"""Reports of campaigns that were really run: tiny ones, on a random model, with their blind controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import explainers.registry
import store
from agent.reporting import CampaignReport, State, campaign_report
from explainers.types import Evidence, Explanation, Recorder, TextSource
from scorers.simulation import SCORERS, score_simulation
from store.queries import control_rows
from tools.index.reader import SplitView
from tools.types import FloatArray, IntArray, Split

Run = Callable[..., Any]


class Memory:
    """Predicts what it was told of each position, and nothing anywhere else."""

    name = "memory"

    def __init__(self, known: dict[str, float]) -> None:
        self.known = known

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        places = zip(contexts.tolist(), positions.tolist(), strict=True)
        return np.array([self.known.get(f"{context},{position}", 0.0) for context, position in places], np.float32)


class Listing:
    """Describes a unit by a list of where it is active: on explore, or on the sealed split where it was leaked that."""

    name = "listing"

    def __init__(self, leaked: bool = False) -> None:
        self.leaked = leaked

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        view: Any = evidence.explore
        if self.leaked:
            # By foul means: the files of the other splits lie beside those of this one.
            view = type(view)(SplitView(view._contents, Split.SCORE), view._cast)
        sample = view.sample(evidence.unit)
        values = evidence.sign * sample.values
        known = {
            f"{int(context)},{int(position)}": float(value)
            for context, position, value in zip(sample.contexts, sample.positions, values, strict=True)
            if value > evidence.threshold
        }
        return [Explanation(self.name, "a list", "Where it was.", None, None, None, {"known": known, "literals": 1})]

    def predictor(self, explanation: Explanation) -> Memory:
        return Memory(explanation.details["known"])


def gullible(*given: Any, **options: Any) -> Any:
    """Finds everything excellent, whatever the ordinary scorer says."""
    return tuple(
        replace(score, value=0.97, low=0.9, high=1.0, null_mean=0.02, p_value=0.0005, nulls=(), reason=None)
        for score in score_simulation(*given, **options)
    )


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    explainers.registry.names()
    explainers.registry._factories["listing"] = Listing
    SCORERS.add("believing", gullible)
    yield
    del explainers.registry._factories["listing"]
    del SCORERS._entries["believing"]


@pytest.fixture
def report_of(run: Run, tmp_path: Path) -> Callable[..., CampaignReport]:
    """Runs the tiny campaign with some settings changed, and reports on it."""

    def go(**changes: Any) -> CampaignReport:
        summary, _ = run(**{"explainer": "listing", "units": ["mlp:1:0-5"], **changes})
        assert summary.status == "done"
        with store.open_database(tmp_path / "ng.db") as db:
            return campaign_report(db, summary.campaign)

    return go


def state(report: CampaignReport, key: str) -> State:
    return next(one.state for one in report.checks if one.key == key)


def test_a_report_has_every_unit_and_control_of_the_campaign(
    report_of: Callable[..., CampaignReport], tmp_path: Path
) -> None:
    report = report_of(controls=0.5, explainer="pattern", units=["mlp:1:0-1"])
    with store.open_database(tmp_path / "ng.db") as db:
        controls = control_rows(db, "tiny")
        spent = store.list_campaigns(db)[0]
    assert controls
    assert sum(report.counts.controls.values()) == len(controls)
    assert sum(report.counts.units.values()) == 2
    assert report.counts.controls == {
        kind: [c.control for c in controls].count(kind) for kind in report.counts.controls
    }
    assert state(report, "finished") is State.PASSED
    assert state(report, "seal") is State.PASSED
    assert state(report, "costs") is State.PASSED
    assert report.cost.total.seconds == pytest.approx(spent.seconds)
    assert report.cost.total.tool_calls == spent.tool_calls
    assert report.cost.total.forward_passes > 0
    accepted = {row.unit for row in controls if row.accepted}
    assert {claim.unit for claim in report.claims if claim.control and claim.accepted} == accepted


def test_a_campaign_without_controls_is_amber_at_best(report_of: Callable[..., CampaignReport]) -> None:
    report = report_of(controls=0)
    assert report.counts.controls == {}
    assert state(report, "controls_accepted") is State.NOT_APPLICABLE
    assert report.colour != "green"


def test_an_honest_campaign_in_which_nothing_is_found_is_not_red(report_of: Callable[..., CampaignReport]) -> None:
    report = report_of(controls=1.0)
    assert report.colour != "red", report.why
    assert report.errors.accepted == 0
    assert state(report, "controls_accepted") is State.PASSED


def test_a_gullible_scorer_turns_the_report_of_its_campaign_red(report_of: Callable[..., CampaignReport]) -> None:
    report = report_of(controls=1.0, scorer="believing")
    assert report.colour == "red"
    assert state(report, "controls_accepted") is State.FAILED
    assert state(report, "leak") is State.FAILED
    assert report.errors.by_controls is not None
    assert report.errors.by_controls.share > 0.5


def test_a_leaking_explainer_turns_the_report_of_its_campaign_red(report_of: Callable[..., CampaignReport]) -> None:
    report = report_of(controls=1.0, explainer_options={"leaked": True})
    assert report.colour == "red"
    assert state(report, "controls_accepted") is State.FAILED
    assert state(report, "leak") is State.FAILED
    shares = {one.kind: one.accepted for one in report.scores.populations}
    assert shares["direction"].count == shares["direction"].total > 0
    # What it was leaked of one unit does not help it with another.
    assert shares["swapped"].count == 0
