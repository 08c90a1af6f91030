"""Replay: the same answers and the same failures from the record, with no endpoint at all."""

from __future__ import annotations

import numpy as np
import pytest

from explainers.llm.accounts import charged_to
from explainers.llm.budget import Limits, Meter, Price
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.types import AnswerError, CallError, EndpointError, LlmError, MemoryAccount, NotRecordedError, Usage
from tests.explainers.llm.helpers import Echo, Number, client, request
from tests.explainers.llm.scripted import Reply, ScriptedServer, says
from tests.serving import Competent, Faults, ProgrammableServer


def replaying(**settings: object) -> LlmClient:
    """A client with the model's name and nothing that could be reached."""
    return LlmClient([parse_endpoint("vllm:test-model")], replay=True, **settings)  # type: ignore[arg-type]


def plain(answers: list[Number | LlmError]) -> list[object]:
    return [(type(a), str(a)) if isinstance(a, LlmError) else a for a in answers]


@pytest.mark.parametrize("seed", [0, 1])
def test_answers_and_failures_are_the_same(seed: int) -> None:
    account, salted = MemoryAccount(), MemoryAccount(salt=1)
    faults = Faults(0.5, ("refusal", "wrong types", "truncated", "500", "reset"), seed=seed)
    requests = [request(n) for n in range(80)]
    with ProgrammableServer(Echo(), faults=faults) as server, client(server.url, retries=1) as llm:
        with charged_to(account):
            first = llm.ask_all(requests, Number)
        with charged_to(salted):
            second = llm.ask_all(requests, Number)
    assert {type(answer) for answer in first} == {Number, AnswerError, CallError}
    assert plain(first) != plain(second)
    calls = list(account.calls)
    with replaying() as llm:
        with charged_to(account):
            assert plain(llm.ask_all(requests, Number)) == plain(first)
        with charged_to(salted):
            assert plain(llm.ask_all(requests, Number)) == plain(second)
    again = account.calls[len(calls) :]
    assert all(call.cached and call.usage == Usage() and call.cost_usd == 0.0 for call in again)

    def content(call: object) -> tuple[object, ...]:
        return tuple(
            getattr(call, name) for name in ("request_hash", "status", "error", "request", "response", "model")
        )

    assert sorted(map(repr, map(content, again))) == sorted(map(repr, map(content, calls)))


def test_readings_and_embeddings_are_the_same() -> None:
    account = MemoryAccount()
    with ProgrammableServer(Competent()) as server, client(server.url) as llm, charged_to(account):
        read, embedded = llm.read("simulate", ["The cat", "A dog"]), llm.embed(["a", "b"])
    with replaying() as llm, charged_to(account):
        assert llm.read("simulate", ["The cat", "A dog"]) == read
        assert np.array_equal(llm.embed(["a", "b"]), embedded)


def test_what_was_never_recorded_stops_the_replay() -> None:
    with replaying() as llm, charged_to(MemoryAccount()) as account:
        with pytest.raises(NotRecordedError, match="no answer is recorded for a 'explain' request to test-model"):
            llm.ask(request(), Number)
        with pytest.raises(NotRecordedError):
            llm.ask_all([request(1), request(2)], Number)
        with pytest.raises(NotRecordedError):
            llm.embed(["a"])
    assert not account.calls  # type: ignore[attr-defined]


def test_a_repair_that_was_never_recorded_stops_the_replay() -> None:
    account = MemoryAccount()
    with (
        ScriptedServer(lambda hit: says("never")) as server,
        client(server.url) as llm,
        charged_to(account),
        pytest.raises(AnswerError),
    ):
        llm.ask(request(), Number)
    del account.calls[1]
    with replaying() as llm, charged_to(account), pytest.raises(NotRecordedError):
        llm.ask(request(), Number)


def test_replay_spends_nothing_of_a_budget_that_is_used_up() -> None:
    account = MemoryAccount()
    with ScriptedServer(lambda hit: says({"value": 1})) as server, client(server.url) as llm, charged_to(account):
        llm.ask(request(), Number)
    meter = Meter(Limits(calls=0))
    with replaying(meter=meter, price=Price(1, 1)) as llm, charged_to(account):
        assert llm.ask(request(), Number).value == 1
    assert meter.spent.calls == 0


def test_a_resumed_run_asks_only_for_what_is_missing() -> None:
    account = MemoryAccount()
    with ProgrammableServer(Echo()) as server:
        for upto in (10, 30):
            with client(server.url) as llm, charged_to(account):
                llm.ask_all([request(n) for n in range(upto)], Number)
        assert server.billed.answers == 30


def test_a_client_without_a_url_that_does_not_replay_is_refused() -> None:
    with pytest.raises(EndpointError, match="has to be started"):
        LlmClient([parse_endpoint("vllm:test-model")])


def test_answers_in_another_form_are_asked_for_anew() -> None:
    """The schema is part of what is sent, and so of the hash."""
    account = MemoryAccount()

    class Other(Number):
        more: int = 0

    with (
        ScriptedServer(lambda hit: Reply(body=says({"value": 1}).body)) as server,
        client(server.url) as llm,
        charged_to(account),
    ):
        llm.ask(request(), Number)
        llm.ask(request(), Other)
        assert len(server.hits) == 2
