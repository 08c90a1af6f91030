"""The work of a campaign, unit by unit: how it ended, what it cost, which sealed data it opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from store import schema
from store.campaigns import get_campaign
from store.database import Database


@dataclass(frozen=True)
class JobRow:
    """The work on one unit or blind control."""

    investigation_id: int
    unit: str
    control: str | None
    status: str
    reason: str | None
    seconds: float
    tool_calls: int
    tokens: int
    openings: Mapping[int, int]
    """How often the score split was opened for a description, by its id."""
    dropped_openings: int
    """Openings of any sealed split for claims that are in no description, though the work has ended."""


def campaign_jobs(db: Database, name: str) -> list[JobRow]:
    """All work of a campaign, its blind controls last, in the order in which it was queued.

    Raises:
        StoreError: there is no campaign of this name.
    """
    campaign = get_campaign(db, name)
    job, unit, opening = schema.Investigation, schema.Unit, schema.Opening
    with db.session() as session:
        opened: dict[int, Counter[int]] = defaultdict(Counter)
        dropped: Counter[int] = Counter()
        for key, description, split in session.execute(
            sa.select(opening.investigation_id, opening.description_id, opening.split)
            .join(job, job.id == opening.investigation_id)
            .where(job.campaign_id == campaign.id)
        ):
            if description is None:
                dropped[key] += 1
            elif split == "score":
                opened[key][description] += 1
        rows = session.execute(
            sa.select(job, unit.unit)
            .join(unit, unit.id == job.unit_id)
            .where(job.campaign_id == campaign.id)
            .order_by(job.control.is_not(None), job.id)
        )
        return [
            JobRow(
                row.id, named, row.control, row.status, row.reason, row.seconds, row.tool_calls, row.tokens,
                dict(opened[row.id]), dropped[row.id] if row.status in ("done", "skipped") else 0,
            )
            for row, named in rows
        ]  # fmt: skip
