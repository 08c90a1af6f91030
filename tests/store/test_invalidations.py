"""Rows of evidence withdrawn and put back: nothing is deleted, and verdicts follow in the same transaction."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from store import schema
from store.claim_rows import CampaignEvidence
from store.queries import notebook
from store.queries.citations import Ref, cited_rows, parse_ref
from store.records import InvestigationResult

Results = Callable[..., InvestigationResult]


def by_f1(evidence: CampaignEvidence) -> store.Judged:
    """A stand-in for the agent's judgement: what has an F1 is supported, what has none is untested."""
    verdicts = {
        claim.description_id: {
            "input": "supported" if "weighted_f1" in claim.scores else "untested", "output": "untested",
            "reasons": [one.reason for one in claim.withdrawn],
        }
        for claim in evidence.claims
    }  # fmt: skip
    q = {score.score_id: 0.01 for claim in evidence.claims for score in claim.scores.values()}
    return store.Judged(q, verdicts, {"claims": len(verdicts)})


@pytest.fixture
def closed(bench: Any, result: Results) -> Any:
    """A campaign that is done."""
    for job in iter(lambda: store.lease_next(bench.db, bench.campaign_id, "me", 60), None):
        store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
        store.finish(bench.db, job, result(job.unit))
    store.close_campaign(bench.db, bench.campaign_id, by_f1)
    return bench


def f1_of(db: store.Database, unit: str) -> int:
    page = store.unit_page(db, unit)
    return next(score.score_id for score in page.descriptions[0].scores if score.metric == "weighted_f1")


def test_a_withdrawn_score_takes_its_verdict_and_its_q_value_along(closed: Any) -> None:
    number = f1_of(closed.db, "mlp:1:2")
    found = store.withdraw(closed.db, Ref("score", number), "wrong corpus", by_f1)
    [change] = found.changes
    assert (change.unit, change.half, change.before, change.after) == ("mlp:1:2", "input", "supported", "untested")
    assert change.reasons == ("wrong corpus",)
    row = next(row for row in store.best_descriptions(closed.db) if row.unit == "mlp:1:2")
    assert (row.verdict_input, row.f1, row.f1_q, row.pearson) == ("untested", None, None, 0.7)
    assert store.campaign_summary(closed.db, "first").campaign.supported == 7
    [page] = store.unit_page(closed.db, "mlp:1:2").descriptions
    gone = next(score for score in page.scores if score.score_id == number)
    assert (gone.withdrawn, gone.q_value, gone.value) == ("wrong corpus", None, 0.8)  # it is still there
    assert number not in {score.score_id for score in page.counting}
    hypotheses = store.unit_page(closed.db, "mlp:1:2").hypotheses
    assert {row.key: row.status for row in hypotheses} == {"h1": "untested", "h2": "refuted"}


def test_what_is_put_back_leaves_the_content_as_it_was(closed: Any) -> None:
    before = store.content_hash(closed.db, "first")
    number = f1_of(closed.db, "mlp:1:2")
    store.withdraw(closed.db, Ref("score", number), "wrong corpus", by_f1)
    assert store.content_hash(closed.db, "first") != before
    back = store.reinstate(closed.db, Ref("score", number), "it was the right one", by_f1)
    assert [(change.before, change.after) for change in back.changes] == [("untested", "supported")]
    assert store.content_hash(closed.db, "first") == before
    told = store.invalidations(closed.db, unit="mlp:1:2")
    assert [(row.row, row.action, row.reason) for row in told] == [
        (f"score:{number}", "invalidated", "wrong corpus"),
        (f"score:{number}", "reinstated", "it was the right one"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Ref("score", 999), r"There is no score:999"),
        (Ref("experiment", 999), r"There is no experiment:999"),
        (Ref("observation", 999), r"There is no observation:999"),
        (Ref("description", 1), r"description:1 is no evidence that could be withdrawn"),
    ],
)
def test_what_cannot_be_withdrawn_is_told_and_nothing_is_written(closed: Any, row: Ref, message: str) -> None:
    with pytest.raises(store.StoreError, match=message):
        store.withdraw(closed.db, row, "because", by_f1)
    assert store.invalidations(closed.db) == []


def test_a_row_is_withdrawn_once_and_put_back_once(closed: Any) -> None:
    row = Ref("score", f1_of(closed.db, "mlp:1:2"))
    with pytest.raises(store.StoreError, match="counts: it was not withdrawn"):
        store.reinstate(closed.db, row, "because", by_f1)
    with pytest.raises(store.StoreError, match="Say why"):
        store.withdraw(closed.db, row, " ", by_f1)
    store.withdraw(closed.db, row, "first reason", by_f1)
    with pytest.raises(store.StoreError, match="is withdrawn already: first reason"):
        store.withdraw(closed.db, row, "second", by_f1)
    store.reinstate(closed.db, row, "because", by_f1)
    store.withdraw(closed.db, row, "again", by_f1)
    assert len(store.invalidations(closed.db)) == 3


def test_with_an_experiment_all_that_was_observed_in_it_goes(closed: Any) -> None:
    page = store.unit_page(closed.db, "mlp:1:2")
    experiment = page.experiments[0]
    store.withdraw(closed.db, Ref("experiment", experiment.experiment_id), "cut off", by_f1)
    again = store.unit_page(closed.db, "mlp:1:2").experiments
    assert [one.withdrawn for one in again] == ["cut off", None]
    assert [one.withdrawn for one in again[0].observations] == ["cut off", "cut off"]
    [claim] = [row for row in store.campaign_evidence(closed.db, "first") if row.unit == "mlp:1:2"]
    assert [(test.kind, test.outcome, test.withdrawn) for test in claim.tests] == [("edit", "supported", "cut off")]
    cited = cited_rows(closed.db, [Ref("experiment", experiment.experiment_id)])
    assert [row.values["withdrawn"] for row in cited.values()] == ["cut off"]


