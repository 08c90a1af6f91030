"""The lab notebook of a unit: everything that was written down about it, in the order in which it came."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.errors import StoreError
from store.queries.invalidations import invalidations_in
from store.queries.units import (
    descriptions_of,
    experiments_of,
    find_unit_row,
    hypothesis_keys,
    investigations_of,
    rows_of,
    unit_row,
)
from store.rechecks import rechecks_in
from store.rows import (
    AnnotationRow,
    HypothesisRow,
    InvalidationRow,
    InvestigationRow,
    Notebook,
    NotebookWork,
    OpeningRow,
    RecheckRow,
    moment,
)


def notebook(db: Database, unit: str, *, subject: str | None = None, campaign: str | None = None) -> Notebook:
    """Everything that was written down about a unit.

    Args:
        db: the database.
        unit: its id, ``mlp:3:17``.
        subject: name or fingerprint; needed where units of several subjects have that id.
        campaign: look only at what this campaign did.

    Raises:
        StoreError: it is not there, or there are several.
    """
    with db.session() as session:
        row, owner = find_unit_row(session, db, unit, subject)
        jobs = investigations_of(session, row.id, campaign)
        if campaign is not None and not jobs:
            raise StoreError(f"The campaign '{campaign}' has no unit {unit}, or there is no such campaign in {db.url}.")
        corpus = session.scalar(sa.select(schema.Corpus.spec).join(schema.Index).where(schema.Index.id == row.index_id))
        told, again = invalidations_in(session, unit=unit), rechecks_in(session, unit=unit)
        table = schema.Annotation
        notes = session.scalars(sa.select(table).where(table.unit_id == row.id).order_by(table.id))
        return Notebook(
            unit=unit_row(row, owner),
            corpus=corpus,
            work=[_work(session, job, told, again) for job in reversed(jobs)],
            annotations=[
                AnnotationRow(
                    one.id, one.description_id, one.author, one.kind, one.value, one.text, moment(one.created_at)
                )
                for one in notes
            ],
        )


def _work(
    session: Session, job: InvestigationRow, told: list[InvalidationRow], again: list[RecheckRow]
) -> NotebookWork:
    key = job.investigation_id
    owner = session.scalars(sa.select(schema.Campaign).where(schema.Campaign.name == job.campaign)).one()
    descriptions = sorted(descriptions_of(session, {key: job.campaign}), key=lambda one: one.description_id)
    mine = {one.description_id for one in descriptions}
    examples = sa.select(sa.func.count()).select_from(schema.Example).where(schema.Example.investigation_id == key)
    return NotebookWork(
        investigation=job,
        seed=owner.seed,
        campaign_status=owner.status,
        campaign_finished_at=moment(owner.finished_at),
        examples=session.scalar(examples) or 0,
        hypotheses=rows_of(session, HypothesisRow, schema.Hypothesis, key, schema.Hypothesis.position),
        experiments=experiments_of(session, key, hypothesis_keys(session, [key])),
        openings=rows_of(session, OpeningRow, schema.Opening, key, schema.Opening.id),
        descriptions=[
            replace(one, scores=sorted(one.scores, key=lambda score: score.score_id)) for one in descriptions
        ],
        invalidations=[one for one in told if one.investigation_id == key],
        rechecks=[one for one in reversed(again) if one.description_id in mine],
    )
