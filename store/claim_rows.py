"""What a report over a campaign's claims needs, as plain values; beside `store.rows`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class ClaimScore:
    """One metric of a claim on the sealed score split."""

    score_id: int
    metric: str
    value: float | None
    low: float | None
    high: float | None
    null_mean: float | None
    p: float | None
    """As the scorer gave it, before error control."""
    q: float | None
    """Set when the campaign closes. Of a control: the least error rate at which the campaign's claims are accepted
    from its p-value on; controls are no part of the family."""
    e: float | None
    headline: bool
    n_examples: int
    n_documents: int
    unparseable: float
    protocol_hash: str
    predictor: str


@dataclass(frozen=True)
class ClaimTest:
    """An observation that bears on the rival that a claim asserts."""

    observation_id: int
    experiment_id: int
    kind: str
    """Of the experiment."""
    outcome: str | None
    withdrawn: str | None
    """Why it does not count any more; None: it does."""


@dataclass(frozen=True)
class Withdrawn:
    """A row that a claim rested on and that does not count any more."""

    row: str
    """Its name: ``score:7``."""
    what: str
    """The score's metric, or the kind of experiment."""
    reason: str


@dataclass(frozen=True)
class ClaimRow:
    """A current description of a campaign, of a unit that was asked for or of a blind control."""

    description_id: int
    investigation_id: int
    unit: str
    """Of a control: the id under which it is kept (``control:…:3``)."""
    group: str
    """Of a control: the group of the unit that it is matched to."""
    kind: str
    """Kind of unit ('mlp', 'head', 'sae', 'dir'); of a control, that of the unit that it is matched to."""
    polarity: str
    control: str | None
    """'shuffled', 'direction', 'swapped' or 'constant'; None for a unit that was asked for."""
    control_of: str | None
    """Id of the unit that a control is matched to."""
    label: str
    input_half: str
    rule: str | None
    explainer: str
    """'triage' for a unit (or control) that was recognised as dead, dense or a duplicate and not investigated."""
    verdict_input: str
    verdict_output: str
    output_kind: str | None
    """What the output half claims; None where it is words alone."""
    density: float | None
    """Share of explore tokens on which the described tail is active."""
    scores: Mapping[str, ClaimScore]
    """By metric, those on the score split that count; F1 at the corpus's prevalence is 'weighted_f1'."""
    refine_f1: float | None
    """F1 on the refine split, by which the description was chosen among its rivals."""
    status: str
    """Of the investigation: 'done', or 'skipped' when triage threw it out."""
    reason: str | None
    seconds: float
    """Of the whole investigation, like the other costs; one with two tails has two claims."""
    tool_calls: int
    forward_passes: int | None
    tokens: int
    """Of language-model calls."""
    details: Json
    hypothesis_status: str | None = None
    """Of the rival that it asserts; None where it asserts none."""
    tests: tuple[ClaimTest, ...] = ()
    """What was observed of the rival that it asserts, by experiments, in their order; of superseded ones as well."""
    withdrawn: tuple[Withdrawn, ...] = ()
    """Scores and observations of it that do not count any more."""

    @property
    def tested(self) -> bool:
        """Whether the claim was investigated and judged, and not thrown out by triage."""
        return self.status == "done"


@dataclass(frozen=True)
class ControlRow:
    """A blind control and how it fared."""

    investigation_id: int
    unit: str
    control: str
    control_of: str
    status: str
    reason: str | None
    verdicts: dict[str, str]
    """By polarity: the verdict on each of its claims."""
    seconds: float
    tool_calls: int

    @property
    def accepted(self) -> bool:
        """Whether any of its descriptions was accepted; none should be."""
        return "supported" in self.verdicts.values()


@dataclass(frozen=True)
class RefutedRival:
    """A rival that is not asserted, and of whose trials some do not count any more."""

    hypothesis_id: int
    unit: str
    key: str
    status: str
    """As it is stored."""
    dropped: str
    """Why it was dropped."""
    ratios: tuple[float, ...]
    """Of the trials that count: log likelihood ratio of what came, for it against the others, in nats."""


@dataclass(frozen=True)
class CampaignEvidence:
    """All that the verdicts of a campaign rest on, as it stands in one state of the database."""

    campaign: str
    status: str
    spec: Json
    claims: list[ClaimRow]
    """See `store.queries.campaign_evidence`."""
    controls: list[ControlRow]
    outcome: Json | None = None
    """As it is stored."""
    rivals: tuple[RefutedRival, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What is made of it: what is written back."""

    q_values: Mapping[int, float]
    """By score id; other scores of the campaign have none."""
    verdicts: Mapping[int, Json]
    """By description id: what becomes of ``details['verdict']``. Its 'input' becomes the verdict of the description
    and of the hypothesis that it asserts, its 'output' that of the description's output half."""
    outcome: Json | None = None
    """Of the campaign."""
    statuses: Mapping[int, str] = field(default_factory=dict)
    """Of hypotheses that are not asserted, by their ids."""
