"""What a running campaign tells whoever is watching: plain events, no display.

The runner calls the methods of an `Observer`, one at a time (never two threads at once), from whichever thread the
thing happened in. A display subclasses `Observer` and overrides what it wants to show; the base class shows nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """What a campaign will cost, told before anything is spent."""

    campaign: str
    subject: str
    units: int
    """Units of the campaign."""
    to_do: int
    """Of these, units that are not described yet and fit in the budget."""
    controls: int
    """Blind controls that are investigated beside the units; their cost is in the figures below."""
    index_tokens: int
    """Tokens that still have to go through the subject; 0 when the index is there already."""
    index_seconds: float
    """Forward time for them, from a timed pilot batch."""
    seconds: float
    """The whole campaign: index and investigations, with the workers that the plan has."""
    llm_tokens: int = 0
    """Tokens of prompts and answers of a language model; 0 where none is asked."""
    llm_dollars: float | None = None
    """What they cost at most, as if none of them came from the endpoint's cache; None where no price is known."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class IndexProgress:
    """How far the activation index is."""

    done_tokens: int
    total_tokens: int
    seconds: float
    """Since this process began to build."""
    stage: str = "activations"
    """'waiting' (another process builds it), 'tokens', 'activations' or 'postings'."""


@dataclass(frozen=True)
class UnitDone:
    """One description of one unit (a unit with two tails has two)."""

    unit: str
    polarity: str
    label: str
    f1: float | None
    """Importance-weighted F1 on sealed examples; None where nothing was scored (dead, dense, duplicate units)."""
    low: float | None
    high: float | None
    """The 95 % interval of `f1`."""
    verdict: str


@dataclass(frozen=True)
class Tally:
    """How many investigations stand where, and how fast they go."""

    total: int
    done: int
    failed: int
    """Given up after the last attempt."""
    pending: int
    leased: int
    """Being worked on, by this process or by another one."""
    rate: float
    """Investigations that this process ended per second; 0 before the first."""
    seconds_left: float | None
    """At that rate; None before the first."""


@dataclass(frozen=True)
class Summary:
    """How a run of a campaign ended."""

    campaign: str
    campaign_id: int
    status: str
    """'done', 'stopped: budget', 'interrupted', or 'running' when another process still holds units."""
    tally: Tally
    described: int
    """Descriptions with a score, over the whole campaign."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """How many descriptions got each verdict."""
    median_f1: float | None = None
    spent: dict[str, float] = field(default_factory=dict)
    """'units', 'seconds' and 'tool_calls' of the whole campaign so far."""
    reason: str | None = None
    """Why it is not done: which limit was reached, or that it was interrupted."""
    already_done: bool = False
    """True when there was nothing left to do."""
    index: str | None = None
    """Folder of the activation index; None as long as there is none."""
    outcome: dict[str, Any] | None = None
    """What closing brought out (see `agent.outcome`); None while the campaign is open."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Observer:
    """Receives a campaign's events; override what you want to show. Must not raise."""

    def phase(self, name: str) -> None:
        """A new phase begins: 'subject', 'corpus', 'estimate', 'index', 'serve', 'investigate', 'close'."""

    def estimate(self, estimate: Estimate) -> None:
        """The cost, before any of it is spent."""

    def index_progress(self, progress: IndexProgress) -> None:
        """The index has grown."""

    def unit_started(self, unit: str) -> None:
        """A worker has taken up a unit."""

    def unit_done(self, done: UnitDone) -> None:
        """A description has been committed to the database."""

    def unit_failed(self, unit: str, error: str, *, final: bool) -> None:
        """An investigation failed; `final` when it will not be tried again."""

    def tally(self, tally: Tally) -> None:
        """Counts after each investigation."""

    def budget(self, limit: str, spent: float, allowed: float) -> None:
        """A limit of the budget ('units', 'seconds' or 'tool_calls') is used up; no new unit will be taken."""

    def finished(self, summary: Summary) -> None:
        """The run is over, done or not."""


class SerialObserver(Observer):
    """Passes events on to another observer one at a time, so that displays need no locks."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._lock = threading.RLock()

    def _pass(self, send: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        with self._lock:
            send(*args, **kwargs)

    def phase(self, name: str) -> None:
        self._pass(self._inner.phase, name)

    def estimate(self, estimate: Estimate) -> None:
        self._pass(self._inner.estimate, estimate)

    def index_progress(self, progress: IndexProgress) -> None:
        self._pass(self._inner.index_progress, progress)

    def unit_started(self, unit: str) -> None:
        self._pass(self._inner.unit_started, unit)

    def unit_done(self, done: UnitDone) -> None:
        self._pass(self._inner.unit_done, done)

    def unit_failed(self, unit: str, error: str, *, final: bool) -> None:
        self._pass(self._inner.unit_failed, unit, error, final=final)

    def tally(self, tally: Tally) -> None:
        self._pass(self._inner.tally, tally)

    def budget(self, limit: str, spent: float, allowed: float) -> None:
        self._pass(self._inner.budget, limit, spent, allowed)

    def finished(self, summary: Summary) -> None:
        self._pass(self._inner.finished, summary)
