"""Verdicts follow from the rows that count, and from nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from agent import load_spec, run_campaign
from agent.judging import check, judge
from store import schema
from store.claim_rows import CampaignEvidence, ClaimRow, ClaimScore, ClaimTest, Withdrawn
from store.queries.citations import Ref, parse_ref
from store.records import (
    DescriptionRecord,
    ExperimentRecord,
    HypothesisRecord,
    InvestigationResult,
    ObservationRecord,
    SubjectRecord,
    UnitRecord,
)

Open = Callable[[], store.Database]


def claim(number: int = 1, f1: float = 0.8, **changes: Any) -> ClaimRow:
    """A claim that its F1 supports, tested by one experiment."""
    row = ClaimScore(
        score_id=number, metric="weighted_f1", value=f1, low=f1 - 0.1, high=f1 + 0.1, null_mean=0.05, p=0.001, q=None,
        e=None, headline=True, n_examples=500, n_documents=90, unparseable=0.0, protocol_hash="h", predictor="rule",
    )  # fmt: skip
    beside = [{"metric": "weighted_f1", "scorer": "simulation", "n_active": 32, "reason": None, "nulls": []}]
    details = {
        "scores": beside, "explainer": {}, "support": 1, "output": {"reason": "it claims nothing"},
        "verdict": {"input": "refuted", "output": "supported", "reasons": ["as it was"], "output_reasons": []},
    }  # fmt: skip
    values: dict[str, Any] = {
        "description_id": number, "investigation_id": number, "unit": f"mlp:1:{number}", "group": "mlp:1",
        "kind": "mlp", "polarity": "+", "control": None, "control_of": None, "label": "l", "input_half": "i",
        "rule": None, "explainer": "pattern", "verdict_input": "refuted", "verdict_output": "supported",
        "output_kind": None, "density": 0.01, "scores": {"weighted_f1": row}, "refine_f1": None, "status": "done",
        "reason": None, "seconds": 1.0, "tool_calls": 1, "forward_passes": 1, "tokens": 0, "details": details,
        "tests": (ClaimTest(4, 2, "token edits", "supported", None),),
    }  # fmt: skip
    return ClaimRow(**{**values, **changes})


def judged(*claims: ClaimRow, status: str = "open") -> dict[int, Any]:
    return dict(judge(CampaignEvidence("c", status, {}, list(claims), [])).verdicts)


@pytest.mark.parametrize("status", ["open", "done"])
def test_a_verdict_follows_from_scores_and_not_from_the_one_before(status: str) -> None:
    found = judged(claim(1), claim(2, f1=0.1), status=status)
    assert (found[1]["input"], found[2]["input"]) == ("supported", "refuted")
    assert found[1]["output"] == "untested"


@pytest.mark.parametrize("status", ["open", "done"])
def test_without_its_score_a_claim_is_untested_and_says_which_was_withdrawn(status: str) -> None:
    found = judged(claim(scores={}, withdrawn=(Withdrawn("score:1", "weighted_f1", "wrong corpus"),)), status=status)
    assert found[1]["input"] == "untested"
    assert found[1]["reasons"][-1] == "weighted_f1 (score:1) was withdrawn: wrong corpus"


@pytest.mark.parametrize("status", ["open", "done"])
def test_what_experiments_supported_is_inconclusive_without_them(status: str) -> None:
    gone = ClaimTest(4, 2, "token edits", "supported", "cut off")
    other = ClaimTest(5, 2, "token edits", "supported", None)
    assert judged(claim(tests=(gone, other)), status=status)[1]["input"] == "supported"
    withdrawn = judged(claim(tests=(gone,)), status=status)[1]
    assert withdrawn["input"] == "inconclusive"
    assert "was withdrawn (observation:4, cut off)" in withdrawn["reasons"][-1]
    deleted = judged(claim(tests=()), status=status)[1]
    assert deleted["input"] == "inconclusive"
    assert "is not in the database any more" in deleted["reasons"][-1]
    never = claim(tests=())
    assert judged(replace(never, details={**never.details, "support": 0}), status=status)[1]["input"] == "supported"


def test_a_refuted_claim_stays_refuted_without_its_support() -> None:
    assert judged(claim(f1=0.1, tests=()))[1]["input"] == "refuted"


def test_the_family_of_a_closed_campaign_is_what_is_left_of_it() -> None:
    """Benjamini-Hochberg by hand: p = 0.04 is 0.04 alone, and 0.08 beside one of 0.9."""
    weak = claim(1)
    weak = replace(weak, scores={"weighted_f1": replace(weak.scores["weighted_f1"], p=0.04)})
    none = claim(2)
    none = replace(none, scores={"weighted_f1": replace(none.scores["weighted_f1"], p=0.9)})
    both = judge(CampaignEvidence("c", "done", {}, [weak, none], []))
    assert both.q_values[1] == pytest.approx(0.08)
    assert both.verdicts[1]["input"] == "inconclusive"
    alone = judge(CampaignEvidence("c", "done", {}, [weak, replace(none, scores={})], []))
    assert alone.q_values == {1: pytest.approx(0.04)}
    assert alone.verdicts[1]["input"] == "supported"
    assert alone.outcome is not None
    assert (alone.outcome["accepted"], alone.outcome["claims"]) == (1, 2)


@pytest.fixture
def contested(tmp_path: Path) -> Iterator[store.Database]:
    """A rival that two trials refute together: log e-value 2.5 + 1.5, against log 20 = 3.0."""
    with store.open_database(tmp_path / "contested.db") as db:
        subject = store.register_subject(db, SubjectRecord("tiny", "f00d"))
        made = store.create_campaign(db, "first", {"contest": {"alpha": 0.05}}, "hash", subject_id=subject)
        store.add_investigations(db, made.id, subject, ["mlp:0:1"])
        job = store.lease_next(db, made.id, "test", 60)
        assert job is not None
        dropped = {"dropped": "dropped: refuted by trials: e-value 54.6 at alpha 0.05"}
        trials = [
            ExperimentRecord(
                "probe",
                observations=[ObservationRecord("told", {"log_likelihood_ratio": ratio}, "+2", "inconclusive")],
            )
            for ratio in (-2.5, -1.5)
        ]
        rivals = [
            HypothesisRecord("+1", "+", "pattern", "a", "a", status="supported"),
            HypothesisRecord("+2", "+", "pattern", "b", "b", status="dropped", details=dropped),
        ]
        claim = DescriptionRecord("+", "a", "a", "pattern", "c1", verdict_input="supported", hypothesis="+1")
        store.finish(
            db, job, InvestigationResult(UnitRecord("mlp:0:1"), hypotheses=rivals, experiments=trials,
                                         descriptions=[claim]),
        )  # fmt: skip
        yield db


@pytest.mark.parametrize("which", ["experiment:1", "observation:2"])
def test_a_rival_is_dropped_no_longer_when_what_refuted_it_is_withdrawn(contested: store.Database, which: str) -> None:
    before = store.content_hash(contested, "first")
    found = store.withdraw(contested, parse_ref(which), "cut off", judge)
    assert [(one.key, one.before, one.after) for one in found.rivals] == [("+2", "dropped", "inconclusive")]
    assert {row.key: row.status for row in store.unit_page(contested, "mlp:0:1").hypotheses}["+2"] == "inconclusive"
    assert check(contested, "first").differences == ()
    back = store.reinstate(contested, parse_ref(which), "it was whole", judge)
    assert [(one.before, one.after) for one in back.rivals] == [("inconclusive", "dropped")]
    assert store.content_hash(contested, "first") == before


@pytest.fixture(scope="module")
def _finished(tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judged") / "ng.db"
    spec = load_spec(None, {**tiny, "units": ["mlp:1:0-2", "head:1:0"], "controls": 0.1})
    summary = run_campaign(spec, db=path, home=tiny_home)
    assert summary is not None
    assert summary.status == "done"
    return path


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A copy of a database with a finished campaign."""
    return Path(shutil.copy(_finished, tmp_path / "ng.db"))


