"""What stands behind descriptions: examples, rivals, experiments and openings of the seal; a unit with all of it."""

from __future__ import annotations

from dataclasses import dataclass

from store.rows.base import Json
from store.rows.descriptions import DescriptionPage, UnitRow


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
