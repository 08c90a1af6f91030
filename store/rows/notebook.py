"""What came after a campaign (rechecks, withdrawals, people's notes), and a unit's whole notebook."""

from __future__ import annotations

from dataclasses import dataclass

from store.rows.descriptions import DescriptionPage, UnitRow
from store.rows.evidence import ExperimentRow, HypothesisRow, InvestigationRow, OpeningRow


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
