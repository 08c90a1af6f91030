"""Values that travel out of the store. ``dataclasses.asdict`` makes any of them ready for JSON.

Moments are text in ISO 8601, UTC, to the second: ``2026-03-01T12:00:00Z``.
"""

from store.rows.base import moment
from store.rows.campaigns import (
    CampaignRow,
    CampaignScore,
    CampaignSummary,
    Failure,
    KindSummary,
)
from store.rows.descriptions import (
    DescribedRow,
    DescriptionPage,
    FoundUnit,
    RunnerUp,
    ScoreRow,
    SearchHit,
    UnitRow,
)
from store.rows.evidence import (
    ExampleRow,
    ExperimentRow,
    HypothesisRow,
    InvestigationRow,
    ObservationRow,
    OpeningRow,
    UnitPage,
)
from store.rows.notebook import (
    AnnotationRow,
    InvalidationRow,
    Notebook,
    NotebookWork,
    RecheckRow,
)

__all__ = [
    "AnnotationRow",
    "CampaignRow",
    "CampaignScore",
    "CampaignSummary",
    "DescribedRow",
    "DescriptionPage",
    "ExampleRow",
    "ExperimentRow",
    "Failure",
    "FoundUnit",
    "HypothesisRow",
    "InvalidationRow",
    "InvestigationRow",
    "KindSummary",
    "Notebook",
    "NotebookWork",
    "ObservationRow",
    "OpeningRow",
    "RecheckRow",
    "RunnerUp",
    "ScoreRow",
    "SearchHit",
    "UnitPage",
    "UnitRow",
    "moment",
]
