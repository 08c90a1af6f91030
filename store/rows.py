"""Values that travel out of the store. ``dataclasses.asdict`` makes any of them ready for JSON.

Moments are text in ISO 8601, UTC, to the second: ``2026-03-01T12:00:00Z``.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


def moment(value: dt.datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if value is None else value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


@dataclass(frozen=True)
class RunnerUp:
    """A rival of a description that says something else and might have been chosen in its place; it was not tested."""

    description_id: int
    rank: int
    """2 or more."""
    label: str
    input_half: str
    rule: str | None
    selection: float | None
    """Share of the resamples of the refine split in which it, or one that says the same, does best."""


@dataclass(frozen=True)
class DescribedRow:
    """What is asserted of a tail, with its unit and its headline scores on the score split; a row of the views."""

    description_id: int
    subject: str
    fingerprint: str
    campaign: str
    investigation_id: int
    unit: str
    kind: str
    layer: int | None
    dictionary: str | None
    unit_index: int
    state: str
    density: float | None
    maximum: float | None
    polarity: str
    rank: int
    version: int
    label: str
    input_half: str
    output_half: str | None
    exceptions: str | None
    rule: str | None
    explainer: str
    verdict_input: str
    verdict_output: str
    output_kind: str | None
    """What the output half claims: 'changes', 'varies', 'later', 'nothing', 'untested'; None: words alone."""
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    f1_null: float | None
    f1_p: float | None
    f1_q: float | None
    average_precision: float | None
    pearson: float | None
    created_at: str | None
    control: str | None
    """Kind of the blind control that it describes; None for units that were asked for."""
    control_of: str | None
    selection: float | None = None
    """Share of the resamples of the refine split in which it, or one that says the same, does best."""
    runners_up: tuple[RunnerUp, ...] = ()
    """Best first."""


@dataclass(frozen=True)
class UnitRow:
    """A unit with its statistics."""

    unit_id: int
    unit: str
    subject: str
    fingerprint: str
    kind: str
    layer: int | None
    dictionary: str | None
    unit_index: int
    state: str
    duplicate_of: str | None
    density: float | None
    minimum: float | None
    maximum: float | None
    mean: float | None
    variance: float | None
    n_tokens: int | None


@dataclass(frozen=True)
class FoundUnit:
    """A unit with the best description of each of its tails."""

    unit: UnitRow
    descriptions: list[DescribedRow]


@dataclass(frozen=True)
class ScoreRow:
    """A score, with all that makes it more than a bare number."""

    score_id: int
    metric: str
    split: str
    predictor: str
    protocol_hash: str
    value: float | None
    low: float | None
    high: float | None
    n_examples: int
    n_documents: int
    null_mean: float | None
    p_value: float | None
    e_value: float | None
    q_value: float | None
    unparseable: float
    headline: bool
    cost: Json
    withdrawn: str | None = None
    """Why it does not count any more; None: it does."""


@dataclass(frozen=True)
class DescriptionPage:
    """A description with all of its scores."""

    description_id: int
    campaign: str
    investigation_id: int
    polarity: str
    rank: int
    version: int
    superseded_by: int | None
    label: str
    input_half: str
    output_half: str | None
    exceptions: str | None
    rule: str | None
    explainer: str
    claim: str
    verdict_input: str
    verdict_output: str
    output_kind: str | None
    """What the output half claims: 'changes', 'varies', 'later', 'nothing', 'untested'; None: words alone."""
    hypothesis: str | None
    """Key of the hypothesis it came from."""
    details: Json
    created_at: str | None
    scores: list[ScoreRow]
    """Headline scores first; withdrawn ones among them."""

    @property
    def counting(self) -> list[ScoreRow]:
        """The scores that were not withdrawn."""
        return [score for score in self.scores if score.withdrawn is None]


@dataclass(frozen=True)
class ExampleRow:
    """A window of tokens with the unit's activations."""

    example_id: int
    split: str
    source: str
    polarity: str
    rank: int
    document: str
    context: int
    start: int
    peak: int
    activation: float
    weight: float
    tokens: list[str]
    activations: list[float]


@dataclass(frozen=True)
class HypothesisRow:
    """One of the rivals that were considered."""

    hypothesis_id: int
    key: str
    polarity: str
    explainer: str
    label: str
    input_half: str
    output_half: str | None
    exceptions: str | None
    rule: str | None
    status: str
    details: Json


