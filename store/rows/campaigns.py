"""A campaign as it is told: its counts, what came of its units, and its scores."""

from __future__ import annotations

from dataclasses import dataclass

from store.rows.base import Json


@dataclass(frozen=True)
class CampaignRow:
    """A campaign with its counts by status and what it used."""

    campaign_id: int
    campaign: str
    subject: str | None
    status: str
    created_at: str | None
    finished_at: str | None
    investigations: int
    pending: int
    leased: int
    done: int
    failed: int
    skipped: int
    controls: int
    """Blind controls beside the units; no other count has them, but what was used does."""
    seconds: float
    tool_calls: int
    tokens: int
    """Of calls to language models that were sent: answers that were known already cost nothing."""
    llm_calls: int
    dollars: float | None
    """None where no price is known."""
    descriptions: int
    supported: int


@dataclass(frozen=True)
class KindSummary:
    """What came of the units of one kind, or of all."""

    investigations: dict[str, int]
    """Number of units by status."""
    states: dict[str, int]
    """Number of units that were done or skipped, by state: alive, dead, dense, duplicate."""
    descriptions: int
    verdicts_input: dict[str, int]
    verdicts_output: dict[str, int]
    effects: dict[str, int]
    """Supported output halves by what they claim: that tokens change, …, that nothing does."""
    median_f1: float | None
    """Of the headline scores on the score split; of the best description where a tail has several."""
    median_average_precision: float | None
    median_pearson: float | None
    well_described: int
    """Units with a supported description of F1 ≥ `CampaignSummary.well_described_f1`."""
    well_described_share: float | None
    """Of the units that were done or failed; skipped ones (dead, dense, duplicate) do not count."""


@dataclass(frozen=True)
class Failure:
    """A unit without a result, and why."""

    unit: str
    status: str
    reason: str | None


@dataclass(frozen=True)
class CampaignSummary:
    """A campaign in full."""

    campaign: CampaignRow
    spec: Json
    seed: int
    budget: Json
    estimates: Json
    well_described_f1: float
    total: KindSummary
    kinds: dict[str, KindSummary]
    failures: list[Failure]
    """Failed units, the first `n_failures` of them."""
    outcome: Json | None
    """What closing brought out: error rates and how the blind controls fared; None while the campaign is open."""


@dataclass(frozen=True)
class CampaignScore:
    """A score with what error control over a campaign needs."""

    score_id: int
    description_id: int
    unit: str
    polarity: str
    metric: str
    split: str
    value: float | None
    p_value: float | None
    e_value: float | None
