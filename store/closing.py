"""Verdicts set anew from what they rest on: when a campaign closes, and whenever a row of its evidence is withdrawn.

What the evidence says is worked out by the caller (``judge``), within the transaction that reads it and writes what it
comes to. So nothing that two processes do at once is lost: the later one judges what the earlier one left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.campaigns import changed_rows
from store.claim_rows import CampaignEvidence, Judged
from store.database import Database
from store.errors import StoreError
from store.queries.evidence import evidence_in
from store.records import VERDICTS

_Row = schema.Investigation

Judge = Callable[[CampaignEvidence], Judged]
"""What a campaign's evidence comes to. It is called within a transaction and must ask no database."""


def close_campaign(db: Database, campaign_id: int, judge: Judge) -> Judged:
    """Mark a campaign done, with what error control over all its claims says.

    Args:
        db: the database.
        campaign_id: the campaign.
        judge: says what its evidence comes to.

    Returns:
        What `judge` said.

    Raises:
        StoreError: some of its investigations are not finished, or a score or description is not one of its own.
            Nothing is written.
    """
    with db.transaction() as session:
        lock_campaign(session, campaign_id)
        left = session.scalar(
            sa.select(sa.func.count()).where(_Row.campaign_id == campaign_id, _Row.status.in_(("pending", "leased")))
        )
        if left:
            raise StoreError(f"{left} units of the campaign are not finished: resume it before closing it.")
        judged = judge_again(session, campaign_id, judge)
        row = session.get_one(schema.Campaign, campaign_id)
        row.status = "done"
        row.finished_at = row.finished_at or schema.utc_now()
        return judged


def judge_campaign(db: Database, campaign_id: int, judge: Judge) -> Judged:
    """Set a campaign's verdicts anew, whether it is closed or not.

    Returns:
        What `judge` said.

    Raises:
        StoreError: a score or description is not one of its own. Nothing is written.
    """
    with db.transaction() as session:
        lock_campaign(session, campaign_id)
        return judge_again(session, campaign_id, judge)


def lock_campaign(session: Session, campaign_id: int) -> None:
    """Keeps other processes from judging the campaign at the same time (on SQLite, writers wait anyway)."""
    session.scalars(sa.select(schema.Campaign).where(schema.Campaign.id == campaign_id).with_for_update()).one()


def judge_again(session: Session, campaign_id: int, judge: Judge) -> Judged:
    """Writes what the evidence comes to, within the caller's transaction."""
    judged = judge(evidence_in(session, campaign_id))
    own = sa.select(schema.Description.id).where(schema.Description.campaign_id == campaign_id)
    session.execute(
        sa.update(schema.Score)
        .where(schema.Score.description_id.in_(own), schema.Score.q_value.is_not(None))
        .values(q_value=None)
    )
    for score_id, q_value in judged.q_values.items():
        changed = changed_rows(
            session,
            sa.update(schema.Score)
            .where(schema.Score.id == score_id, schema.Score.description_id.in_(own))
            .values(q_value=q_value),
        )
        if not changed:
            raise StoreError(f"Score {score_id} is not one of the campaign's.")
    for description_id, verdict in judged.verdicts.items():
        _judge(session, campaign_id, description_id, verdict)
    for hypothesis_id, status in judged.statuses.items():
        session.get_one(schema.Hypothesis, hypothesis_id).status = status
    row = session.get_one(schema.Campaign, campaign_id)
    row.outcome = None if judged.outcome is None else dict(judged.outcome)
    session.flush()
    return judged


def _judge(session: Session, campaign_id: int, description_id: int, verdict: Mapping[str, Any]) -> None:
    row = session.get(schema.Description, description_id)
    if row is None or row.campaign_id != campaign_id:
        raise StoreError(f"Description {description_id} is not one of the campaign's.")
    for half in ("input", "output"):
        if verdict[half] not in VERDICTS:
            raise StoreError(f"A verdict is one of {', '.join(VERDICTS)}, not '{verdict[half]}'.")
    row.verdict_input, row.verdict_output = verdict["input"], verdict["output"]
    row.details = {**row.details, "verdict": dict(verdict)}
    if row.hypothesis_id is not None:
        session.get_one(schema.Hypothesis, row.hypothesis_id).status = verdict["input"]
