"""The ledger of calls to language models: kept once, found again, summed up as it was spent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from store import migrate, schema
from store.records import Cost, InvestigationResult, LlmCallRecord

Results = Callable[..., InvestigationResult]


def lease(bench: Any, owner: str = "me") -> Any:
    return store.lease_next(bench.db, bench.campaign_id, owner, 60)


def call(name: str = "r1", **changes: Any) -> LlmCallRecord:
    given: dict[str, Any] = {
        "purpose": "explain", "model": "m", "request_hash": name, "request": {"messages": [{"role": "user"}]},
        "response": {"id": "chat-1", "choices": [{"message": {"content": f"answer to {name}"}}]}, "asker": "quantiles",
        "polarity": "+", "prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 80, "seconds": 0.5,
        "cost_usd": 0.01,
    }  # fmt: skip
    return LlmCallRecord(**{**given, **changes})


def unanswered(name: str = "r1", **changes: Any) -> LlmCallRecord:
    return call(
        name, response=None, status="failed", error="CallError: timed out", prompt_tokens=0, completion_tokens=0,
        cached_tokens=0, cost_usd=None, **changes,
    )  # fmt: skip


def rows(bench: Any) -> list[Any]:
    with bench.db.session() as session:
        return list(session.scalars(sa.select(schema.LlmCall).order_by(schema.LlmCall.id)))


def test_a_call_is_kept_whole_and_found_from_any_campaign(bench: Any) -> None:
    one, other = lease(bench), lease(bench)
    store.record_calls(bench.db, [(one.id, call(salt=2, attempts=3))])
    found = store.find_call(bench.db, "r1", first=other.id)
    assert found == call(salt=2, attempts=3)
    assert store.find_call(bench.db, "r2") is None


def test_what_was_spent_counts_at_once_and_however_the_attempt_ends(bench: Any, result: Results) -> None:
    done, failed, released, killed = (lease(bench) for _ in range(4))
    for job in (done, failed, released, killed):
        store.record_calls(bench.db, [(job.id, call("r1")), (job.id, call("r2", cost_usd=None))])
    now = store.progress(bench.db, bench.campaign_id)
    assert (now.llm_calls, now.tokens) == (8, 960)
    assert now.dollars == pytest.approx(0.04)
    store.finish(bench.db, done, result(done.unit))
    assert store.fail(bench.db, failed, "AnswerError", retry=True)
    assert store.release(bench.db, released)
    assert store.reclaim(bench.db, bench.campaign_id, lambda owner: False) == 1
    now = store.progress(bench.db, bench.campaign_id)
    assert (now.llm_calls, now.tokens) == (8, 960)
    assert now.dollars == pytest.approx(0.04)
    row = store.list_campaigns(bench.db)[0]
    assert (row.llm_calls, row.tokens) == (8, 960)
    assert row.dollars == pytest.approx(0.04)
    job = store.unit_page(bench.db, killed.unit).investigations[0]
    assert (job.llm_calls, job.tokens) == (2, 240)
    assert job.dollars == pytest.approx(0.01)


def test_without_a_price_there_are_no_dollars(bench: Any) -> None:
    store.record_calls(bench.db, [(lease(bench).id, call(cost_usd=None))])
    assert store.progress(bench.db, bench.campaign_id).dollars is None
    assert store.list_campaigns(bench.db)[0].dollars is None
    assert store.llm_costs(bench.db, "first", ())[0].dollars is None


def test_a_known_answer_is_kept_with_the_unit_and_costs_nothing(bench: Any) -> None:
    one, other = lease(bench), lease(bench)
    store.record_calls(bench.db, [(one.id, call())])
    store.record_calls(bench.db, [(other.id, call(cached=True)), (one.id, call(cached=True))])
    assert [(row.investigation_id, row.cached, row.prompt_tokens) for row in rows(bench)] == [
        (one.id, False, 100), (other.id, True, 0),
    ]  # fmt: skip
    now = store.progress(bench.db, bench.campaign_id)
    assert (now.llm_calls, now.tokens, now.dollars) == (1, 120, 0.01)
    [total] = store.llm_costs(bench.db, "first", ())
    assert (total.calls, total.known, total.tokens, total.dollars) == (1, 1, 120, 0.01)


def test_a_call_without_an_answer_that_is_made_again_is_one_call_with_both_costs(bench: Any) -> None:
    job = lease(bench)
    store.record_calls(bench.db, [(job.id, unanswered(attempts=6))])
    assert store.find_call(bench.db, "r1") is None
    assert store.find_replayed(bench.db, "r1") == unanswered(attempts=6)
    store.record_calls(bench.db, [(job.id, call())])
    [row] = rows(bench)
    assert (row.status, row.error, row.attempts, row.seconds, row.cost_usd) == ("done", None, 7, 1.0, 0.01)
    assert store.progress(bench.db, bench.campaign_id).llm_calls == 1
    # A late one, of a worker whose lease was taken over, has cost what it cost; the first answer stands.
    store.record_calls(bench.db, [(job.id, call(response={"choices": []}))])
    [row] = rows(bench)
    assert row.response["id"] == "chat-1"
    assert (row.prompt_tokens, row.cost_usd) == (200, 0.02)
    assert store.progress(bench.db, bench.campaign_id).tokens == 240


def test_own_answers_go_first_and_replay_keeps_to_what_the_unit_met(bench: Any) -> None:
    one, other = lease(bench), lease(bench)
    store.record_calls(bench.db, [(one.id, call(response={"from": 1})), (other.id, unanswered())])
    assert store.find_call(bench.db, "r1", first=other.id).response == {"from": 1}  # type: ignore[union-attr]
    assert store.find_replayed(bench.db, "r1", first=other.id).response is None  # type: ignore[union-attr]
    assert store.find_replayed(bench.db, "r1").response == {"from": 1}  # type: ignore[union-attr]
    store.record_calls(bench.db, [(other.id, call(response={"from": 2}))])
    assert store.find_call(bench.db, "r1", first=other.id).response == {"from": 2}  # type: ignore[union-attr]


def test_whatever_a_server_sends_can_be_kept(bench: Any) -> None:
    job = lease(bench)
    odd = {"choices": [{"logprobs": [float("-inf"), -0.5], "text": "\x00 \ud800 ok"}]}
    store.record_calls(bench.db, [(job.id, call(response=odd, status="failed", error="invalid: \x00\ud800"))])
    found = store.find_call(bench.db, "r1")
    assert found is not None
    assert found.response == {"choices": [{"logprobs": ["-inf", -0.5], "text": "\x00 \ud800 ok"}]}
    assert found.error == "invalid: \\x00\\ud800"


def test_descriptions_with_characters_that_no_database_takes_are_kept(bench: Any, result: Results) -> None:
    job = lease(bench)
    store.finish(bench.db, job, result(job.unit, label="a \x00 \udfff label é"))
    assert store.best_descriptions(bench.db)[0].label == "a \\x00 \\udfff label é"


def test_costs_are_summed_by_what_is_asked_for(bench: Any) -> None:
    one, other = lease(bench), lease(bench)
    store.record_calls(
        bench.db,
        [
            (one.id, call("a")), (one.id, call("b", polarity="-")), (other.id, call("a", cached=True)),
            (other.id, call("c", purpose="predict", asker="marks", polarity=None, prompt_tokens=1000)),
            (other.id, unanswered("d", purpose="predict", asker="marks", attempts=4)),
        ],
    )  # fmt: skip
    table = {tuple(row.key.values()): row for row in store.llm_costs(bench.db, "first")}
    explain, predict = table["explain", "quantiles"], table["predict", "marks"]
    assert (explain.calls, explain.known, explain.invalid, explain.prompt_tokens, explain.cached_tokens) == (
        2, 1, 0, 200, 160,
    )  # fmt: skip
    assert (predict.calls, predict.unanswered, predict.attempts, predict.prompt_tokens) == (2, 1, 5, 1000)
    assert [row.key for row in store.llm_costs(bench.db, "first", ["unit"])] == [
        {"unit": one.unit}, {"unit": other.unit},
    ]  # fmt: skip
    by_claim = {row.key["polarity"]: row.calls for row in store.llm_costs(bench.db, "first", ["polarity"])}
    assert by_claim == {None: 1, "+": 2, "-": 1}
    assert store.llm_costs(bench.db, "first", ())[0].tokens == store.progress(bench.db, bench.campaign_id).tokens
    with pytest.raises(store.StoreError, match="cannot be summed by 'colour'"):
        store.llm_costs(bench.db, "first", ["colour"])


def test_nothing_asked_costs_nothing(bench: Any) -> None:
    assert store.llm_costs(bench.db, "first") == []
    [total] = store.llm_costs(bench.db, "first", ())
    assert (total.calls, total.tokens, total.dollars, total.seconds) == (0, 0, None, 0.0)


def test_threads_may_record_at_once_and_every_token_is_counted(bench: Any) -> None:
    jobs = [lease(bench) for _ in range(4)]

    def work(number: int) -> None:
        for i in range(10):
            job = jobs[(number + i) % 4]
            store.record_calls(bench.db, [(job.id, call(f"{number}-{i}")), (jobs[0].id, call("shared"))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(rows(bench)) == 81
    assert store.progress(bench.db, bench.campaign_id).tokens == 160 * 120
    assert store.llm_costs(bench.db, "first", ())[0].prompt_tokens == 160 * 100
    assert store.progress(bench.db, bench.campaign_id).llm_calls == 81


def test_contents_are_equal_though_answers_were_known_or_asked_for_twice(
    make: Callable[..., Any], tmp_path: Path, result: Results
) -> None:
    straight, bumpy = (make(tmp_path / f"{i}.db", ["mlp:1:1"]) for i in range(2))
    job = lease(straight)
    store.record_calls(straight.db, [(job.id, call("a")), (job.id, call("b"))])
    store.finish(straight.db, job, result(job.unit))

    first = lease(bumpy)
    store.record_calls(bumpy.db, [(first.id, call("x")), (first.id, unanswered("y"))])
    assert store.fail(bumpy.db, first, "AnswerError: no JSON", retry=True)
    second = lease(bumpy)
    assert second.failures == 1
    store.record_calls(bumpy.db, [(second.id, call("a", salt=1, response=None, status="failed", error="reset"))])
    store.release(bumpy.db, second)
    third = lease(bumpy)
    again = {"id": "chat-7", "usage": {"prompt_tokens": 3}, "choices": call("a").response["choices"]}  # type: ignore[index]
    store.record_calls(bumpy.db, [(third.id, call("a", salt=1, response=again, seconds=9.0))])
    known = call("b", salt=1, cached=True)
    store.record_calls(bumpy.db, [(third.id, known)])
    store.finish(bumpy.db, third, result(third.unit))
    found = [store.campaign_content(one.db, "first") for one in (straight, bumpy)]
    assert store.differences(found[0], found[1]) == []


def test_contents_differ_where_answers_do(make: Callable[..., Any], tmp_path: Path, result: Results) -> None:
    one, other = (make(tmp_path / f"{i}.db", ["mlp:1:1"]) for i in range(2))
    for bench, said in ((one, "cats"), (other, "dogs")):
        job = lease(bench)
        store.record_calls(bench.db, [(job.id, call(response={"id": said, "choices": [said]}))])
        store.finish(bench.db, job, result(job.unit))
    assert store.differences(store.campaign_content(one.db, "first"), store.campaign_content(other.db, "first")) == [
        "/investigations/f00d mlp:1:1/llm_calls/0/response/choices/0: 'cats' ≠ 'dogs'"
    ]


def test_a_database_from_before_opens_with_its_calls_and_their_sums(
    bench: Any, result: Results, older: Callable[[Path, Path, str], None]
) -> None:
    job = lease(bench)
    store.finish(bench.db, job, result(job.unit))
    bench.db.close()
    old = Path(bench.db.url).with_name("old.db")
    older(old, Path(bench.db.url), "0004")
    before = [  # investigation, position, hash, response, status, cached, tokens, cost
        (job.id, 0, "a", None, "failed", 0, 0, None), (job.id, 1, "a", '{"n": 1}', "done", 0, 10, 0.5),
        (job.id, 2, "a", '{"n": 2}', "done", 0, 10, 0.5), (job.id, 3, "b", '{"n": 3}', "done", 1, 10, 0.5),
        (None, 0, "a", '{"n": 4}', "done", 0, 10, None), (None, 1, "a", '{"n": 5}', "done", 0, 10, None),
    ]  # fmt: skip
    with sqlite3.connect(old) as connection:
        connection.executemany(
            "INSERT INTO llm_calls (investigation_id, position, purpose, model, request_hash, request, response, "
            "status, error, cached, prompt_tokens, completion_tokens, seconds, cost_usd, created_at) "
            "VALUES (?, ?, 'explain', 'm', ?, '{}', ?, ?, NULL, ?, ?, 1, 2.0, ?, '2026-01-01 00:00:00')",
            before,
        )
        connection.execute("UPDATE investigations SET tokens = 22 WHERE id = ?", (job.id,))
    connection.close()
    with store.open_database(old) as db, db.session() as session:
        assert migrate.current(session.connection()) == migrate.head()
        calls = list(session.scalars(sa.select(schema.LlmCall).order_by(schema.LlmCall.id)))
        assert [(c.investigation_id, c.request_hash, json.dumps(c.response), c.attempts) for c in calls] == [
            (job.id, "a", '{"n": 1}', 3), (job.id, "b", '{"n": 3}', 0), (None, "a", '{"n": 4}', 1),
            (None, "a", '{"n": 5}', 1),
        ]  # fmt: skip
        assert (calls[0].prompt_tokens, calls[0].seconds, calls[0].cost_usd) == (20, 6.0, 1.0)
        row = store.list_campaigns(db)[0]
        assert (row.done, row.tokens, row.llm_calls, row.dollars) == (1, 22, 1, 1.0)
        assert store.best_descriptions(db)[0].label == "the article 'the'"


def test_a_failed_unit_that_is_tried_once_more_goes_on_counting_failures(bench: Any) -> None:
    job = lease(bench)
    assert not store.fail(bench.db, job, "AnswerError", retry=False, cost=Cost(1.0))
    assert store.retry_failed(bench.db, bench.campaign_id) == 1
    again = next(one for one in iter(lambda: lease(bench), None) if one.id == job.id)
    assert again.failures == 1, "its salt: what made it fail is not asked again"
    assert store.fail(bench.db, again, "AnswerError", retry=True, max_failures=2)
