"""How many calls an endpoint is sent at once, and how busy that keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ClientStats:
    """What a client has done so far."""

    calls: int
    """Turns that were answered or given up; known answers are not among them."""
    retried: int
    """Times that a call was sent again."""
    throttled: int
    """Times that an endpoint said it had too much to do (429, 503) or let a call time out."""
    in_flight_seconds: float
    """Calls that were sent and not answered yet, over the time in which there was work."""
    limit_seconds: float
    """Calls allowed at once, over the same time. An endpoint that is down, or told us to wait, allows none."""

    @property
    def busy(self) -> float:
        """Share of the allowed concurrency that was used while there was work; 0 before there was any."""
        return self.in_flight_seconds / self.limit_seconds if self.limit_seconds > 0 else 0.0


class Limit:
    """Additive increase, multiplicative decrease of the calls that are in flight at one endpoint.

    Halves when the endpoint is overloaded, grows by one for each window of successes (as many as are allowed), as TCP
    does. All calls of one window may be turned away together: that halves once, for calls sent before the last halving
    say nothing of the new limit.

    Args:
        most: Never more than this; also where it starts.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"At least one call at once, not {most}.")
        self.most = most
        self.allowed = most
        self.in_flight = 0
        self.unrecorded = 0
        """Calls that were answered and whose answer is not on record yet; they keep their slots, since a process that
        is killed loses these answers as it loses those that are on their way."""
        self._successes = 0
        self._epoch = 0

    @property
    def free(self) -> int:
        """Calls that may be sent now."""
        return self.allowed - self.in_flight - self.unrecorded

    def start(self) -> int:
        """A call goes out. Returns what `overloaded` wants to know of it."""
        self.in_flight += 1
        return self._epoch

    def stop(self) -> None:
        """A call came to nothing."""
        self.in_flight -= 1

    def recorded(self) -> None:
        """The answer of a call is on record, or will never be."""
        self.unrecorded -= 1

    def success(self) -> None:
        """A call was answered. It keeps its slot until `recorded`."""
        self.in_flight -= 1
        self.unrecorded += 1
        if self.allowed < self.most:
            self._successes += 1
            if self._successes >= self.allowed:
                self.allowed += 1
                self._successes = 0

    def overloaded(self, epoch: int) -> bool:
        """A call was turned away or timed out. Returns whether that was news.

        Args:
            epoch: What `start` gave for this call.
        """
        if epoch != self._epoch:
            return False
        self._epoch += 1
        self._successes = 0
        self.allowed = max(1, self.allowed // 2)
        return True


class BusyClock:
    """Integrates calls in flight and calls allowed over the time in which there was work.

    Args:
        now: Seconds on a clock that only goes forward.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self.in_flight_seconds = 0.0
        self.limit_seconds = 0.0

    def tick(self, in_flight: int, allowed: int, waiting: int) -> None:
        """To be called before any of the three changes, with what they have been since the last call.

        Args:
            in_flight: Calls that an endpoint is at.
            allowed: As many as it could be at.
            waiting: Calls that wait to be sent, or to be put on record.
        """
        now = self._now()
        if in_flight or waiting:
            self.in_flight_seconds += in_flight * (now - self._last)
            self.limit_seconds += max(allowed, in_flight) * (now - self._last)
        self._last = now
