"""When a campaign must stop taking up units, and how the wish to stop reaches the workers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from agent.spec import Budget


class StoppedError(Exception):
    """Raised between two steps of an investigation when the campaign is to stop; the checkpoint stays."""


@dataclass(frozen=True)
class Spent:
    """What a campaign has used, over all its runs and processes."""

    units: int = 0
    """Investigations that ended, done or failed; skipped ones (dead, dense, duplicate) cost nothing."""
    seconds: float = 0.0
    tool_calls: int = 0
    llm_calls: int = 0
    llm_tokens: int = 0
    llm_dollars: float = 0.0


@dataclass(frozen=True)
class Exceeded:
    """The limit that was reached."""

    limit: str
    spent: float
    allowed: float

    def __str__(self) -> str:
        return f"the budget of {self.allowed:g} {self.limit.replace('_', ' ')} is used up ({self.spent:g} spent)"


def exceeded(budget: Budget, spent: Spent, in_flight: int = 0) -> Exceeded | None:
    """The first limit that leaves no room for one more investigation, if any.

    Args:
        budget: The limits.
        spent: What has been committed.
        in_flight: Investigations taken up but not ended; they count against the number of units.
    """
    if budget.units is not None and spent.units + in_flight >= budget.units:
        return Exceeded("units", spent.units + in_flight, budget.units)
    if budget.seconds is not None and spent.seconds >= budget.seconds:
        return Exceeded("seconds", round(spent.seconds, 1), budget.seconds)
    for name in ("tool_calls", "llm_calls", "llm_tokens", "llm_dollars"):
        allowed, used = getattr(budget, name), getattr(spent, name)
        if allowed is not None and used >= allowed:
            return Exceeded(name, round(used, 4), allowed)
    return None


class Rate:
    """Investigations ended per second by this process, over the last few."""

    def __init__(self, keep: int = 50) -> None:
        self._lock = threading.Lock()
        self._keep = keep
        self._ends = [time.monotonic()]

    def ended(self) -> None:
        """One more has ended."""
        with self._lock:
            self._ends = [*self._ends[-self._keep :], time.monotonic()]

    @property
    def per_second(self) -> float:
        """0 before the first has ended."""
        with self._lock:
            span = time.monotonic() - self._ends[0]
            return (len(self._ends) - 1) / span if span > 0 else 0.0
