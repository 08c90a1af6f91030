"""What is spent, exactly; and the hard stop."""

from __future__ import annotations

import random
import threading
import time

import pytest

from explainers.llm.accounts import charged_to
from explainers.llm.budget import Limits, Meter, Price, Spent
from explainers.llm.client import LlmClient
from explainers.llm.types import AnswerError, EndpointError, MemoryAccount, SpentError, Usage
from tests.explainers.llm.helpers import Echo, Number, client, endpoint, request
from tests.explainers.llm.scripted import Hit, Reply, ScriptedServer, fails, says
from tests.serving import Faults, ProgrammableServer


def test_a_price_is_for_a_million_tokens_and_cached_ones_may_have_their_own() -> None:
    usage = Usage(prompt_tokens=3_000_000, completion_tokens=500_000, cached_tokens=1_000_000)
    assert Price(2.0, 8.0).of(usage) == 6.0 + 4.0
    assert Price(2.0, 8.0, cached=0.5).of(usage) == 4.0 + 0.5 + 4.0
    assert Price(2.0, 8.0).of(Usage()) == 0.0


def test_a_meter_counts_what_was_used_not_what_was_set_aside() -> None:
    meter = Meter(spent=Spent(5, 100, 1.0))
    one, two = meter.reserve(1000, 2.0), meter.reserve(1000, 2.0)
    assert one is not None
    assert two is not None
    one.settle(Usage(30, 12, 7), 0.25)
    two.release()
    one.release()
    two.settle(Usage(9, 9), 9.0)
    assert meter.spent == Spent(6, 142, 1.25)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(calls=1_000), "budget of 1,000 calls"),
        (Limits(tokens=2_000), r"budget of 2,000 tokens .* \(2,000 spent\)"),
        (Limits(dollars=1.5), r"budget of \$1.50 is used up \(\$1.5000 spent\)"),
    ],
)
def test_a_limit_that_was_reached_before_lets_nothing_through(limits: Limits, message: str) -> None:
    with pytest.raises(SpentError, match=message):
        Meter(limits, Spent(1_000, 2_000, 1.5)).reserve(1)


def test_calls_in_flight_make_others_wait_near_the_limit() -> None:
    meter = Meter(Limits(tokens=100))
    first = meter.reserve(60)
    assert first is not None
    assert meter.reserve(60) is None
    first.settle(Usage(20, 10), None)
    # 30 spent: 60 more fit. Then 80 more would not, but go once nothing else is in flight.
    second = meter.reserve(60)
    assert second is not None
    assert meter.reserve(80) is None
    second.settle(Usage(20, 10), None)
    last = meter.reserve(80)
    assert last is not None
    last.settle(Usage(70, 10), None)
    assert meter.spent.tokens == 140
    with pytest.raises(SpentError):
        meter.reserve(1)


@pytest.mark.parametrize("seed", range(5))
def test_sixteen_threads_overshoot_by_at_most_one_call(seed: int) -> None:
    meter, most = Meter(Limits(tokens=3000)), 200
    lock, used = threading.Lock(), [0]

    def work(number: int) -> None:
        rng = random.Random(16 * seed + number)
        while True:
            try:
                reservation = meter.reserve(most)
            except SpentError:
                return
            if reservation is None:
                time.sleep(0.0005)
                continue
            time.sleep(0.002 * rng.random())
            tokens = rng.randint(1, most)
            with lock:
                used[0] += tokens
            reservation.settle(Usage(tokens, 0), None)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.spent.tokens == used[0]
    assert 3000 <= used[0] < 3000 + most


