"""What a campaign left in its database, a value for each current description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

import store
from agent.results import TRIAGE
from explainers.types import Explanation
from store import schema


@dataclass(frozen=True)
class Claim:
    """A current description with its headline F1 on the sealed score split and what it cost."""

    unit: str
    polarity: str
    control: str | None
    """Kind of the blind control; None for a unit of the subject."""
    state: str
    """'alive', 'dead', 'dense' or 'duplicate'."""
    duplicate_of: str | None
    explanation: Explanation
    verdict: str
    verdict_output: str
    threshold: float | None
    """Magnitude above which the unit counts as active; None where triage ended the work."""
    f1: float | None
    low: float | None
    high: float | None
    p_value: float | None
    q_value: float | None
    seconds: float
    """Of the whole investigation, shared by its descriptions."""
    forward_passes: int
    tokens: int
    """Of language models."""
    outputs: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Value and p-value of each score of the output half."""
    contest: Mapping[str, Any] = field(default_factory=dict)
    """What is told of the contest of its rivals (`agent.contest.telling`); empty where there was none."""

    @property
    def key(self) -> str:
        return f"{self.unit}{self.polarity}"

    @property
    def triaged(self) -> bool:
        """Whether the unit was recognised as dead, dense or a copy, and not described."""
        return self.explanation.explainer == TRIAGE


def read_claims(db: store.Database, campaign: str) -> list[Claim]:
    """All current descriptions of a campaign, its blind controls among them, in the order of their units."""
    description, unit, job, owner = schema.Description, schema.Unit, schema.Investigation, schema.Campaign
    query = (
        sa.select(description, unit, job)
        .join(unit, unit.id == description.unit_id)
        .join(job, job.id == description.investigation_id)
        .join(owner, owner.id == description.campaign_id)
        .where(owner.name == campaign, description.superseded_by.is_(None), description.rank == 1)
        .order_by(unit.kind, unit.layer, unit.dictionary, unit.unit_index, description.polarity)
    )
    headline = sa.select(schema.Score).where(
        schema.Score.metric == "weighted_f1", schema.Score.headline, schema.Score.split == "score"
    )
    with db.session() as session:
        scores = {score.description_id: score for score in session.scalars(headline)}
        outputs: dict[int, dict[str, tuple[float | None, float | None]]] = {}
        for score in session.scalars(sa.select(schema.Score).where(schema.Score.metric.startswith("output_"))):
            outputs.setdefault(score.description_id, {})[score.metric] = score.value, score.p_value
        return [
            replace(_claim(*row, scores.get(row[0].id)), outputs=outputs.get(row[0].id, {}))
            for row in session.execute(query)
        ]


def _claim(
    description: schema.Description, unit: schema.Unit, job: schema.Investigation, score: schema.Score | None
) -> Claim:
    details: Mapping[str, Any] = description.details
    tail: Mapping[str, Any] = details.get("tail", {})
    return Claim(
        unit=unit.unit,
        polarity=description.polarity,
        control=getattr(job, "control", None),
        state=unit.state,
        duplicate_of=unit.duplicate_of,
        explanation=Explanation(
            description.explainer, description.label, description.input_half, description.output_half,
            description.rule, description.exceptions, dict(details.get("explainer", {})),
        ),
        verdict=description.verdict_input,
        verdict_output=description.verdict_output,
        threshold=tail.get("threshold"),
        f1=score.value if score else None,
        low=score.low if score else None,
        high=score.high if score else None,
        p_value=score.p_value if score else None,
        q_value=score.q_value if score else None,
        seconds=job.seconds,
        forward_passes=int(details.get("cost", {}).get("forward_passes", 0)),
        tokens=job.tokens,
        contest=details.get("contest", {}),
    )  # fmt: skip