@pytest.mark.slow
def test_what_a_campaign_stored_follows_from_its_rows(finished: Path) -> None:
    with store.open_database(finished) as db:
        found = check(db, "tiny")
        assert (found.differences, found.written, found.withdrawn) == ((), False, 0)
        assert found.claims >= 4
        before = store.content_hash(db, "tiny")
        store.judge_campaign(db, store.get_campaign(db, "tiny").id, judge)
        assert store.content_hash(db, "tiny") == before


@pytest.mark.slow
def test_withdrawing_and_putting_back_changes_nothing_in_the_end(finished: Path) -> None:
    with store.open_database(finished) as db:
        before = store.content_hash(db, "tiny")
        claims = [row for row in store.campaign_evidence(db, "tiny") if "weighted_f1" in row.scores]
        score = Ref("score", claims[0].scores["weighted_f1"].score_id)
        output = next(test for row in claims for test in row.tests if test.kind == "output test")
        for row in (score, Ref("experiment", output.experiment_id), Ref("observation", output.observation_id)):
            store.withdraw(db, row, "because", judge)
            assert check(db, "tiny").differences == ()
        for row in (score, Ref("observation", output.observation_id), Ref("experiment", output.experiment_id)):
            store.reinstate(db, row, "because", judge)
        assert store.content_hash(db, "tiny") == before


@pytest.mark.slow
def test_deleted_and_edited_rows_are_found_and_verdicts_set_by_what_is_left(finished: Path) -> None:
    with store.open_database(finished) as db:
        claims = [row for row in store.campaign_evidence(db, "tiny") if row.control is None]
        scored = next(row for row in claims if "weighted_f1" in row.scores and row.verdict_input != "untested")
        tested = next(
            row for row in claims if row.verdict_output != "untested" and row.description_id != scored.description_id
        )
        test = next(one for one in tested.tests if one.kind == "output test")
        edited = next(row for row in claims if row.description_id not in (scored.description_id, tested.description_id))
        with db.transaction() as session:
            session.execute(sa.delete(schema.Score).where(schema.Score.id == scored.scores["weighted_f1"].score_id))
            session.execute(sa.delete(schema.Observation).where(schema.Observation.id == test.observation_id))
            session.execute(
                sa.update(schema.Description)
                .where(schema.Description.id == edited.description_id)
                .values(verdict_input="supported" if edited.verdict_input != "supported" else "refuted")
            )
        found = {(one.unit, one.polarity, one.what): one for one in check(db, "tiny").differences}
        assert found[scored.unit, scored.polarity, "verdict_input"].derived == "untested"
        assert found[tested.unit, tested.polarity, "verdict_output"].derived == "untested"
        assert found[edited.unit, edited.polarity, "verdict_input"].derived == edited.verdict_input
        assert check(db, "tiny", write=True).written
        assert check(db, "tiny").differences == ()
        rows = {row.description_id: row for row in store.campaign_evidence(db, "tiny")}
        assert rows[scored.description_id].verdict_input == "untested"
        assert rows[tested.description_id].verdict_output == "untested"
        assert "not in the database" in rows[tested.description_id].details["verdict"]["output_reasons"][0]
        assert rows[edited.description_id].verdict_input == edited.verdict_input
