"""Accounts over the database: exact under threads, durable, and the same answers again in a replay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import store
from agent.accounts import StoreAccounts, asking
from explainers.llm.accounts import charged_to, current_account
from explainers.llm.types import Call, Usage
from store.records import InvestigationResult, LlmCallRecord, SubjectRecord, UnitRecord
from store.work import Investigation

ROOT = Path(__file__).resolve().parents[2]
UNITS = [f"mlp:0:{i}" for i in range(4)]


def opened(path: Path, name: str = "first") -> tuple[store.Database, int, list[Investigation]]:
    """A database with a campaign of four units, all leased."""
    db = store.open_database(path)
    subject = store.register_subject(db, SubjectRecord("tiny", "f00d"))
    campaign = store.create_campaign(db, name, {}, "hash")
    store.add_investigations(db, campaign.id, subject, UNITS)
    return db, campaign.id, leased(db, campaign.id)


def leased(db: store.Database, campaign: int) -> list[Investigation]:
    return list(iter(lambda: store.lease_next(db, campaign, "me", 60), None))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[store.Database, int, list[Investigation]]]:
    found = opened(tmp_path / "ng.db")
    yield found
    found[0].close()


def call(name: str = "h1", **changes: Any) -> Call:
    given: dict[str, Any] = {
        "purpose": "explain", "model": "m", "request_hash": name, "request": {"messages": []},
        "response": {"choices": [name]}, "status": "done", "error": None, "usage": Usage(10, 2, 4), "seconds": 0.5,
        "cost_usd": 0.25,
    }  # fmt: skip
    return Call(**{**given, **changes})


def failed(name: str = "h1") -> Call:
    return call(name, response=None, status="failed", error="CallError: timed out", usage=Usage(), cost_usd=None)


def test_a_call_is_kept_with_who_asked_for_what_and_known_from_then_on(bench: Any) -> None:
    db, campaign, jobs = bench
    accounts = StoreAccounts(db, campaign)
    account = accounts.of(jobs[0].id, 2, polarity="-", asker="quantiles")
    assert (account.salt, account.known("h1")) == (2, None)
    account.record(call(attempts=3))
    assert account.known("h1") == call(attempts=3)
    assert accounts.of(jobs[1].id).known("h1") == call(attempts=3), "from any investigation"
    with charged_to(account), asking("detection"):
        current_account().record(call("h2", purpose="detection"))
    assert [tuple(row.key.values()) for row in store.llm_costs(db, "first", ["asker", "polarity"])] == [
        ("detection", "-"), ("quantiles", "-"),
    ]  # fmt: skip


def test_a_failed_call_is_no_answer_but_in_a_replay_it_is_what_happened(bench: Any, tmp_path: Path) -> None:
    db, campaign, jobs = bench
    accounts = StoreAccounts(db, campaign)
    accounts.of(jobs[0].id).record(failed())
    assert accounts.of(jobs[0].id).known("h1") is None
    accounts.of(jobs[1].id).record(call())
    copy, number, again = opened(tmp_path / "replay.db")
    replayed = StoreAccounts(copy, number, db)
    assert replayed.of(again[0].id).known("h1") == failed()
    assert replayed.of(again[1].id).known("h1") == call()
    assert replayed.of(again[2].id).known("h1") == call()
    copy.close()


def test_a_replay_knows_the_source_alone_and_writes_to_its_own_database(bench: Any, tmp_path: Path) -> None:
    db, campaign, jobs = bench
    StoreAccounts(db, campaign).of(jobs[0].id).record(call())
    copy, number, again = opened(tmp_path / "replay.db")
    account = StoreAccounts(copy, number, db).of(again[0].id)
    account.record(call("h2", cached=True))
    assert account.known("h2") is None
    assert store.find_call(copy, "h2") is not None
    assert store.find_call(db, "h2") is None
    copy.close()


@pytest.mark.parametrize(
    ("ends", "salts"),
    [("done", [0]), ("fail done", [1]), ("fail fail", [0, 1]), ("fail fail retry fail done", [3])],
)
def test_a_replay_begins_with_the_attempts_that_count(tmp_path: Path, ends: str, salts: list[int]) -> None:
    db, campaign, jobs = opened(tmp_path / "ng.db")
    job: Investigation | None = jobs[0]
    for end in ends.split():
        if end == "retry":
            store.retry_failed(db, campaign)
        else:
            assert job is not None
            StoreAccounts(db, campaign).of(job.id, job.failures).record(call(f"{end} {job.failures}"))
            if end == "fail":
                store.fail(db, job, "AnswerError", retry=True, max_failures=2)
            else:
                store.finish(db, job, store_result(job))
        job = store.lease_next(db, campaign, "me", 60)
    copy, number, again = opened(tmp_path / "replay.db")
    accounts = StoreAccounts(copy, number, db)
    assert [accounts.of(again[0].id, failures).salt for failures in range(len(salts))] == salts
    assert [accounts.of(again[0].id, failures).failures for failures in range(len(salts))] == list(range(len(salts)))
    assert accounts.of(again[1].id, 1).salt == 1
    db.close()
    copy.close()


def store_result(job: Investigation) -> InvestigationResult:
    return InvestigationResult(UnitRecord(job.unit), skipped="never active")


def test_many_threads_share_transactions_and_lose_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db, campaign, jobs = bench
    accounts = StoreAccounts(db, campaign)
    batches: list[int] = []
    record = store.record_calls

    def counted(db: store.Database, calls: list[tuple[int | None, LlmCallRecord]]) -> None:
        batches.append(len(calls))
        record(db, calls)

    monkeypatch.setattr(store, "record_calls", counted)

    def work(number: int) -> None:
        account = accounts.of(jobs[number % 4].id)
        for i in range(20):
            account.record(call(f"{number} {i}"))
            assert account.known(f"{number} {i}") is not None, "committed before it returns"

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert sum(batches) == 320
    assert len(batches) < 320, "several calls went into one transaction"
    now = store.progress(db, campaign)
    assert (now.llm_calls, now.tokens, now.dollars) == (320, 320 * 12, 80.0)


def test_a_database_that_cannot_be_written_is_told_to_each_who_waits(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, campaign, jobs = bench
    accounts = StoreAccounts(db, campaign)
    begun, go = threading.Event(), threading.Event()

    def full(db: store.Database, calls: Any) -> None:
        begun.set()
        go.wait(10)
        raise store.StoreError("No space left")

    with monkeypatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr(store, "record_calls", full)
        first = pool.submit(accounts.of(jobs[0].id).record, call("a"))
        assert begun.wait(10)
        others = [pool.submit(accounts.of(jobs[1].id).record, call(name)) for name in "bc"]
        go.set()
        for future in (first, *others):
            with pytest.raises(store.StoreError, match="No space left"):
                future.result(10)
    accounts.of(jobs[0].id).record(call("d"))
    assert store.progress(db, campaign).llm_calls == 1


KILLED = """
import sys, store
from agent.accounts import StoreAccounts
from explainers.llm.types import Call, Usage