def spend(llm: LlmClient, account: MemoryAccount, n: int = 400, threads: int = 16) -> list[type[BaseException]]:
    """Asks from many threads until all is asked or the budget stops them."""
    stopped: list[type[BaseException]] = []

    def work(start: int) -> None:
        with charged_to(account):
            for number in range(start, n, threads):
                try:
                    llm.ask(request(number, max_tokens=64), Number)
                except AnswerError:
                    continue
                except (SpentError, EndpointError) as error:
                    stopped.append(type(error))
                    return

    workers = [threading.Thread(target=work, args=(start,)) for start in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return stopped


@pytest.mark.parametrize("what", ["calls", "tokens", "dollars"])
def test_the_budget_stops_all_threads_within_one_call(what: str) -> None:
    price = Price(3.0, 11.0, cached=1.0)
    limits = {"calls": Limits(calls=50), "tokens": Limits(tokens=3000), "dollars": Limits(dollars=0.005)}[what]
    account, meter = MemoryAccount(), Meter(limits)
    faults = Faults(0.2, ("refusal", "500", "reset", "429", "wrong types"), retry_after=0.01)
    with (
        ProgrammableServer(Echo(), latency=0.003, faults=faults) as server,
        client(server.url, meter=meter, price=price, concurrency=16) as llm,
    ):
        assert spend(llm, account) == [SpentError] * 16
        bill = server.billed
    tokens = bill.prompt_tokens + bill.completion_tokens
    dollars = bill.dollars(3.0, 11.0, 1.0)
    assert meter.spent.tokens == tokens == sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in account.calls)
    assert meter.spent.dollars == pytest.approx(dollars) == sum(call.cost_usd or 0.0 for call in account.calls)
    assert meter.spent.calls == len(account.calls)
    dearest = max(call.usage.prompt_tokens + call.usage.completion_tokens for call in account.calls)
    if what == "calls":
        assert len(account.calls) == 50
    elif what == "tokens":
        assert 3000 <= tokens < 3000 + dearest
    else:
        assert 0.005 <= dollars < 0.005 + max(call.cost_usd or 0.0 for call in account.calls)


def test_answers_before_the_stop_are_kept() -> None:
    account = MemoryAccount()
    with (
        ScriptedServer(lambda hit: says({"value": 1})) as server,
        client(server.url, meter=Meter(Limits(calls=3))) as llm,
    ):
        with charged_to(account), pytest.raises(SpentError):
            llm.ask_all([request(n) for n in range(10)], Number)
        assert len(server.hits) == len(account.calls) == 3
        with charged_to(account):
            known = [call.request["messages"][1]["content"] for call in account.calls]
            assert llm.ask(request(int(known[0].split()[-1])), Number).value == 1


def test_a_failed_call_counts_as_a_call_without_tokens() -> None:
    account, meter = MemoryAccount(), Meter()
    with (
        ScriptedServer(lambda hit: fails(500)) as server,
        client(server.url, meter=meter, retries=1, price=Price(1, 1)) as llm,
        charged_to(account),
    ):
        llm.ask_all([request(n) for n in range(3)], Number)
    assert meter.spent == Spent(3, 0, 0.0)
    assert [call.cost_usd for call in account.calls] == [0.0] * 3


def test_what_never_went_out_costs_nothing() -> None:
    meter = Meter(Limits(tokens=10_000))
    llm = client("http://127.0.0.1:9/v1", meter=meter)
    with llm, charged_to(MemoryAccount()), pytest.raises(EndpointError):
        llm.ask(request(), Number)
    assert meter.spent == Spent()
    assert meter.reserve(10_000) is not None


def test_a_large_budget_keeps_no_call_waiting() -> None:
    together = threading.Barrier(8, timeout=20)

    def script(hit: Hit) -> Reply:
        together.wait()
        return says({"value": 1})

    meter = Meter(Limits(tokens=10_000_000))
    with (
        ScriptedServer(script) as server,
        client(server.url, meter=meter, timeout=30) as llm,
        charged_to(MemoryAccount()),
    ):
        assert len(llm.ask_all([request(n) for n in range(8)], Number)) == 8
        assert server.most_in_flight == 8


def test_a_limit_in_dollars_needs_a_price() -> None:
    with pytest.raises(EndpointError, match=r"set llm\.price"):
        LlmClient([endpoint("http://127.0.0.1:9/v1")], meter=Meter(Limits(dollars=1.0)))
