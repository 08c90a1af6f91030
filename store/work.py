"""Values of the queue of work: campaigns, the leases on their investigations, openings and counts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from store.errors import StoreError
from store.records import CONTROL_KIND, CONTROLS, Json, UnitRecord


@dataclass(frozen=True)
class ControlRecord:
    """A blind control to queue among the units of a campaign."""

    unit: UnitRecord
    """The row that keeps what is found of it, apart from all real units: ``control:…:3``."""
    control: str
    """Its kind: one of `store.records.CONTROLS`."""
    control_of: str
    """Id of the real unit that it is matched to."""

    def __post_init__(self) -> None:
        if self.control not in CONTROLS or self.unit.kind != CONTROL_KIND:
            raise StoreError(
                f"A control must be one of {', '.join(CONTROLS)} and have a unit of kind '{CONTROL_KIND}', not "
                f"'{self.control}' and '{self.unit.unit}'."
            )


@dataclass(frozen=True)
class Campaign:
    """A set of units with one plan and one budget."""

    id: int
    name: str
    spec: Json
    spec_hash: str
    seed: int
    status: str
    """'open' or 'done'."""
    budget: Json
    estimates: Json
    outcome: Json | None
    """What closing it brought out: controls, error rates; None while it is open."""
    created_at: dt.datetime
    finished_at: dt.datetime | None


@dataclass(frozen=True)
class Investigation:
    """The lease on one unit's work; hand it back to `finish`, `fail`, `heartbeat` or `release`."""

    id: int
    campaign_id: int
    subject_id: int
    unit: str
    owner: str
    lease: int
    """Number of this lease: grows each time the unit is leased, so that a stale holder can never write."""
    attempt: int
    """How many attempts were made, this one included; a clean release does not count."""
    failures: int
    """How many attempts failed, those before `retry_failed` among them: it only grows."""
    stage: str | None
    """The last stage that an earlier attempt reported."""
    control: str | None = None
    """What kind of control it is. For who sets the work up, never for who does it."""
    control_of: str | None = None
    """Id of the unit that a control passes for."""


@dataclass(frozen=True)
class Opening:
    """The record that a sealed split was opened for one version of a claim."""

    id: int
    investigation_id: int
    claim: str
    polarity: str
    version: int
    """1 for the first claim of this investigation and polarity, 2 for its first revision, and so on."""
    split: str
    predictions: str | None = None
    """Digest of what was predicted of the split before it was opened."""


@dataclass(frozen=True)
class CampaignProgress:
    """Where a campaign stands and what it has used, summed over its investigations.

    The counts by status are of the units that were asked for; what was used includes the controls.
    """

    pending: int
    leased: int
    done: int
    failed: int
    skipped: int
    seconds: float
    tool_calls: int
    tokens: int
    """Of calls to language models, prompt and completion, as they were spent: an answer that was known costs none."""
    llm_calls: int = 0
    """Those that were sent."""
    dollars: float | None = None
    """Spent on them; None where no price is known."""
    controls: int = 0
    """Blind controls in the queue, finished or not."""
    controls_left: int = 0
    """Controls not yet finished."""

    @property
    def total(self) -> int:
        return self.pending + self.leased + self.done + self.failed + self.skipped

    @property
    def remaining(self) -> int:
        """Units not yet finished, by this process or another."""
        return self.pending + self.leased

    @property
    def left(self) -> int:
        """Investigations not yet finished, controls among them."""
        return self.remaining + self.controls_left
