"""What came of the steps of investigations: each kept once, at once and for good, and found by what was known before.

A step that was cut off and is done again comes to the same, and leaves what is there as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from store import schema
from store.database import Database
from store.writes import insert_of


@dataclass(frozen=True)
class Recorded:
    """What one step came to."""

    step: str
    key: str
    """Digest of what was known before it."""
    digest: str
    """Of what came of it."""
    data: bytes


def record_step(db: Database, investigation_id: int, recorded: Recorded) -> None:
    """Keep what a step came to.

    Raises:
        StoreError: the database cannot be written.
    """
    with db.transaction() as session:
        session.execute(
            insert_of(session, schema.Recording)
            .values(investigation_id=investigation_id, created_at=schema.utc_now(), **vars(recorded))
            .on_conflict_do_nothing()
        )


def find_step(db: Database, investigation_id: int, key: str) -> Recorded | None:
    """What came of a step, by what was known before it; None when it is not on record."""
    table = schema.Recording
    query = sa.select(table.step, table.key, table.digest, table.data)
    with db.session() as session:
        row = session.execute(query.where(table.investigation_id == investigation_id, table.key == key)).one_or_none()
    return None if row is None else Recorded(*row)


def recorded_steps(db: Database, campaign_id: int, steps: Collection[str]) -> dict[int, int]:
    """How many of these steps of each investigation of a campaign are on record; those with none are left out."""
    table, job = schema.Recording, schema.Investigation
    query = (
        sa.select(table.investigation_id, sa.func.count())
        .join(job, job.id == table.investigation_id)
        .where(job.campaign_id == campaign_id, table.step.in_(list(steps)))
        .group_by(table.investigation_id)
    )
    with db.session() as session:
        return {key: number for key, number in session.execute(query)}