def test_a_judgement_that_fails_leaves_nothing_behind(closed: Any) -> None:
    def fails(evidence: CampaignEvidence) -> store.Judged:
        raise RuntimeError("no")

    before = store.content_hash(closed.db, "first")
    with pytest.raises(RuntimeError):
        store.withdraw(closed.db, Ref("score", f1_of(closed.db, "mlp:1:2")), "because", fails)
    assert store.content_hash(closed.db, "first") == before
    assert store.invalidations(closed.db) == []


def _withdraw_one(given: tuple[str, int, str]) -> str:
    path, number, reason = given
    with store.open_database(path) as db:
        try:
            store.withdraw(db, Ref("score", number), reason, by_f1)
        except store.StoreError as error:
            return str(error)
    return "done"


def test_two_processes_withdraw_a_row_once_and_different_rows_both(closed: Any) -> None:
    same, other = f1_of(closed.db, "mlp:1:2"), f1_of(closed.db, "mlp:1:3")
    closed.db.close()
    work = [(closed.db.url, same, "one"), (closed.db.url, same, "two"), (closed.db.url, other, "three")]
    with get_context("spawn").Pool(3) as pool:
        ended = pool.map(_withdraw_one, work)
    assert sorted(ended[:2])[0] == "done"
    assert "is withdrawn already" in sorted(ended[:2])[1]
    assert ended[2] == "done"
    with store.open_database(closed.db.url) as db:
        assert len(store.invalidations(db)) == 2
        # Whoever came last judged what the others had left.
        assert store.campaign_summary(db, "first").campaign.supported == 6


def test_threads_that_withdraw_and_put_back_end_where_they_began(closed: Any) -> None:
    before = store.content_hash(closed.db, "first")

    def flip(unit: str) -> None:
        row = Ref("score", f1_of(closed.db, unit))
        for _ in range(3):
            store.withdraw(closed.db, row, "because", by_f1)
            store.reinstate(closed.db, row, "because", by_f1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(flip, ["mlp:1:0", "mlp:1:1", "mlp:1:2", "head:0:3"]))
    assert store.content_hash(closed.db, "first") == before
    assert len(store.invalidations(closed.db)) == 24


def test_a_deleted_row_takes_its_invalidations_along(closed: Any) -> None:
    """So that a row which gets its number later is not withdrawn unseen."""
    number = f1_of(closed.db, "mlp:1:2")
    store.withdraw(closed.db, Ref("score", number), "because", by_f1)
    with closed.db.transaction() as session:
        session.execute(sa.delete(schema.Score).where(schema.Score.id == number))
        assert session.scalar(sa.select(sa.func.count()).select_from(schema.Invalidation)) == 0


def test_the_notebook_has_everything_in_its_order(closed: Any) -> None:
    number = f1_of(closed.db, "mlp:1:2")
    store.withdraw(closed.db, Ref("score", number), "wrong corpus", by_f1)
    book = notebook(closed.db, "mlp:1:2")
    [work] = book.work
    assert work.investigation.campaign == "first"
    assert [row.key for row in work.hypotheses] == ["h1", "h2"]
    assert [len(row.observations) for row in work.experiments] == [2, 0]
    assert [row.claim for row in work.openings] == ["claim-1"]
    assert [score.metric for score in work.descriptions[0].scores] == ["weighted_f1", "pearson"]
    assert [row.reason for row in work.invalidations] == ["wrong corpus"]
    assert (work.campaign_status, work.examples) == ("done", 3)
    with pytest.raises(store.StoreError, match="The campaign 'second' has no unit mlp:1:2"):
        notebook(closed.db, "mlp:1:2", campaign="second")


@pytest.mark.parametrize("text", ["S7", "score:7", "[score:7]", " S7 "])
def test_a_row_has_a_long_and_a_short_name(text: str) -> None:
    assert parse_ref(text) == Ref("score", 7)
    assert Ref("score", 7).short == "S7"


@pytest.mark.parametrize("text", ["7", "S", "Z7", "scores:7", "S7x", "score:", "S-1", ""])
def test_what_names_no_row_is_told(text: str) -> None:
    with pytest.raises(store.StoreError, match="names no row"):
        parse_ref(text)


def test_a_database_of_before_gets_the_table_and_its_views(
    closed: Any, older: Callable[[Path, Path, str], None], tmp_path: Path
) -> None:
    closed.db.close()
    older(tmp_path / "older.db", Path(closed.db.url), "0008")
    with store.open_database(tmp_path / "older.db") as db:
        assert {row.verdict_input for row in store.best_descriptions(db)} == {"supported"}
        store.withdraw(db, Ref("score", f1_of(db, "mlp:1:2")), "because", by_f1)
        assert [row.unit for row in store.best_descriptions(db, verdict="untested")] == ["mlp:1:2"]


def test_superseded_claims_are_not_judged(bench: Any, result: Results) -> None:
    [job] = [store.lease_next(bench.db, bench.campaign_id, "me", 60)]
    assert job is not None
    made = result(job.unit)
    newer = replace(made.descriptions[0], version=2, claim="claim-2")
    store.finish(bench.db, job, replace(made, descriptions=(*made.descriptions, newer)))
    old = next(row for row in store.unit_page(bench.db, job.unit).descriptions if row.superseded_by is not None)
    found = store.withdraw(bench.db, Ref("score", old.scores[0].score_id), "because", by_f1)
    assert found.changes == ()
