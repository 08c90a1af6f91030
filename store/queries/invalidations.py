"""What was withdrawn from the evidence, and put back."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.records import EVIDENCE_KINDS
from store.rows import InvalidationRow, moment

_Told = schema.Invalidation


def invalidations(db: Database, *, unit: str | None = None, campaign: str | None = None) -> list[InvalidationRow]:
    """All that was withdrawn and put back, in order.

    Args:
        db: the database.
        unit: of this unit alone.
        campaign: of this campaign alone.
    """
    with db.session() as session:
        return invalidations_in(session, unit=unit, campaign=campaign)


def invalidations_in(
    session: Session, *, unit: str | None = None, campaign: str | None = None
) -> list[InvalidationRow]:
    """See `invalidations`."""
    job = schema.Investigation
    of_score = sa.select(schema.Description.investigation_id).join(
        schema.Score, schema.Score.description_id == schema.Description.id
    )
    of_observation = sa.select(schema.Experiment.investigation_id).join(
        schema.Observation, schema.Observation.experiment_id == schema.Experiment.id
    )
    owner = sa.func.coalesce(
        of_score.where(schema.Score.id == _Told.score_id).correlate(_Told).scalar_subquery(),
        sa.select(schema.Experiment.investigation_id)
        .where(schema.Experiment.id == _Told.experiment_id)
        .correlate(_Told)
        .scalar_subquery(),
        of_observation.where(schema.Observation.id == _Told.observation_id).correlate(_Told).scalar_subquery(),
    )
    query = (
        sa.select(_Told, job.id, schema.Unit.unit, schema.Campaign.name)
        .select_from(_Told)
        .join(job, job.id == owner)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
        .join(schema.Campaign, schema.Campaign.id == _Told.campaign_id)
        .order_by(_Told.id)
    )
    if unit is not None:
        query = query.where(schema.Unit.unit == unit)
    if campaign is not None:
        query = query.where(schema.Campaign.name == campaign)
    return [
        InvalidationRow(row.id, _name(row), row.action, row.reason, moment(row.created_at), work, name, of)
        for row, work, name, of in session.execute(query)
    ]


def _name(row: schema.Invalidation) -> str:
    kind = next(kind for kind in EVIDENCE_KINDS if getattr(row, f"{kind}_id") is not None)
    return f"{kind}:{getattr(row, f'{kind}_id')}"
