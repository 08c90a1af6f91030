"""How many calls at once: halved under load, regained step by step, and how much of it is used."""

from __future__ import annotations

import pytest

from explainers.llm.accounts import charged_to
from explainers.llm.limits import BusyClock, ClientStats, Limit
from explainers.llm.types import MemoryAccount
from tests.explainers.llm.helpers import Number, client, request
from tests.explainers.llm.scripted import Hit, Reply, ScriptedServer, fails, says


def test_a_window_that_is_turned_away_halves_once() -> None:
    limit = Limit(32)
    window = [limit.start() for _ in range(32)]
    assert limit.free == 0
    assert [limit.overloaded(epoch) for epoch in window] == [True] + [False] * 31
    assert limit.allowed == 16
    assert limit.free == -16
    for _ in window:
        limit.stop()
    assert limit.overloaded(limit.start())
    assert limit.allowed == 8


def test_it_never_falls_below_one_nor_grows_beyond_the_most() -> None:
    limit = Limit(3)
    for _ in range(5):
        limit.overloaded(limit.start())
        limit.stop()
    assert limit.allowed == 1
    for _ in range(50):
        limit.start()
        limit.success()
        limit.recorded()
    assert limit.allowed == 3
    assert (limit.in_flight, limit.unrecorded) == (0, 0)
    with pytest.raises(ValueError, match="At least one"):
        Limit(0)


def test_it_grows_by_one_for_each_window_of_successes() -> None:
    limit = Limit(8)
    limit.overloaded(limit.start())
    limit.stop()
    seen = []
    for _ in range(4 + 5 + 6):
        limit.start()
        limit.success()
        limit.recorded()
        seen.append(limit.allowed)
    assert seen == [4] * 3 + [5] * 5 + [6] * 6 + [7]


def test_a_call_keeps_its_slot_until_its_answer_is_on_record() -> None:
    limit = Limit(2)
    limit.start()
    limit.start()
    limit.success()
    assert (limit.in_flight, limit.unrecorded, limit.free) == (1, 1, 0)
    limit.recorded()
    assert (limit.in_flight, limit.unrecorded, limit.free) == (1, 0, 1)


def test_busy_is_the_share_of_the_allowed_while_there_was_work() -> None:
    time = [0.0]
    clock = BusyClock(lambda: time[0])

    def state(seconds: float, in_flight: int, allowed: int, waiting: int) -> None:
        time[0] += seconds
        clock.tick(in_flight, allowed, waiting)

    state(10, 0, 8, 0)  # no work
    state(2, 8, 8, 5)
    state(4, 2, 8, 0)
    state(3, 4, 2, 1)  # halved while four were in flight
    state(1, 0, 0, 7)  # told to wait
    assert clock.in_flight_seconds == 2 * 8 + 4 * 2 + 3 * 4
    assert clock.limit_seconds == 2 * 8 + 4 * 8 + 3 * 4
    assert ClientStats(0, 0, 0, clock.in_flight_seconds, clock.limit_seconds).busy == 36 / 60
    assert ClientStats(0, 0, 0, 0.0, 0.0).busy == 0.0


def test_a_client_sends_no_more_than_is_allowed() -> None:
    body = says({"value": 1}).body
    with (
        ScriptedServer(lambda hit: Reply(body=body, seconds=0.02)) as server,
        client(server.url, concurrency=5) as llm,
        charged_to(MemoryAccount()),
    ):
        llm.ask_all([request(n) for n in range(60)], Number)
        assert server.most_in_flight == 5
        assert llm.stats.calls == 60
        assert llm.stats.busy > 0.5


def test_a_client_learns_what_a_server_can_bear() -> None:
    """A server that takes four at once and turns the rest away: in the end few are turned away."""

    def script(hit: Hit) -> Reply:
        return (
            Reply(body=says({"value": 1}).body, seconds=0.01)
            if server.in_flight <= 4
            else fails(429, retry_after_ms="5")
        )

    account = MemoryAccount()
    with (
        ScriptedServer(script) as server,
        client(server.url, concurrency=32) as llm,
        charged_to(account),
    ):
        answers = llm.ask_all([request(n) for n in range(300)], Number)
        late = sum(call.attempts > 1 for call in account.calls[150:])
    assert all(isinstance(answer, Number) for answer in answers)
    assert late < 75
