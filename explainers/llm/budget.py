"""What calls cost, and the hard stop when a budget is used up."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from explainers.llm.types import SpentError, Usage


@dataclass(frozen=True)
class Price:
    """What an endpoint charges, in USD per million tokens."""

    prompt: float
    completion: float
    cached: float | None = None
    """For tokens of the prompt that come from its prefix cache; None: the same as others."""

    def of(self, usage: Usage) -> float:
        """What a call costs, in USD."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        cached = self.prompt if self.cached is None else self.cached
        return (fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Limits:
    """Where spending stops; None: no limit."""

    calls: int | None = None
    tokens: int | None = None
    """Of prompts and answers together."""
    dollars: float | None = None


@dataclass(frozen=True)
class Spent:
    """What calls that were sent have used."""

    calls: int = 0
    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.dollars + other.dollars)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.calls - other.calls, self.tokens - other.tokens, self.dollars - other.dollars)


@dataclass
class Meter:
    """Counts what is spent, and what the calls in flight may spend at most. Safe to use from many threads.

    A call is let through when the limits hold even if every call in flight, and this one, uses the most that it can.
    Near the end of a budget that is too careful, so a call also goes when nothing else is in flight: calls go one by
    one then, and only the last can exceed a limit. Limits on calls are never exceeded.

    Args:
        limits: Where to stop.
        spent: What was spent before: by the same campaign, before it was cut off.
    """

    limits: Limits = field(default_factory=Limits)
    spent: Spent = field(default_factory=Spent)
    _held: Spent = field(default_factory=Spent, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def reserve(self, tokens: int, dollars: float = 0.0) -> Reservation | None:
        """Sets aside the most that a call can use; None when that has to wait for calls in flight.

        Args:
            tokens: The most tokens that its prompt and answer can have.
            dollars: What these cost.

        Raises:
            SpentError: A limit is reached.
        """
        most = Spent(1, tokens, dollars)
        with self._lock:
            self._check()
            if self._held.calls and not self._fits(self.spent + self._held + most):
                return None
            self._held += most
        return Reservation(self, most)

    def settle(self, reserved: Spent, used: Spent) -> None:
        """Gives back what was set aside and counts what was used."""
        with self._lock:
            self._held -= reserved
            if not self._held.calls:
                self._held = Spent()
            self.spent += used

    def _fits(self, spent: Spent) -> bool:
        limits = self.limits
        return (
            (limits.calls is None or spent.calls <= limits.calls)
            and (limits.tokens is None or spent.tokens <= limits.tokens)
            and (limits.dollars is None or spent.dollars <= limits.dollars)
        )

    def _check(self) -> None:
        limits, spent = self.limits, self.spent
        if limits.calls is not None and spent.calls >= limits.calls:
            raise SpentError(f"The budget of {limits.calls:,} calls to language models is used up.")
        if limits.tokens is not None and spent.tokens >= limits.tokens:
            raise SpentError(
                f"The budget of {limits.tokens:,} tokens of language models is used up ({spent.tokens:,} spent)."
            )
        if limits.dollars is not None and spent.dollars >= limits.dollars:
            raise SpentError(f"The budget of ${limits.dollars:,.2f} is used up (${spent.dollars:,.4f} spent).")


@dataclass
class Reservation:
    """What is set aside for one call. Ends once, by `settle` or `release`; more of either changes nothing."""

    _meter: Meter
    _most: Spent
    _open: bool = True

    def settle(self, usage: Usage, dollars: float | None) -> None:
        """The call was answered, or given up: it counts, with what it used."""
        self._end(Spent(1, usage.prompt_tokens + usage.completion_tokens, dollars or 0.0))

    def release(self) -> None:
        """The call was never answered and is in no ledger."""
        self._end(Spent())

    def _end(self, used: Spent) -> None:
        if self._open:
            self._open = False
            self._meter.settle(self._most, used)


def paid(price: Price | None, usage: Usage) -> float | None:
    """What a call costs in USD; None where no price is known."""
    return None if price is None else price.of(usage)
