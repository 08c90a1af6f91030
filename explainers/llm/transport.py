"""Sends one body until it is answered or given up: slots, timeouts, retries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from explainers.llm.lanes import Lane, Lanes
from explainers.llm.retry import Backoff, Fault, Kind, NotJsonError, fault_of
from explainers.llm.types import CallError, RejectedError

#: A call is turned away for load for at least this many times the time of one call before it is given up.
PATIENCE = 5


@dataclass(frozen=True)
class Sent:
    """What became of a body."""

    response: dict[str, Any] | None
    """The answer as it came; None when it was given up."""
    fault: Fault | None
    """Why it was given up."""
    attempts: int
    seconds: float
    """It was with an endpoint, over all attempts."""


class Transport:
    """Sends bodies to the endpoints that are up.

    Args:
        lanes: The endpoints.
        timeout: Seconds that one attempt may take.
        retries: Further attempts after faults of the endpoint. Being turned away for load counts by time instead.
        backoff: Waits in between.
    """

    def __init__(self, lanes: Lanes, timeout: float, retries: int, backoff: Backoff) -> None:
        self._lanes = lanes
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self.retried = 0

    @asynccontextmanager
    async def sent(
        self, path: str, body: Mapping[str, Any], *, optional: bool = False, on_sent: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Sent]:
        """The answer to a body, or why there is none. The call keeps its slot until the block ends.

        A block that puts the answer on record thus keeps the number of calls that may have to be paid for again, should
        the process be killed, to that of calls allowed at once.

        Args:
            path: '/chat/completions', …
            body: JSON values.
            optional: Whether an endpoint need not have this path: a 404 then says nothing of the endpoint.
            on_sent: Told when it has a slot and goes out.

        Raises:
            EndpointError: No endpoint is up.
        """
        sent, lane = await self._send(path, body, optional, on_sent)
        try:
            yield sent
        finally:
            if lane is not None:
                self._lanes.recorded(lane)

    async def _send(
        self, path: str, body: Mapping[str, Any], optional: bool, on_sent: Callable[[], None]
    ) -> tuple[Sent, Lane | None]:
        """What became of a body, and where it was answered."""
        attempts, failures, turned_away = 0, 0, 0
        seconds = 0.0
        patience_ends: float | None = None
        while True:
            lane, epoch = await self._lanes.acquire()
            started = time.monotonic()
            fault: Fault
            try:
                attempts += 1
                on_sent()
                self.retried += attempts > 1
                response = await self._attempt(lane, path, body)
            except Exception as error:
                fault = fault_of(error)
                kind = Kind.REJECTED if optional and fault.kind is Kind.ABSENT else fault.kind
                fault = Fault(kind, lane.hide_key(fault.message), fault.wait)
                self._lanes.fault(lane, epoch, fault)
                self._lanes.release(lane)
            except BaseException:
                self._lanes.release(lane)
                raise
            else:
                self._lanes.success(lane)
                return Sent(response, None, attempts, seconds + time.monotonic() - started), lane
            now = time.monotonic()
            seconds += now - started
            if fault.kind in (Kind.UNREACHABLE, Kind.DENIED, Kind.ABSENT):
                continue  # Not this call's fault: it waits for an endpoint that is up, or for all to be down.
            if fault.kind is Kind.OVERLOADED:
                turned_away += 1
                patience_ends = patience_ends or now + PATIENCE * self._timeout
            else:
                failures += 1
            # Only a call that was turned away often and for long has waited enough; most of it may be its queue's time.
            impatient = patience_ends is not None and now >= patience_ends and turned_away > self._retries
            if fault.kind is Kind.REJECTED or failures > self._retries or impatient:
                self._lanes.gave_up(lane, fault)
                return Sent(None, fault, attempts, seconds), None
            pause = self._backoff.wait(failures + turned_away - 1)
            # An endpoint that says how long to wait is left alone for so long by all calls; see `Lanes.fault`.
            await asyncio.sleep(min(pause, fault.wait) if fault.wait else pause)

    async def _attempt(self, lane: Lane, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(self._timeout):
            text = await lane.client.post(path, cast_to=str, body=body)
        text = lane.hide_key(text)
        try:
            response = json.loads(text)
        except ValueError:
            raise NotJsonError("what came is not JSON") from None
        if not isinstance(response, dict):
            raise NotJsonError("what came is not a JSON object")
        if "choices" not in response and "data" not in response and response.get("error"):
            raise NotJsonError(f"an error with status 200: {json.dumps(response['error'])[:300]}")
        return response


def given_up(sent: Sent) -> CallError:
    """The error of a call that got no answer."""
    assert sent.fault is not None
    times = "" if sent.attempts == 1 else f" after {sent.attempts} attempts"
    error = RejectedError if sent.fault.kind is Kind.REJECTED else CallError
    return error(f"No answer{times}: {sent.fault.message}.")
