"""Asking: what is sent, what is made of the answer, what is told of each turn."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest

from explainers.llm.accounts import NoAccountError, charged_to, current_account
from explainers.llm.budget import Price
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import Endpoint
from explainers.llm.types import (
    Abilities,
    AnswerError,
    Call,
    CallError,
    EndpointError,
    Llm,
    MemoryAccount,
    RejectedError,
    Usage,
)
from explainers.llm.wire import strict_schema
from explainers.prompted.forms import Described, DescribedConcepts
from tests.explainers.llm.helpers import Echo, Number, client, request
from tests.explainers.llm.scripted import Hit, Reply, ScriptedServer, says
from tests.serving import Competent, Faults, ProgrammableServer
from tests.serving.answers import embedding


@pytest.fixture
def server() -> Iterator[ProgrammableServer]:
    with ProgrammableServer(Echo()) as server:
        yield server


@pytest.fixture
def account() -> Iterator[MemoryAccount]:
    account = MemoryAccount()
    with charged_to(account):
        yield account


def test_answers_in_the_form_and_reports_the_call(server: ProgrammableServer, account: MemoryAccount) -> None:
    with client(server.url, price=Price(1.0, 10.0)) as llm:
        assert isinstance(llm, Llm)
        assert llm.ask(request(41), Number) == Number(value=41)
    (call,) = account.calls
    bill = server.billed
    assert (call.status, call.error, call.attempts, call.cached, call.purpose) == ("done", None, 1, False, "explain")
    assert call.usage == Usage(bill.prompt_tokens, bill.completion_tokens, 0)
    assert call.cost_usd == pytest.approx(bill.dollars(1.0, 10.0))
    assert call.request == server.requests[0].body
    assert call.response is not None
    assert json.loads(call.response["choices"][0]["message"]["content"])["value"] == 41
    assert call.seconds > 0


def test_answers_come_in_the_order_of_the_requests(server: ProgrammableServer, account: MemoryAccount) -> None:
    with client(server.url) as llm:
        answers = llm.ask_all([request(n) for n in range(60)], Number)
        assert llm.ask_all([], Number) == []
    assert answers == [Number(value=n) for n in range(60)]
    assert server.billed.answers == len(account.calls) == 60


def test_sends_a_strict_schema_seed_and_limits(server: ProgrammableServer, account: MemoryAccount) -> None:
    with client(server.url) as llm:
        llm.ask(request(1, max_tokens=99, temperature=0.7, seed=5), Number)
    body = server.requests[0].body
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (99, 0.7, 5)
    asked = body["response_format"]["json_schema"]
    assert (body["response_format"]["type"], asked["name"], asked["strict"]) == ("json_schema", "Number", True)
    assert asked["schema"]["required"] == ["value", "note"]
    assert asked["schema"]["additionalProperties"] is False
    assert asked["schema"]["properties"]["note"]["anyOf"][0]["maxLength"] == 50


def test_strict_schemas_reach_into_lists_and_definitions() -> None:
    schema = strict_schema(DescribedConcepts)
    assert schema["$defs"]["Described"]["additionalProperties"] is False
    assert set(schema["$defs"]["Described"]["required"]) == set(Described.model_fields)
    assert schema["properties"]["concepts"]["items"] == {"$ref": "#/$defs/Described"}
    assert "maxLength" in json.dumps(schema)
    assert "maxLength" not in json.dumps(strict_schema(DescribedConcepts, lengths=False))
    assert '"default"' not in json.dumps(schema)


def test_an_endpoint_without_schemas_is_told_it_in_the_shared_message(account: MemoryAccount) -> None:
    with ProgrammableServer(Echo(), abilities=frozenset()) as server:
        with client(server.url, abilities=Abilities(json_schema=False)) as llm:
            assert llm.ask(request(6), Number) == Number(value=6)
        body = server.requests[0].body
    assert "response_format" not in body
    assert '"additionalProperties": false' in body["messages"][0]["content"]
    assert body["messages"][1]["content"] == "Repeat 6"


@pytest.mark.parametrize(
    "content",
    [
        '```json\n{"value": 3}\n```',
        'Here you are:\n```\n{"value": 3}\n```\nAnything else?',
        'The answer is {"value": 3}.',
        '<think>Could it be {"value": 4}?</think>\n{"value": 3, "note": null}',
        '  {"value": 3}\n\n',
        '{"value": 3, "note": "two\nlines\x0c"}',
    ],
)
def test_words_around_the_object_and_raw_line_ends_in_it_are_passed_over(account: MemoryAccount, content: str) -> None:
    with ScriptedServer(lambda hit: says(content)) as server, client(server.url) as llm:
        assert llm.ask(request(), Number).value == 3
    assert len(account.calls) == 1


WRONG = {
    "half": (says('{"value": 3'), "Invalid JSON"),
    "type": (says({"value": "many"}), "value: Input should be a valid integer"),
    "extra": (says({"value": 3, "more": 1}), "more: Extra inputs are not permitted"),
    "long": (says({"value": 3, "note": "x" * 51}), "note: String should have at most 50 characters"),
    "prose": (says("I would rather talk of something else."), "no JSON object"),
    "empty": (says(""), "is empty"),
    "nothing": (says(None), "is empty"),
    "refusal": (says(None, refusal="I cannot help with that."), "the model refused: I cannot help with that."),
    "cut off": (says('{"value": 3}', finish="length"), "cut off after 1024 tokens"),
    "filter": (says('{"value": 3}', finish="content_filter"), "content filter"),
    "no choices": (Reply(body=b'{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}'), "no message"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_answer_is_repaired_in_one_turn(account: MemoryAccount, name: str) -> None:
    wrong, why = WRONG[name]
    with (
        ScriptedServer(lambda hit: says({"value": 8}) if hit.number else wrong) as server,
        client(server.url, price=Price(1.0, 1.0)) as llm,
    ):
        assert llm.ask(request(), Number).value == 8
    first, second = account.calls
    assert first.status == "failed"
    assert first.error is not None
    assert first.error.startswith("invalid answer: ")
    assert why in first.error
    assert first.response is not None
    assert (second.status, second.error) == ("done", None)
    assert first.usage == second.usage == Usage(7, 3)
    assert first.cost_usd == second.cost_usd == pytest.approx(1e-5)
    before, after = server.hits[0].body["messages"], server.hits[1].body["messages"]
    assert after[:2] == before
    assert [message["role"] for message in after[2:]] == ["assistant", "user"]
    assert after[2]["content"]
    assert why in after[3]["content"]


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_invalid_twice_is_a_failure_with_its_reason(account: MemoryAccount, name: str) -> None:
    wrong, why = WRONG[name]
    with ScriptedServer(lambda hit: wrong) as server, client(server.url) as llm:
        with pytest.raises(AnswerError, match="even after a repair turn") as raised:
            llm.ask(request(), Number)
        assert why in str(raised.value)
        assert len(server.hits) == 2
    assert [call.status for call in account.calls] == ["failed", "failed"]
    assert account.calls[1].error == f"AnswerError: {raised.value}"
    assert all(call.response is not None for call in account.calls)


def test_a_failure_stands_in_the_place_of_its_answer(account: MemoryAccount) -> None:
    def script(hit: Hit) -> Reply:
        number = int(hit.body["messages"][1]["content"].split()[-1])
        return (
            says("never")
            if number == 2
            else Reply(400, b'{"error": "too long"}')
            if number == 3
            else says({"value": 1})
        )

    with ScriptedServer(script) as server, client(server.url) as llm:
        answers = llm.ask_all([request(n) for n in range(5)], Number)
    assert [type(answer) for answer in answers] == [Number, Number, AnswerError, RejectedError, Number]
    assert "HTTP 400: too long" in str(answers[3])


def test_a_long_invalid_answer_is_quoted_in_part(account: MemoryAccount) -> None:
    with ScriptedServer(lambda hit: says("x" * 50_000)) as server, client(server.url) as llm:
        with pytest.raises(AnswerError):
            llm.ask(request(), Number)
        assert len(server.hits[1].body["messages"][2]["content"]) < 3000


def test_identical_requests_in_flight_share_one_call(account: MemoryAccount) -> None:
    other = MemoryAccount()
    begun = threading.Event()

    def slow(hit: Hit) -> Reply:
        begun.set()
        return Reply(body=says({"value": 1}).body, seconds=0.3)

    with ScriptedServer(slow) as server, client(server.url) as llm:

        def ask_too() -> None:
            begun.wait(5)
            with charged_to(other):
                assert llm.ask(request(), Number).value == 1

        thread = threading.Thread(target=ask_too)
        thread.start()
        assert llm.ask_all([request(), request(purpose="predict")], Number) == [Number(value=1)] * 2
        thread.join()
        assert len(server.hits) == 1
        assert llm.stats.calls == 1
    assert sorted(call.cached for call in account.calls) == [False, True]
    assert [call.cached for call in other.calls] == [True]
    shared = other.calls[0]
    assert (shared.usage, shared.cost_usd, shared.attempts) == (Usage(), 0.0, 0)
    assert shared.response == account.calls[0].response


def test_what_is_known_is_not_asked_for_again(server: ProgrammableServer, account: MemoryAccount) -> None:
    with client(server.url, price=Price(1.0, 1.0)) as llm:
        first = llm.ask(request(3), Number)
        assert llm.ask(request(3, purpose="predict"), Number) == first
        assert llm.ask(request(3, seed=1), Number) == first
        account.salt = 1
        assert llm.ask(request(3), Number) == first
    assert server.billed.answers == 3
    assert [call.cached for call in account.calls] == [False, True, False, False]
    assert len({call.request_hash for call in account.calls}) == 3
    assert account.calls[1].purpose == "predict"
    assert account.calls[1].cost_usd == 0.0


def test_a_known_invalid_answer_is_taken_as_it_was(account: MemoryAccount) -> None:
    with ScriptedServer(lambda hit: says("never")) as server, client(server.url) as llm:
        messages = []
        for _ in range(2):
            with pytest.raises(AnswerError) as raised:
                llm.ask(request(), Number)
            messages.append(str(raised.value))
        assert len(server.hits) == 2
    assert messages[0] == messages[1]
    assert [call.cached for call in account.calls] == [False, False, True, True]
    assert [call.error for call in account.calls[2:]] == [call.error for call in account.calls[:2]]


def test_a_call_that_got_no_answer_is_made_again(account: MemoryAccount) -> None:
    with (
        ScriptedServer(lambda hit: says({"value": 1}) if hit.number else Reply(400, b"{}")) as server,
        client(server.url) as llm,
    ):
        with pytest.raises(CallError):
            llm.ask(request(), Number)
        assert llm.ask(request(), Number).value == 1
    assert [(call.status, call.cached) for call in account.calls] == [("failed", False), ("done", False)]


def test_a_call_is_kept_before_its_answer_is_used(account: MemoryAccount) -> None:
    class Broken(MemoryAccount):
        def record(self, call: object) -> None:
            raise OSError("disk full")

    with ScriptedServer(lambda hit: says({"value": 1})) as server, client(server.url) as llm:
        with charged_to(Broken()), pytest.raises(OSError, match="disk full"):
            llm.ask_all([request(1), request(2)], Number)
        assert llm.ask(request(), Number).value == 1
        assert len(server.hits) == 3


def test_no_more_answers_are_unrecorded_than_calls_are_allowed(server: ProgrammableServer) -> None:
    class Slow(MemoryAccount):
        """Keeps nothing before it is told to, and is asked for much meanwhile."""

        def __init__(self) -> None:
            super().__init__()
            self.gate = threading.Event()

        def record(self, call: Call) -> None:
            self.gate.wait(10)
            super().record(call)

    def settled() -> int:
        before = -1
        while (now := server.billed.answers) != before:
            before = now
            time.sleep(0.2)
        return now

    account = Slow()
    with client(server.url, concurrency=3) as llm, ThreadPoolExecutor(1) as pool:
        with charged_to(account):
            asked = pool.submit(copy_context().run, llm.ask_all, [request(n) for n in range(40)], Number)
        assert settled() == 3
        account.gate.set()
        assert asked.result(10) == [Number(value=n) for n in range(40)]
    assert len(account.calls) == server.billed.answers == 40


def test_an_answer_is_kept_before_the_calls_to_come_are_looked_up(server: ProgrammableServer) -> None:
    class Busy(MemoryAccount):
        """Takes its time to look things up."""

        def __init__(self) -> None:
            super().__init__()
            self.looked_up = 0

        def known(self, request_hash: str) -> Call | None:
            time.sleep(0.01)
            self.looked_up += 1
            return super().known(request_hash)

        def record(self, call: Call) -> None:
            recorded_after.append(self.looked_up)
            super().record(call)

    recorded_after: list[int] = []
    with client(server.url, concurrency=1) as llm, charged_to(Busy()):
        llm.ask_all([request(n) for n in range(60)], Number)
    assert recorded_after[0] < 50


def test_tokens_that_an_endpoint_does_not_count_have_no_cost(account: MemoryAccount) -> None:
    with (
        ScriptedServer(lambda hit: says({"value": 1}, usage=None)) as server,
        client(server.url, price=Price(1, 1)) as llm,
    ):
        llm.ask(request(), Number)
    assert (account.calls[0].usage, account.calls[0].cost_usd) == (Usage(), None)


def test_asking_without_an_account_is_a_mistake(server: ProgrammableServer) -> None:
    with client(server.url) as llm, pytest.raises(NoAccountError, match="charged_to"):
        llm.ask(request(), Number)
    assert not server.requests


def test_an_account_holds_for_its_thread_and_copies_of_its_context(account: MemoryAccount) -> None:
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(current_account())
        except NoAccountError:
            seen.append(None)

    with charged_to(MemoryAccount()) as inner:
        assert current_account() is inner
        for thread in (threading.Thread(target=look), threading.Thread(target=copy_context().run, args=(look,))):
            thread.start()
            thread.join()
    assert current_account() is account
    assert seen == [None, inner]


def test_reads_the_log_probabilities_of_a_prompt(account: MemoryAccount) -> None:
    class Reader(Competent):
        def read(self, prompt: str) -> list[tuple[str, float, dict[str, float]]]:
            return [
                ("The", -1.0, {}), (" cat", -2.123456789, {" dog": -0.25, " cow": -3.0}), ("7", -0.5, {"7": -0.5}),
            ]  # fmt: skip

    with ProgrammableServer(Reader()) as server, client(server.url) as llm:
        (tokens,) = llm.read("simulate", ["The cat7"], top=2)
        again = llm.read("simulate", ["The cat7"], top=2)
        assert server.billed.answers == 1
    assert not isinstance(tokens, Exception)
    assert [token.token for token in tokens] == ["The", " cat", "7"]
    assert tokens[0].logprob is None
    assert tokens[1].logprob == -2.12346
    assert dict(tokens[1].top) == {" cat": -2.12346, " dog": -0.25, " cow": -3.0}
    assert again == [tokens]
    assert [call.cached for call in account.calls] == [False, True]
    assert account.calls[0].usage.prompt_tokens == server.billed.prompt_tokens
    assert account.calls[0].purpose == "simulate"


def test_without_prompt_logprobs_reading_fails_and_says_so(account: MemoryAccount) -> None:
    with ProgrammableServer(abilities=frozenset()) as server, client(server.url) as llm:
        (failure,) = llm.read("simulate", ["The cat"])
        again = llm.read("simulate", ["The cat"])
        assert isinstance(failure, AnswerError)
        assert "no prompt_logprobs" in str(failure)
        assert str(again[0]) == str(failure)
        assert account.calls[0].status == "failed"
        assert account.calls[0].usage.prompt_tokens > 0
    with client(server.url, abilities=Abilities()) as llm, pytest.raises(AnswerError, match="does not offer"):
        llm.read("simulate", ["The cat"])


def test_embeds_in_batches_and_keeps_what_it_got(server: ProgrammableServer, account: MemoryAccount) -> None:
    texts = [f"text {n}" for n in range(150)]
    with client(server.url) as llm:
        vectors = llm.embed(texts)
        assert np.array_equal(llm.embed(texts), vectors)
        assert llm.embed([]).shape == (0, 0)
    assert vectors.shape == (150, 256)
    assert vectors.dtype == np.float32
    assert server.billed.answers == 3
    assert np.array_equal(vectors, np.stack([embedding(text) for text in texts]))
    assert sum(call.usage.prompt_tokens for call in account.calls) == server.billed.prompt_tokens
    assert {call.purpose for call in account.calls} == {"embed"}


def test_embeddings_that_are_missing_are_a_failure(account: MemoryAccount) -> None:
    with ProgrammableServer(faults=Faults(1.0, ("empty",))) as server, client(server.url) as llm:
        for _ in range(2):
            with pytest.raises(AnswerError, match="No embeddings"):
                llm.embed(["a"])
    with ProgrammableServer(Echo(), abilities=frozenset({"json_schema"})) as server, client(server.url) as llm:
        with pytest.raises(CallError, match="404"):
            llm.embed(["b"])
        assert llm.ask(request(), Number).value == 1


def test_a_client_is_for_one_model_that_is_running() -> None:
    here = "http://127.0.0.1:1/v1"
    with pytest.raises(EndpointError, match="same model; these name a, b"):
        LlmClient([Endpoint("vllm", "a", here, None), Endpoint("vllm", "b", here, None)])
    with pytest.raises(EndpointError, match="none"):
        LlmClient([])
    with pytest.raises(EndpointError, match="has to be started"):
        LlmClient([Endpoint("vllm", "a", None, None)])
