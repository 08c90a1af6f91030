"""Rechecks: a campaign's frozen tests on another version of its subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.records import RecheckedRecord, RecheckRecord
from store.rows import RecheckRow, moment
from store.writes import register_subject


def begin_recheck(db: Database, record: RecheckRecord) -> int:
    """Put on record that sealed texts are about to be looked at again, for which claims and on which subject.

    Returns:
        The recheck's id.
    """
    subject_id = register_subject(db, record.subject)
    with db.transaction() as session:
        row = schema.Recheck(
            campaign_id=record.campaign_id, subject_id=subject_id, dtype=record.dtype,
            openings=[dict(opening) for opening in record.openings], distance={}, seconds=None,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return int(row.id)


def finish_recheck(
    db: Database, recheck_id: int, rows: Sequence[RecheckedRecord], *, distance: Mapping[str, Any], seconds: float
) -> None:
    """Keep what came of it, all at once."""
    with db.transaction() as session:
        session.execute(
            sa.update(schema.Recheck)
            .where(schema.Recheck.id == recheck_id)
            .values(distance=dict(distance), seconds=seconds)
        )
        known = {column.name for column in schema.Rechecked.__table__.columns}
        session.add_all(
            schema.Rechecked(
                recheck_id=recheck_id, **{key: value for key, value in asdict(row).items() if key in known}
            )
            for row in rows
        )


def rechecks_of(db: Database, *, campaign: str | None = None, unit: str | None = None) -> list[RecheckRow]:
    """What became of descriptions on other subjects, newest recheck first; those that were cut short are left out.

    Args:
        db: The database.
        campaign: Of this campaign alone.
        unit: Of this unit alone.
    """
    with db.session() as session:
        return rechecks_in(session, campaign=campaign, unit=unit)


def rechecks_in(session: Session, *, campaign: str | None = None, unit: str | None = None) -> list[RecheckRow]:
    """See `rechecks_of`."""
    whole, one, subject, owner = schema.Recheck, schema.Rechecked, schema.Subject, schema.Campaign
    query = (
        sa.select(
            owner.name.label("campaign"), subject.name.label("subject"), subject.fingerprint, whole.dtype,
            whole.created_at, *one.__table__.columns,
        )
        .join(whole, whole.id == one.recheck_id)
        .join(subject, subject.id == whole.subject_id)
        .join(owner, owner.id == whole.campaign_id)
        .order_by(whole.id.desc(), one.id)
    )  # fmt: skip
    if campaign is not None:
        query = query.where(owner.name == campaign)
    if unit is not None:
        query = query.where(one.unit == unit)
    names = [field.name for field in fields(RecheckRow)]
    found = session.execute(query).mappings().all()
    return [
        RecheckRow(**{**{name: row[name] for name in names}, "created_at": moment(row["created_at"])}) for row in found
    ]
