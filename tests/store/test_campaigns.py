"""The queue: what is leased, by whom, and what is written when it is done."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

import store
from store import schema
from store.records import Cost, InvestigationResult, UnitRecord
from store.work import CampaignProgress


def lease(bench: Any, owner: str = "me", seconds: float = 60, **options: Any) -> Any:
    return store.lease_next(bench.db, bench.campaign_id, owner, seconds, **options)


def counts(bench: Any) -> CampaignProgress:
    return store.progress(bench.db, bench.campaign_id)


def rows(bench: Any, table: type[schema.Base]) -> int:
    with bench.db.session() as session:
        return int(session.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def test_the_same_spec_is_the_same_campaign_and_another_spec_is_refused(bench: Any) -> None:
    units = [f"mlp:1:{i}" for i in range(6)] + ["head:0:3", "sae:res:12"]
    again = store.create_campaign(bench.db, "first", {"units": units}, "hash", budget={"units": 9})
    assert (again.id, again.budget, again.seed) == (bench.campaign_id, {"units": 9}, 7)
    assert store.get_campaign(bench.db, "first") == again
    with pytest.raises(store.StoreError, match=r"another spec.*differs in: units, corpus") as error:
        store.create_campaign(bench.db, "first", {"units": ["x"], "corpus": "y"}, "other")
    assert "another name" in str(error.value)
    with pytest.raises(store.StoreError, match=r"no campaign 'nope'.*It has: first"):
        store.get_campaign(bench.db, "nope")


def test_units_are_queued_once_and_leased_in_order(bench: Any) -> None:
    assert store.add_investigations(bench.db, bench.campaign_id, bench.subject_id, ["mlp:1:2", "mlp:1:9"]) == 1
    assert counts(bench).pending == 9
    leased = [lease(bench) for _ in range(9)]
    assert [one.unit for one in leased][:3] == ["mlp:1:0", "mlp:1:1", "mlp:1:2"]
    assert leased[-1].unit == "mlp:1:9"
    assert lease(bench) is None


def test_finish_writes_everything_in_one_go(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    job = lease(bench)
    store.finish(bench.db, job, result(job.unit))
    tables = (schema.Example, schema.Hypothesis, schema.Experiment, schema.Observation, schema.Description,
              schema.Score)  # fmt: skip
    assert [rows(bench, table) for table in tables] == [3, 2, 2, 2, 1, 2]
    progress = counts(bench)
    assert (progress.done, progress.pending, progress.leased) == (1, 7, 0)
    assert (progress.seconds, progress.tool_calls, progress.tokens) == (1.5, 4, 0)
    assert (progress.total, progress.remaining) == (8, 7)


def test_nothing_is_finished_twice(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    job = lease(bench)
    store.finish(bench.db, job, result(job.unit))
    for again in (
        lambda: store.finish(bench.db, job, result(job.unit)),
        lambda: store.fail(bench.db, job, "late", retry=True),
        lambda: store.heartbeat(bench.db, job, 60),
    ):
        with pytest.raises(store.LeaseLostError, match=r"mlp:1:0 is lost"):
            again()
    assert not store.release(bench.db, job)
    assert rows(bench, schema.Description) == 1
    assert counts(bench).seconds == 1.5


def test_a_malformed_result_leaves_the_lease_and_writes_nothing(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    job = lease(bench)
    good = result(job.unit)
    dangling = dataclasses.replace(good.descriptions[0], hypothesis="h9")
    with pytest.raises(store.StoreError, match="no hypothesis 'h9'"):
        store.finish(bench.db, job, result(job.unit, descriptions=[dangling]))
    nan = dataclasses.replace(good.experiments[0], arguments={"x": float("nan")})
    with pytest.raises(store.StoreError, match="NaN or infinite"):
        store.finish(bench.db, job, result(job.unit, experiments=[nan]))
    with pytest.raises(store.StoreError, match="not one of the investigation of mlp:1:0"):
        store.finish(bench.db, job, result("mlp:1:5"))
    assert rows(bench, schema.Hypothesis) == 0
    store.finish(bench.db, job, good)
    assert counts(bench).done == 1


def test_an_expired_lease_goes_to_the_next_worker_and_the_stale_one_cannot_write(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    stale = lease(bench, "dead", seconds=0.01)
    for _ in range(7):
        lease(bench, "other")
    time.sleep(0.02)
    taken = lease(bench, "heir")
    assert (taken.unit, taken.attempt, taken.lease) == (stale.unit, 2, 2)
    with pytest.raises(store.LeaseLostError):
        store.finish(bench.db, stale, result(stale.unit))
    store.finish(bench.db, taken, result(taken.unit))
    assert rows(bench, schema.Description) == 1


def test_a_heartbeat_keeps_the_lease_and_the_stage(bench: Any) -> None:
    jobs = [lease(bench, seconds=0.05) for _ in range(8)]
    store.heartbeat(bench.db, jobs[0], 60, stage="score")
    time.sleep(0.06)
    again = [lease(bench, "heir") for _ in range(8)]
    assert again[-1] is None
    assert jobs[0].unit not in {one.unit for one in again if one}
    store.release(bench.db, jobs[0])
    assert lease(bench, "heir").stage == "score"


def test_a_release_costs_no_attempt_and_outdates_the_lease(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    job = lease(bench)
    assert store.release(bench.db, job)
    again = lease(bench)
    assert (again.unit, again.attempt, again.lease) == (job.unit, 1, 2)
    with pytest.raises(store.LeaseLostError):
        store.finish(bench.db, job, result(job.unit))


def test_the_units_of_a_dead_process_are_reclaimed_at_once(bench: Any) -> None:
    for owner in ("dead", "alive", "dead"):
        lease(bench, owner)
    assert store.reclaim(bench.db, bench.campaign_id, lambda owner: owner == "alive") == 2
    assert (counts(bench).leased, counts(bench).pending) == (1, 7)
    assert store.reclaim(bench.db, bench.campaign_id, lambda owner: owner == "alive") == 0


@pytest.mark.parametrize("reclaimed", [True, False])
def test_a_unit_that_kills_its_workers_is_given_up_and_does_not_stop_the_rest(bench: Any, reclaimed: bool) -> None:
    begun = []
    while (job := lease(bench, "worker", 0.001, max_attempts=3)) is not None:
        begun.append(job.unit)
        time.sleep(0.002)
        if reclaimed:
            store.reclaim(bench.db, bench.campaign_id, lambda owner: False)
    assert len(begun) == 8 * 3
    assert len(set(begun[:8])) == 8, "those with fewer attempts come first"
    summary = store.campaign_summary(bench.db, "first")
    assert summary.campaign.failed == 8
    assert "given up after 3 attempts" in str(summary.failures[0].reason)


def test_failures_are_retried_within_limits_then_kept_with_their_reason(bench: Any) -> None:
    outcomes = []
    for _ in range(3):
        job = next(one for one in iter(lambda: lease(bench), None) if one.unit == "mlp:1:0")
        outcomes.append(store.fail(bench.db, job, "HTTP 500", retry=True, cost=Cost(1.0, 1)))
    assert outcomes == [True, True, False]
    assert (counts(bench).failed, counts(bench).seconds, counts(bench).tool_calls) == (1, 3.0, 3)
    assert store.campaign_summary(bench.db, "first").failures[0].reason == "HTTP 500"
    assert store.retry_failed(bench.db, bench.campaign_id) == 1
    again = lease(bench)
    assert (again.unit, again.failures) == ("mlp:1:0", 3)
    assert store.fail(bench.db, again, "HTTP 500", retry=True), "it has its three tries once more"


def test_a_hopeless_failure_is_not_retried(bench: Any) -> None:
    assert not store.fail(bench.db, lease(bench), "no such site", retry=False)
    assert counts(bench).failed == 1


def test_a_dead_unit_is_skipped_with_its_reason(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    job = lease(bench)
    store.finish(bench.db, job, InvestigationResult(UnitRecord(job.unit, state="dead"), skipped="never active"))
    summary = store.campaign_summary(bench.db, "first")
    assert (summary.campaign.skipped, summary.total.states) == (1, {"dead": 1})
    page = store.unit_page(bench.db, job.unit)
    assert (page.investigations[0].reason, page.unit.state) == ("never active", "dead")


def test_closing_sets_q_values_and_refuses_while_work_is_left(
    bench: Any, result: Callable[..., InvestigationResult]
) -> None:
    with pytest.raises(store.StoreError, match="8 units of the campaign are not finished"):
        store.close_campaign(bench.db, bench.campaign_id, lambda evidence: store.Judged({}, {}))
    for job in iter(lambda: lease(bench), None):
        store.finish(bench.db, job, result(job.unit))
    scores = store.campaign_scores(bench.db, bench.campaign_id)
    assert len(scores) == 16
    foreign = store.Judged({scores[0].score_id: 0.5, 999: 0.5}, {})
    with pytest.raises(store.StoreError, match="Score 999 is not one of the campaign's"):
        store.close_campaign(bench.db, bench.campaign_id, lambda evidence: foreign)
    q_values = {one.score_id: 0.01 for one in scores if one.metric == "weighted_f1"}
    store.close_campaign(bench.db, bench.campaign_id, lambda evidence: store.Judged(q_values, {}))
    assert {row.f1_q for row in store.best_descriptions(bench.db)} == {0.01}
    closed = store.list_campaigns(bench.db)[0]
    assert (closed.status, closed.done) == ("done", 8)
    assert closed.finished_at is not None


def test_a_split_opens_once_for_each_version_of_a_claim(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    job = lease(bench, "one")
    first = store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
    assert first.version == 1
    with pytest.raises(store.SealBrokenError, match=r"opened before for this claim about mlp:1:0"):
        store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
    audit = store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="audit")
    revised = store.record_opening(bench.db, job, claim="claim-2", polarity="+", split="score")
    other = store.record_opening(bench.db, job, claim="claim-3", polarity="-", split="score")
    assert (audit.version, revised.version, other.version) == (1, 2, 1)
    # The process is killed before it can finish; the next attempt comes to the same claim.
    store.reclaim(bench.db, bench.campaign_id, lambda owner: False)
    heir = next(one for one in iter(lambda: lease(bench, "two"), None) if one.unit == job.unit)
    assert store.record_opening(bench.db, heir, claim="claim-1", polarity="+", split="score") == first
    with pytest.raises(store.LeaseLostError):
        store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
    store.finish(bench.db, heir, result(heir.unit, claim="claim-1"))
    page = store.unit_page(bench.db, heir.unit)
    of_claim = {(row.claim, row.split): row.description_id for row in page.openings}
    assert of_claim["claim-1", "score"] == page.descriptions[0].description_id
    assert of_claim["claim-2", "score"] is None


def test_threads_share_a_database_and_never_a_lease(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    seen: list[str] = []

    def work(owner: str) -> None:
        for job in iter(lambda: lease(bench, owner), None):
            seen.append(job.unit)
            store.finish(bench.db, job, result(job.unit))

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == counts(bench).done == 8
