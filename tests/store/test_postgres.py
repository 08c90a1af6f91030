"""The same on a real PostgreSQL server, where one is at hand (pip install pgserver "psycopg[binary]")."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import store
from store import migrate, schema
from store.records import InvestigationResult, LlmCallRecord

pgserver = pytest.importorskip("pgserver", reason="pgserver is not installed")
pytest.importorskip("psycopg", reason="psycopg is not installed")

pytestmark = pytest.mark.slow
UNITS = [f"mlp:0:{i}" for i in range(40)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield running
    running.cleanup()


@pytest.fixture(scope="module")
def finished(server: Any, make: Callable[..., Any], result: Callable[..., InvestigationResult]) -> Iterator[Any]:
    """A campaign done by four workers, each with connections of its own."""
    server.psql("CREATE DATABASE campaign;")
    url = str(server.get_uri(database="campaign"))
    bench = make(url, UNITS)
    seen: list[str] = []

    def work(owner: str) -> None:
        with store.open_database(url) as db:
            for job in iter(lambda: store.lease_next(db, bench.campaign_id, owner, 60), None):
                seen.append(job.unit)
                store.record_opening(db, job, claim="claim-1", polarity="+", split="score")
                store.finish(db, job, result(job.unit, label=f"articles like 'the' {job.unit} =="))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert Counter(seen) == Counter(UNITS)
    yield bench
    bench.db.close()


def test_migrations_make_exactly_what_the_models_say(finished: Any) -> None:
    def ours(kind_of: Any, name: str | None, kind: str, *_: Any) -> bool:
        # The search index is made of an expression, which the models do not carry.
        return name not in (migrate.VERSION_TABLE, "descriptions_fts")

    with finished.db.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"include_object": ours, "compare_type": True})
        assert compare_metadata(context, schema.Base.metadata) == []


def test_the_content_equals_that_of_sqlite(
    finished: Any, make: Callable[..., Any], tmp_path: Path, result: Callable[..., InvestigationResult]
) -> None:
    other = make(tmp_path / "x.db", UNITS)
    for job in iter(lambda: store.lease_next(other.db, other.campaign_id, "me", 60), None):
        store.record_opening(other.db, job, claim="claim-1", polarity="+", split="score")
        store.finish(other.db, job, result(job.unit, label=f"articles like 'the' {job.unit} =="))
    contents = [store.campaign_content(bench.db, "first") for bench in (finished, other)]
    assert store.differences(contents[0], contents[1]) == []


def test_questions_are_answered_alike(finished: Any) -> None:
    db = finished.db
    assert (store.progress(db, finished.campaign_id).done, store.list_campaigns(db)[0].supported) == (40, 40)
    assert store.campaign_summary(db, "first").total.well_described_share == 1.0
    assert [row.unit for row in store.best_descriptions(db, order="unit", limit=3)] == UNITS[:3]
    assert len(store.find_units(db, "mlp:0:0-9", described_only=True)) == 10
    json.dumps(dataclasses.asdict(store.unit_page(db, "mlp:0:7")))


@pytest.mark.parametrize("text", ["article", "ARTICLES", "artic", "articles zebra", "==", "fires the"])
def test_search_finds(finished: Any, text: str) -> None:
    assert len(store.search_text(finished.db, text, limit=50)) == 40


@pytest.mark.parametrize("text", ["", "zebra", "'", "a' | 'b", "!!", "cat & !dog", "\x00", "\\", "'':*", "('the"])
def test_operators_and_quotes_are_only_text(finished: Any, text: str) -> None:
    assert len(store.search_text(finished.db, text)) <= 20


def test_calls_are_kept_once_and_what_was_spent_is_exact(server: Any, make: Callable[..., Any]) -> None:
    server.psql("CREATE DATABASE calls;")
    url = str(server.get_uri(database="calls"))
    bench = make(url, UNITS[:4])
    jobs = [store.lease_next(bench.db, bench.campaign_id, "me", 60) for _ in range(4)]

    def call(name: str, answer: str | None) -> LlmCallRecord:
        response = None if answer is None else {"text": answer, "logprob": float("-inf")}
        status, error = ("failed", "CallError: \x00 \ud800") if answer is None else ("done", None)
        return LlmCallRecord(
            "explain", "m", name, {}, response, status, error, polarity="+", prompt_tokens=10, completion_tokens=2,
            cost_usd=0.5,
        )  # fmt: skip

    def work(number: int) -> None:
        for i in range(20):
            own, first = jobs[(number + i) % 4], jobs[0]
            assert own is not None
            assert first is not None
            answers = [(own.id, call(f"{number}-{i}", "yes")), (first.id, call("shared", "yes" if i else None))]
            store.record_calls(bench.db, answers)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    now = store.progress(bench.db, bench.campaign_id)
    assert (now.llm_calls, now.tokens, now.dollars) == (161, 320 * 12, 160.0)
    [total] = store.llm_costs(bench.db, "first", ())
    assert (total.calls, total.attempts, total.tokens, total.dollars) == (161, 320, 320 * 12, 160.0)
    found = store.find_call(bench.db, "shared")
    assert found is not None
    assert (found.response, found.status, found.error) == ({"text": "yes", "logprob": "-inf"}, "done", None)
    bench.db.close()


def test_reading_only_newer_and_unreachable_servers_are_told(server: Any, finished: Any) -> None:
    url = str(server.get_uri(database="campaign"))
    with (
        store.open_database(url, read_only=True) as db,
        pytest.raises(sa.exc.DBAPIError, match="read-only"),
        db.session() as session,
    ):
        session.execute(sa.text("DELETE FROM campaigns"))
    server.psql("CREATE DATABASE newer;")
    newer = str(server.get_uri(database="newer"))
    with store.open_database(newer) as db, db.transaction() as session:
        session.execute(sa.text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(store.StoreError, match="newer neurogloss"):
        store.open_database(newer)
    with pytest.raises(store.StoreError, match="cannot be reached"):
        store.open_database("postgresql://me:secret@127.0.0.1:1/none")