@dataclass(frozen=True)
class ObservationRow:
    """What an experiment brought back."""

    observation_id: int
    summary: str
    hypothesis: str | None
    outcome: str | None
    data: Json
    withdrawn: str | None = None
    """Why it does not count any more; None: it does."""


@dataclass(frozen=True)
class ExperimentRow:
    """A test that was run."""

    experiment_id: int
    kind: str
    arguments: Json
    seed: int | None
    status: str
    error: str | None
    digest: str | None
    seconds: float
    observations: list[ObservationRow]
    withdrawn: str | None = None
    """Why it does not count any more; None: it does."""


@dataclass(frozen=True)
class OpeningRow:
    """A sealed split was opened for one version of a claim."""

    claim: str
    polarity: str
    version: int
    split: str
    predictions: str | None
    """Digest of what was predicted of it before."""
    opened_by: str
    created_at: str | None
    description_id: int | None


@dataclass(frozen=True)
class InvestigationRow:
    """The work on a unit in one campaign: how it went and what it cost."""

    investigation_id: int
    campaign: str
    spec: Json
    status: str
    stage: str | None
    reason: str | None
    attempts: int
    failures: int
    seconds: float
    tool_calls: int
    tokens: int
    """Of calls to language models that were sent: answers that were known already cost nothing."""
    llm_calls: int
    dollars: float | None
    """None where no price is known."""
    started_at: str | None
    finished_at: str | None
    control: str | None
    control_of: str | None


@dataclass(frozen=True)
class UnitPage:
    """Everything that is known of a unit."""

    unit: UnitRow
    statistics: Json
    profile: Json
    corpus: str | None
    """What the statistics are over."""
    descriptions: list[DescriptionPage]
    """Of all campaigns, best first; superseded versions last."""
    investigations: list[InvestigationRow]
    """Newest first."""
    shown: int | None
    """The investigation that the lists below belong to: that of the best description, else the newest."""
    hypotheses: list[HypothesisRow]
    experiments: list[ExperimentRow]
    examples: list[ExampleRow]
    openings: list[OpeningRow]


@dataclass(frozen=True)
class SearchHit:
    """A description that matches a search."""

    description: DescribedRow
    field: str
    """Where the match is: 'label', 'input_half', 'output_half', 'exceptions' or 'rule'."""
    snippet: str
    highlights: list[tuple[int, int]]
    """Ranges [start, end) of `snippet` that match."""
    score: float
    """Larger is better; comparable within one search only."""


@dataclass(frozen=True)
class RecheckRow:
    """What became of a description on another version of its subject."""

    campaign: str
    subject: str
    """The other version."""
    fingerprint: str
    dtype: str
    created_at: str | None
    recheck_id: int
    description_id: int
    unit: str
    polarity: str
    status: str
    why: str
    moved_to: str | None
    also: list[str]
    similarity: float
    slope: float
    write_cosine: float | None
    f1_old: float | None
    f1_new: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_active: int


@dataclass(frozen=True)
class InvalidationRow:
    """A row of evidence was withdrawn, or put back."""

    invalidation_id: int
    row: str
    """The row's name: ``score:7``."""
    action: str
    """'invalidated' or 'reinstated'."""
    reason: str
    created_at: str | None
    investigation_id: int
    unit: str
    campaign: str


@dataclass(frozen=True)
class AnnotationRow:
    """A person's note, vote or better wording."""

    annotation_id: int
    description_id: int | None
    author: str
    kind: str
    value: float | None
    text: str | None
    created_at: str | None


@dataclass(frozen=True)
class NotebookWork:
    """One investigation of a unit, with everything that was written down, each list in the order in which it came."""

    investigation: InvestigationRow
    seed: int
    """Of the campaign."""
    campaign_status: str
    campaign_finished_at: str | None
    """When error control was done over all its claims."""
    examples: int
    """Kept exemplars."""
    hypotheses: list[HypothesisRow]
    experiments: list[ExperimentRow]
    openings: list[OpeningRow]
    descriptions: list[DescriptionPage]
    """Oldest first, superseded ones among them; their scores in the order in which they were computed."""
    invalidations: list[InvalidationRow]
    rechecks: list[RecheckRow]


@dataclass(frozen=True)
class Notebook:
    """The lab notebook of a unit: what was supposed, done, seen, asserted, tested, judged and withdrawn."""

    unit: UnitRow
    corpus: str | None
    work: list[NotebookWork]
    """Oldest first."""
    annotations: list[AnnotationRow]
