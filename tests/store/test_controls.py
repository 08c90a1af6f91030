"""Blind controls in the database: kept apart from the units that were asked for, until somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from store.records import InvestigationResult, UnitRecord
from store.work import ControlRecord

Results = Callable[..., InvestigationResult]


def queue(bench: Any, control: str = "swapped") -> None:
    hidden = ControlRecord(UnitRecord("control:abc:0", layer=1), control, "mlp:1:2")
    assert store.add_investigations(bench.db, bench.campaign_id, bench.subject_id, ["mlp:1:1", hidden]) == 1


def work(bench: Any, result: Results, **changes: Any) -> None:
    while (job := store.lease_next(bench.db, bench.campaign_id, "me", 60)) is not None:
        store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
        label = "a control" if job.control else "a unit"
        store.finish(bench.db, job, result(job.unit, label=label, **changes))


def test_a_control_is_leased_like_a_unit_and_says_what_it_is_to_who_sets_it_up(bench: Any) -> None:
    queue(bench)
    jobs = list(iter(lambda: store.lease_next(bench.db, bench.campaign_id, "me", 60), None))
    assert [(job.unit, job.control, job.control_of) for job in jobs if job.control] == [
        ("control:abc:0", "swapped", "mlp:1:2")
    ]
    now = store.progress(bench.db, bench.campaign_id)
    assert (now.total, now.leased, now.controls, now.controls_left, now.left) == (8, 8, 1, 1, 9)


def test_queueing_again_adds_no_second_control(bench: Any) -> None:
    queue(bench)
    hidden = ControlRecord(UnitRecord("control:abc:0", layer=1), "swapped", "mlp:1:2")
    assert store.add_investigations(bench.db, bench.campaign_id, bench.subject_id, [hidden]) == 0


def test_lists_and_counts_leave_controls_out_unless_asked(bench: Any, result: Results) -> None:
    queue(bench)
    work(bench, result)
    db = bench.db
    row = store.list_campaigns(db)[0]
    assert (row.investigations, row.done, row.controls, row.descriptions, row.supported) == (8, 8, 1, 8, 8)
    assert row.seconds == pytest.approx(9 * 1.5)  # what a control used was used
    described = store.best_descriptions(db, campaign="first", limit=None)
    assert len(described) == 8
    assert all(found.control is None for found in described)
    everything = store.best_descriptions(db, campaign="first", controls=True, limit=None)
    assert [found.control_of for found in everything if found.control] == ["mlp:1:2"]
    assert store.campaign_summary(db, "first").total.descriptions == 8
    assert store.campaign_summary(db, "first", controls=True).kinds["control"].descriptions == 1
    assert "control" not in store.campaign_summary(db, "first").kinds
    assert [found.unit.unit for found in store.find_units(db, limit=None) if found.unit.kind == "control"] == []
    assert len(store.find_units(db, controls=True, limit=None)) == 9
    assert store.search_text(db, "control") == []
    assert len(store.search_text(db, "unit")) == 8
    assert len(store.campaign_scores(db, bench.campaign_id)) == 16
    assert len(store.campaign_scores(db, bench.campaign_id, controls=True)) == 18
    with db.session() as session:
        for view in ("current_descriptions", "best_descriptions"):
            assert session.scalar(sa.text(f"SELECT count(*) FROM {view}")) == 8


def test_evidence_has_a_record_for_each_claim_and_controls_come_last(bench: Any, result: Results) -> None:
    queue(bench)
    work(bench, result)
    rows = store.campaign_evidence(bench.db, "first")
    assert [row.unit for row in rows][:2] == ["head:0:3", "mlp:1:0"]
    assert [row.unit for row in rows][-1] == "control:abc:0"
    control, unit = rows[-1], rows[1]
    assert (control.control, control.control_of, control.group, control.kind) == ("swapped", "mlp:1:2", "mlp:1", "mlp")
    assert (unit.control, unit.control_of, unit.group, unit.kind) == (None, None, "mlp:1", "mlp")
    assert unit.scores["weighted_f1"].value == pytest.approx(0.8)
    assert unit.scores["weighted_f1"].headline
    assert (unit.status, unit.seconds, unit.tool_calls, unit.tokens) == ("done", 1.5, 4, 0)
    assert store.campaign_evidence(bench.db, "first", controls=False) == rows[:-1]
    [row] = store.control_rows(bench.db, "first")
    assert (row.control, row.control_of, row.verdicts, row.accepted) == ("swapped", "mlp:1:2", {"+": "supported"}, True)


def test_closing_sets_q_values_verdicts_and_the_outcome(bench: Any, result: Results) -> None:
    queue(bench)
    work(bench, result)
    first = store.campaign_evidence(bench.db, "first")[0]
    verdict = {"input": "inconclusive", "output": "untested", "reasons": ["q = 0.3"], "before": "supported"}
    judged = store.Judged(
        {first.scores["weighted_f1"].score_id: 0.3}, {first.description_id: verdict}, {"controls": {"accepted": 1}}
    )
    store.close_campaign(bench.db, bench.campaign_id, lambda evidence: judged)
    after = store.campaign_evidence(bench.db, "first")[0]
    assert after.scores["weighted_f1"].q == 0.3
    assert (after.verdict_input, after.details["verdict"]) == ("inconclusive", verdict)
    assert [h.status for h in store.unit_page(bench.db, first.unit).hypotheses if h.key == "h1"] == ["inconclusive"]
    summary = store.campaign_summary(bench.db, "first")
    assert summary.outcome == {"controls": {"accepted": 1}}
    assert summary.campaign.supported == 7
    assert store.get_campaign(bench.db, "first").outcome == summary.outcome


def test_closing_refuses_what_is_not_the_campaigns_and_writes_nothing(bench: Any, result: Results) -> None:
    work(bench, result)
    row = store.campaign_evidence(bench.db, "first")[0]
    judged = {"input": "refuted", "output": "untested", "reasons": []}
    for verdicts, message in (
        ({999: judged}, "Description 999 is not one"),
        ({row.description_id: {**judged, "input": "splendid"}}, "not 'splendid'"),
    ):
        wrong = store.Judged({row.scores["weighted_f1"].score_id: 0.1}, verdicts)
        with pytest.raises(store.StoreError, match=message):
            store.close_campaign(bench.db, bench.campaign_id, lambda evidence, wrong=wrong: wrong)
    assert store.campaign_evidence(bench.db, "first")[0] == row
    assert store.get_campaign(bench.db, "first").status == "open"


def test_contents_differ_where_controls_differ(make: Callable[..., Any], tmp_path: Path, result: Results) -> None:
    one, other, third = (make(tmp_path / f"{i}.db", ["mlp:1:1", "mlp:1:2"]) for i in range(3))
    for bench, kind in ((one, "swapped"), (other, "constant"), (third, "swapped")):
        queue(bench, kind)
        work(bench, result)
    first, second, same = (store.campaign_content(bench.db, "first") for bench in (one, other, third))
    assert store.differences(first, second) == [
        "/investigations/f00d control:abc:0/control: 'swapped' ≠ 'constant'",
    ]
    assert store.differences(first, same) == []


@pytest.mark.parametrize(("control", "unit"), [("gullible", "control:abc:0"), ("swapped", "mlp:1:2")])
def test_what_is_no_control_is_refused(control: str, unit: str) -> None:
    with pytest.raises(store.StoreError, match="A control must be one of shuffled, direction, swapped, constant"):
        ControlRecord(UnitRecord(unit), control, "mlp:1:2")


def test_a_database_from_before_controls_opens_with_all_that_it_holds(
    bench: Any, result: Results, older: Callable[[Path, Path, str], None]
) -> None:
    """Rows of the older schema survive the change of their table, and those that refer to them too."""
    work(bench, result)
    wanted = store.campaign_evidence(bench.db, "first")
    bench.db.close()
    old = Path(bench.db.url).with_name("old.db")
    older(old, Path(bench.db.url), "0003")
    with store.open_database(old) as db:
        assert store.campaign_evidence(db, "first") == wanted
        summary = store.campaign_summary(db, "first")
        assert (summary.campaign.investigations, summary.campaign.controls, summary.outcome) == (8, 0, None)
        assert len(store.best_descriptions(db, limit=None)) == 8
        assert len(store.search_text(db, "unit")) == 8
