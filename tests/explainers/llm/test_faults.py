"""What goes wrong below the answers: load, hangs, cut connections, errors, endpoints that die, interruption."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from explainers.llm import lanes
from explainers.llm.accounts import charged_to
from explainers.llm.endpoints import Endpoint
from explainers.llm.retry import retry_after
from explainers.llm.types import AnswerError, CallError, EndpointError, LlmError, MemoryAccount
from tests.explainers.llm.helpers import Echo, Number, client, request
from tests.explainers.llm.scripted import Hit, Reply, ScriptedServer, fails, says
from tests.serving import Faults, ProgrammableServer

GOOD = says({"value": 1})
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def account() -> Iterator[MemoryAccount]:
    account = MemoryAccount()
    with charged_to(account):
        yield account


PASSING = {
    "429": fails(429),
    "429 with a wait": fails(429, Retry_After="0.05"),
    "429 with a wait in ms": fails(429, retry_after_ms="20"),
    "503": fails(503),
    "500": fails(500),
    "502 in HTML": Reply(502, b"<html>Bad gateway</html>"),
    "408": fails(408),
    "409": fails(409),
    "cut": Reply(body=GOOD.body, cut=True),
    "not JSON": Reply(body=b'{"choices": [{"mess'),
    "a list": Reply(body=b"[1, 2]"),
    "an error with status 200": Reply(body=b'{"error": {"message": "overloaded"}}'),
    "slow": Reply(body=GOOD.body, seconds=0.6),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again(account: MemoryAccount, name: str) -> None:
    with (
        ScriptedServer(lambda hit: GOOD if hit.number > 1 else PASSING[name]) as server,
        client(server.url, timeout=0.3) as llm,
    ):
        assert llm.ask(request(), Number).value == 1
        assert llm.stats.retried == 2
    (call,) = account.calls
    assert (call.status, call.attempts, call.usage.prompt_tokens) == ("done", 3, 7)


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_pass_is_given_up_with_its_reason(account: MemoryAccount, name: str) -> None:
    with ScriptedServer(lambda hit: PASSING[name]) as server, client(server.url, timeout=0.1, retries=2) as llm:
        with pytest.raises(CallError, match=r"No answer after \d+ attempts: .+\.") as raised:
            llm.ask(request(), Number)
        attempts = len(server.hits)
    (call,) = account.calls
    assert (call.status, call.response, call.attempts) == ("failed", None, attempts)
    assert call.error == f"CallError: {raised.value}"
    assert call.usage.prompt_tokens == 0
    # Load is waited out for a time, other faults are counted.
    assert attempts > 3 if name[:3] in ("429", "503") else attempts == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_call_that_cannot_succeed_is_not_tried_again(account: MemoryAccount, status: int) -> None:
    message = "This model's maximum context length is 1024 tokens."
    with ScriptedServer(lambda hit: fails(status, message)) as server, client(server.url) as llm:
        with pytest.raises(CallError, match=f"No answer: HTTP {status}: {message}"):
            llm.ask(request(), Number)
        assert len(server.hits) == 1


def test_too_long_prompts_do_not_stop_the_others(account: MemoryAccount) -> None:
    def script(hit: Hit) -> Reply:
        number = int(hit.body["messages"][1]["content"].split()[-1])
        return GOOD if number == 0 else fails(400, "too long")

    with ScriptedServer(script) as server, client(server.url) as llm:
        assert llm.ask(request(0), Number).value == 1
        answers = llm.ask_all([request(n) for n in range(1, 20)], Number)
        assert all(isinstance(answer, CallError) for answer in answers)
        assert llm.ask(request(0, seed=1), Number).value == 1


def test_an_endpoint_is_left_alone_for_as_long_as_it_asks() -> None:
    def script(hit: Hit) -> Reply:
        return fails(429, Retry_After="0.4") if hit.number == 3 else GOOD

    with ScriptedServer(script) as server, client(server.url, concurrency=1) as llm:
        llm.ask_all([request(n) for n in range(8)], Number)
        gaps = [after.at - before.at for before, after in zip(server.hits, server.hits[1:], strict=False)]
    assert len(server.hits) == 9
    assert gaps[3] >= 0.4


def test_an_endpoint_that_asks_to_wait_for_an_hour_is_down() -> None:
    with ScriptedServer(lambda hit: fails(429, "quota", Retry_After="3600")) as server, client(server.url) as llm:
        with pytest.raises(EndpointError, match="wait 3,600 s"):
            llm.ask(request(), Number)
        assert len(server.hits) == 1


def test_waits_are_read_in_every_form() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "2"}) == 2
    assert retry_after({"retry-after": "-2"}) == 0
    assert retry_after({"retry-after": "2", "retry-after-ms": "1500"}) == 1.5
    assert retry_after({"retry-after": "soon"}) is None
    date = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert date is not None
    assert 50 < date <= 60


def test_a_storm_of_429_halves_the_load_and_fails_no_call(account: MemoryAccount) -> None:
    faults = Faults(0.03, ("429",), storm=20, retry_after=0.01)
    with ProgrammableServer(Echo(), latency=0.005, faults=faults) as server, client(server.url, concurrency=32) as llm:
        answers = llm.ask_all([request(n) for n in range(120)], Number)
        stats = llm.stats
        assert server.billed.answers == 120
    assert answers == [Number(value=n) for n in range(120)]
    assert stats.throttled >= 20
    assert 0.5 < stats.busy <= 1
    assert stats.calls == 120
    assert all(call.status == "done" for call in account.calls)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_under_a_mix_of_faults_every_token_is_accounted_for(account: MemoryAccount, seed: int) -> None:
    faults = Faults(0.3, seed=seed, storm=5, retry_after=0.01)
    answers: dict[int, Number | LlmError] = {}
    with (
        ProgrammableServer(Echo(), latency=0.01, faults=faults) as server,
        client(server.url, timeout=3.0, concurrency=16) as llm,
    ):

        def work(numbers: range) -> None:
            with charged_to(account):
                given = llm.ask_all([request(n) for n in numbers], Number)
            answers.update(zip(numbers, given, strict=True))

        threads = [threading.Thread(target=work, args=(range(start, 100, 8),)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bill = server.billed
    assert len(answers) == 100
    assert [
        n for n, answer in answers.items() if answer != Number(value=n) and not isinstance(answer, AnswerError)
    ] == []
    assert sum(call.usage.prompt_tokens for call in account.calls) == bill.prompt_tokens
    assert sum(call.usage.completion_tokens for call in account.calls) == bill.completion_tokens
    assert sum(call.response is not None for call in account.calls) == bill.answers
    assert {call.status for call in account.calls} == {"done", "failed"}


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_an_endpoint_that_takes_no_call_stops_everything_at_once(status: int) -> None:
    with ScriptedServer(lambda hit: fails(status, "go away")) as server, client(server.url, concurrency=2) as llm:
        with pytest.raises(EndpointError, match=f"{server.url} is down: HTTP {status}: go away"):
            llm.ask_all([request(n) for n in range(50)], Number)
        assert len(server.hits) <= 2
        with pytest.raises(EndpointError):
            llm.ask(request(99), Number)


def test_a_quota_that_is_used_up_is_not_a_matter_of_load() -> None:
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    with (
        ScriptedServer(lambda hit: Reply(429, body)) as server,
        client(server.url) as llm,
        pytest.raises(EndpointError, match="exceeded your quota"),
    ):
        llm.ask(request(), Number)


def test_nothing_listens_there(account: MemoryAccount) -> None:
    with client(NOWHERE) as llm, pytest.raises(EndpointError, match=r"127\.0\.0\.1:9/v1 is down: no connection"):
        llm.ask_all([request(n) for n in range(50)], Number)
    assert not account.calls


def test_an_endpoint_that_only_fails_is_down_after_several_calls(account: MemoryAccount) -> None:
    with ScriptedServer(lambda hit: fails(500, "broken")) as server, client(server.url, retries=1) as llm:
        with pytest.raises(EndpointError, match="calls failed one after another, the last with: HTTP 500: broken"):
            llm.ask_all([request(n) for n in range(100)], Number)
        assert len(server.hits) < 200
    assert all(call.status == "failed" for call in account.calls)


def test_two_endpoints_share_the_load() -> None:
    with (
        ProgrammableServer(Echo(), latency=0.05) as one,
        ProgrammableServer(Echo(), latency=0.05) as two,
        client(one.url, two.url, concurrency=4) as llm,
    ):
        assert len(llm.ask_all([request(n) for n in range(80)], Number)) == 80
        assert one.most_in_flight == two.most_in_flight == 4
        assert one.billed.answers + two.billed.answers == 80
        assert 20 <= one.billed.answers <= 60


@pytest.mark.parametrize("dies", ["stops", "denies", "only fails"])
def test_one_endpoint_dies_and_the_other_carries_on(account: MemoryAccount, dies: str) -> None:
    def script(hit: Hit) -> Reply:
        if hit.number < 10:
            return GOOD
        return fails(403) if dies == "denies" else fails(500)

    with ScriptedServer(script) as one, ProgrammableServer(Echo(), latency=0.02) as two:
        if dies == "stops":
            with ProgrammableServer(Echo(), latency=0.02) as dying, client(dying.url, two.url, concurrency=8) as llm:
                dying.dies_after = 20
                answers = llm.ask_all([request(n) for n in range(200)], Number)
                delivered = dying.billed.answers + two.billed.answers
            assert [answer for answer in answers if isinstance(answer, Exception)] == []
            assert delivered == 200
        else:
            with client(one.url, two.url, concurrency=8) as llm:
                answers = llm.ask_all([request(n) for n in range(200)], Number)
            assert sum(isinstance(answer, Number) for answer in answers) >= 195
            assert two.billed.answers > 100
    assert len(account.calls) == 200


def test_an_endpoint_that_comes_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "PROBE", 0.2)
    with (
        ProgrammableServer(Echo()) as one,
        ProgrammableServer(Echo(), latency=0.02) as two,
        client(one.url, two.url, concurrency=4, retries=1) as llm,
    ):
        llm.ask_all([request(n) for n in range(20)], Number)
        one.stop()
        llm.ask_all([request(n) for n in range(20, 60)], Number)
        before = one.billed.answers
        one.start()
        time.sleep(0.3)
        llm.ask_all([request(n) for n in range(60, 140)], Number)
        assert one.billed.answers > before


def test_keys_are_in_no_record_log_or_message(
    account: MemoryAccount, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-a-very-secret-key"
    monkeypatch.setenv("NEUROGLOSS_LLM_KEY", key)
    caplog.set_level(logging.DEBUG)

    def script(hit: Hit) -> Reply:
        told = hit.headers["authorization"]
        return (
            fails(400, told),
            fails(500, told),
            says(told),
            says({"value": 1, "note": told[:40]}),
            fails(401, told),
        )[min(hit.number, 4)]

    texts = []
    with ScriptedServer(script) as server, client(server.url, retries=0) as llm:
        for number in range(5):
            try:
                texts.append(repr(llm.ask(request(number), Number)))
            except (CallError, EndpointError) as error:
                texts += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        assert [hit.headers["authorization"] for hit in server.hits] == [f"Bearer {key}"] * 5
        texts += [repr(llm), repr(llm.stats), repr(llm._lanes.lanes)]
    texts += [repr(account.calls), caplog.text, repr(Endpoint("vllm", "m", server.url, "NEUROGLOSS_LLM_KEY"))]
    assert "Bearer ***" in texts[0]
    assert not [text for text in texts if "very-secret" in text]


def test_closing_ends_what_waits_and_counts_what_was_sent(account: MemoryAccount) -> None:
    with ScriptedServer(lambda hit: Reply(body=GOOD.body, seconds=0.3)) as server:
        llm = client(server.url, concurrency=4)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with charged_to(account):
                    llm.ask_all([request(n) for n in range(40)], Number)
            except EndpointError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while len(server.hits) < 4:
            time.sleep(0.005)
        llm.close()
        thread.join(5)
        assert not thread.is_alive()
        assert "closed" in str(errors[0])
        assert len(server.hits) == 4
        assert len(account.calls) == 4
        assert all(call.status == "done" for call in account.calls)
        with pytest.raises(EndpointError, match="closed"):
            llm.ask(request(), Number)
        llm.close()


def test_closing_does_not_wait_for_a_hang(account: MemoryAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explainers.llm.client.GRACE", 0.2)
    with ScriptedServer(lambda hit: Reply(body=GOOD.body, seconds=60)) as server:
        llm = client(server.url, timeout=60)
        caught: list[BaseException] = []

        def work() -> None:
            try:
                with charged_to(account):
                    llm.ask(request(), Number)
            except EndpointError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not server.hits:
            time.sleep(0.005)
        llm.close()
        thread.join(10)
    assert len(caught) == 1
    assert not account.calls


INTERRUPTED = """
import sys
from explainers.llm.accounts import charged_to
from explainers.llm.types import MemoryAccount
from tests.explainers.llm.helpers import Number, client, request
account = MemoryAccount()
try:
    with client(sys.argv[1], concurrency=4, timeout=60) as llm, charged_to(account):
        print("asking", flush=True)
        llm.ask_all([request(n) for n in range(100)], Number)
except KeyboardInterrupt:
    print("interrupted", len(account.calls), {call.status for call in account.calls})
"""


def test_an_interrupted_program_keeps_what_it_paid_for_and_ends() -> None:
    with ScriptedServer(lambda hit: Reply(body=GOOD.body, seconds=1.0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[3],
            # Of a shell that runs this in the background it would inherit that SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
        while len(server.hits) < 4:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert error == ""
        assert out.split("\n")[1] == "interrupted 4 {'done'}"
        assert len(server.hits) == 4
