"""The end of a campaign: q-values, verdicts after error control, and how it came out, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.campaigns import changed_rows
from store.database import Database
from store.errors import StoreError
from store.records import VERDICTS

_Row = schema.Investigation


def close_campaign(
    db: Database,
    campaign_id: int,
    q_values: Mapping[int, float],
    *,
    verdicts: Mapping[int, Mapping[str, Any]] | None = None,
    outcome: Mapping[str, Any] | None = None,
) -> None:
    """Mark a campaign done, with what error control over all its claims says; see `queries.campaign_evidence`.

    Args:
        db: the database.
        campaign_id: the campaign.
        q_values: score id → q-value.
        verdicts: description id → what becomes of `details['verdict']`; its 'input' becomes the verdict of the
            description and of the hypothesis that it asserts, its 'output' that of the description's output half.
        outcome: of the campaign; kept with it.

    Raises:
        StoreError: some of its investigations are not finished, or a score or description is not one of its own.
            Nothing is written.
    """
    with db.transaction() as session:
        left = session.scalar(
            sa.select(sa.func.count()).where(_Row.campaign_id == campaign_id, _Row.status.in_(("pending", "leased")))
        )
        if left:
            raise StoreError(f"{left} units of the campaign are not finished: resume it before closing it.")
        own = sa.select(schema.Description.id).where(schema.Description.campaign_id == campaign_id)
        for score_id, q_value in q_values.items():
            changed = changed_rows(
                session,
                sa.update(schema.Score)
                .where(schema.Score.id == score_id, schema.Score.description_id.in_(own))
                .values(q_value=q_value),
            )
            if not changed:
                raise StoreError(f"Score {score_id} is not one of the campaign's.")
        for description_id, verdict in (verdicts or {}).items():
            _judge(session, campaign_id, description_id, verdict)
        row = session.get_one(schema.Campaign, campaign_id)
        row.status = "done"
        row.finished_at = row.finished_at or schema.utc_now()
        row.outcome = None if outcome is None else dict(outcome)


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