db = store.open_database(sys.argv[1])
account = StoreAccounts(db, 1).of(1)
for i in range(100000):
    account.record(Call("explain", "m", f"h{i}", {}, {"n": i}, "done", None, Usage(10, 2), 0.1, None))
    print(i, flush=True)
"""


def test_what_was_recorded_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ng.db"
    opened(path)[0].close()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    # Not by `communicate`: with a time limit it reads past what this pipe has buffered.
    told += [int(line) for line in process.stdout.read().splitlines() if line.strip()]
    process.wait(timeout=60)
    with store.open_database(path) as db:
        assert all(store.find_call(db, f"h{number}") is not None for number in told)
        now = store.progress(db, 1)
        assert now.llm_calls in (len(told), len(told) + 1), "one may have been committed and not yet told"
        assert now.tokens == 12 * now.llm_calls


def test_the_same_call_of_a_cut_off_attempt_is_not_kept_twice(bench: Any) -> None:
    db, campaign, jobs = bench
    accounts = StoreAccounts(db, campaign)
    accounts.of(jobs[0].id).record(call())
    store.release(db, jobs[0])
    [again] = leased(db, campaign)
    account = accounts.of(again.id, again.failures)
    known = account.known("h1")
    assert known is not None
    account.record(replace(known, cached=True))
    now = store.progress(db, campaign)
    assert (now.llm_calls, now.tokens, now.dollars) == (1, 12, 0.25)


def test_an_account_is_what_the_client_expects(bench: Any) -> None:
    db, campaign, jobs = bench
    account = StoreAccounts(db, campaign).of(jobs[0].id)
    with charged_to(account):
        assert current_account() is account
