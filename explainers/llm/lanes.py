"""Which endpoint a call goes to, and when: the one with most free slots, as long as it is up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import openai

from explainers.llm.endpoints import Endpoint
from explainers.llm.limits import BusyClock, Limit
from explainers.llm.retry import Backoff, Fault, Kind
from explainers.llm.types import EndpointError

#: Seconds after which an endpoint that went down is tried again, while others carry on.
PROBE = 30.0
#: An endpoint that asks to be left alone for longer than this (seconds) counts as down.
LONGEST_WAIT = 300.0
#: Calls given up one after another, with no success between, after which an endpoint counts as down.
GIVEN_UP = 5
#: Failed attempts one after another, after which an endpoint counts as down where there is another one. One that fails
#: at once has free slots and would draw all calls.
FAULTS = 8


@dataclass
class Lane:
    """One endpoint with its connection, its limit, and how it has been doing."""

    endpoint: Endpoint
    client: openai.AsyncOpenAI
    key: str | None = field(repr=False)
    limit: Limit
    resting_until: float = 0.0
    down: str | None = None
    """Why no call is sent there; None when it is up."""
    probe_at: float | None = None
    """When it is tried again though it is down; None: never."""
    rests: int = 0
    faults: int = 0
    given_up: int = 0
    worked: bool = False

    def open(self, now: float) -> bool:
        """Whether a call may be sent now, as far as its state goes."""
        if self.down is not None:
            return self.probe_at is not None and now >= self.probe_at and self.limit.in_flight == 0
        return now >= self.resting_until

    def hide_key(self, text: str) -> str:
        """A text of the endpoint's without the key, should it repeat it. Words like 'EMPTY' are no secrets."""
        return text if self.key is None or len(self.key) < 8 else text.replace(self.key, "***")

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self.endpoint.url or str(self.endpoint)


class Lanes:
    """The endpoints of a client. Belongs to one event loop.

    Args:
        lanes: At least one.
        retries: Times in a row that an endpoint may refuse the connection before it counts as down.
        backoff: How long it rests in between.
    """

    def __init__(self, lanes: list[Lane], retries: int, backoff: Backoff) -> None:
        self.lanes = lanes
        self.throttled = 0
        self._retries = retries
        self._backoff = backoff
        self._waiting: deque[asyncio.Future[tuple[Lane, int]]] = deque()
        self.clock = BusyClock()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> tuple[Lane, int]:
        """A slot at an endpoint, and what `fault` wants to know of the call; waits its turn.

        Raises:
            EndpointError: All endpoints are down.
        """
        self._tick()
        turn: asyncio.Future[tuple[Lane, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._dispatch()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result()[0])
            raise

    def release(self, lane: Lane) -> None:
        """Gives the slot back of a call that came to nothing."""
        self._tick()
        lane.limit.stop()
        self._dispatch()

    def recorded(self, lane: Lane) -> None:
        """Gives the slot back of a call that was answered."""
        self._tick()
        lane.limit.recorded()
        self._dispatch()

    def success(self, lane: Lane) -> None:
        """A call was answered; its slot is given back by `recorded`."""
        self._tick()
        lane.limit.success()
        lane.worked, lane.down, lane.probe_at = True, None, None
        lane.rests = lane.faults = lane.given_up = 0

    def fault(self, lane: Lane, epoch: int, fault: Fault) -> None:
        """A call failed. Makes the endpoint rest, or counts it as down, where the failure says so.

        Args:
            epoch: As `acquire` gave it for this call.
        """
        self._tick()
        now = time.monotonic()
        if fault.kind in (Kind.OVERLOADED, Kind.SLOW):
            self.throttled += 1
            lane.limit.overloaded(epoch)
        if fault.wait is not None and fault.wait > LONGEST_WAIT:
            self._take_down(lane, f"{fault.message}; it asks to wait {fault.wait:,.0f} s", now + fault.wait)
        elif fault.wait is not None:
            lane.resting_until = max(lane.resting_until, now + fault.wait)
        if fault.kind in (Kind.DENIED, Kind.ABSENT):
            self._take_down(lane, fault.message, None)
        elif fault.kind is Kind.UNREACHABLE and lane.limit.overloaded(epoch):
            # All calls in flight are refused together: that counts once. One that never worked is soon given up.
            if lane.rests >= (self._retries if lane.worked else min(2, self._retries)):
                self._take_down(lane, fault.message, now + PROBE)
            lane.resting_until = max(lane.resting_until, now + self._backoff.longest(lane.rests))
            lane.rests += 1
        elif lane.down is not None and lane.probe_at is not None:
            lane.probe_at = max(lane.probe_at, now + PROBE)
        elif fault.kind in (Kind.BROKEN, Kind.SLOW):
            lane.faults += 1
            if lane.faults >= FAULTS and any(one.down is None for one in self.lanes if one is not lane):
                self._take_down(lane, f"{lane.faults} attempts failed in a row: {fault.message}", now + PROBE)

    def gave_up(self, lane: Lane, fault: Fault) -> None:
        """A call was given up there; several in a row, and the endpoint counts as down."""
        # A rejected call says something of the endpoint only where nothing ever worked.
        if fault.kind is not Kind.REJECTED or not lane.worked:
            lane.given_up += 1
            if lane.given_up >= GIVEN_UP:
                self._take_down(
                    lane, f"{lane.given_up} calls failed one after another, the last with: {fault.message}",
                    time.monotonic() + PROBE,
                )  # fmt: skip
                self._dispatch()

    def tick(self) -> None:
        """Brings the busy share up to date."""
        self._tick()

    def _take_down(self, lane: Lane, why: str, probe_at: float | None) -> None:
        lane.down, lane.probe_at = why, probe_at

    def _tick(self) -> None:
        now = time.monotonic()
        allowed = sum(lane.limit.allowed for lane in self.lanes if lane.down is None and now >= lane.resting_until)
        unrecorded = sum(lane.limit.unrecorded for lane in self.lanes)
        self.clock.tick(sum(lane.limit.in_flight for lane in self.lanes), allowed, unrecorded + len(self._waiting))

    def _dispatch(self) -> None:
        """Hands free slots to those who wait, first come first served."""
        now = time.monotonic()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            free = [lane for lane in self.lanes if lane.open(now) and lane.limit.free > 0]
            if not free:
                break
            lane = max(free, key=lambda one: one.limit.free)
            self._waiting.popleft().set_result((lane, lane.limit.start()))
        if self._waiting and all(
            lane.down is not None and not lane.open(now) and lane.limit.in_flight == 0 for lane in self.lanes
        ):
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_exception(self._all_down())
        self._wake(now)

    def _wake(self, now: float) -> None:
        """Comes back when the next endpoint has rested."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [
            when
            for lane in self.lanes
            for when in [lane.resting_until if lane.down is None else lane.probe_at]
            if when is not None and when > now
        ]
        if self._waiting and times:
            self._timer = asyncio.get_running_loop().call_later(min(times) - now + 1e-3, self._woken)

    def _woken(self) -> None:
        self._tick()
        self._timer = None
        self._dispatch()

    def _all_down(self) -> EndpointError:
        reasons = "\n".join(f"{lane.name}: {lane.down}" for lane in self.lanes)
        if len(self.lanes) == 1:
            return EndpointError(f"The endpoint {self.lanes[0].name} is down: {self.lanes[0].down}.")
        return EndpointError(f"All {len(self.lanes)} endpoints are down.\n{reasons}")
