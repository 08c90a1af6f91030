"""Rows of evidence withdrawn and put back. Nothing is deleted: each is a further row, and the last one counts.

A row that does not count any more takes the verdicts with it that rested on it: they are set anew in the same
transaction, from what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.closing import Judge, judge_again, lock_campaign
from store.database import Database
from store.errors import StoreError
from store.queries.citations import Ref
from store.queries.evidence import withdrawn_in
from store.records import EVIDENCE_KINDS

_Told = schema.Invalidation


@dataclass(frozen=True)
class VerdictChange:
    """A verdict that is another now."""

    description_id: int
    unit: str
    polarity: str
    half: Literal["input", "output"]
    before: str
    after: str
    reasons: tuple[str, ...]
    """Why it is what it is now."""


@dataclass(frozen=True)
class RivalChange:
    """A rival that is not asserted, and whose status is another now."""

    hypothesis_id: int
    key: str
    before: str
    after: str


@dataclass(frozen=True)
class Amended:
    """What came of withdrawing a row, or of putting it back."""

    invalidation_id: int
    row: str
    """The row's name: ``score:7``."""
    campaign: str
    unit: str
    action: str
    reason: str
    changes: tuple[VerdictChange, ...]
    """On the unit itself first; error control may change others of the campaign."""
    rivals: tuple[RivalChange, ...] = ()
    """Of the unit: refuted by trials that do not count any more, or that count again."""


def withdraw(db: Database, row: Ref, reason: str, judge: Judge) -> Amended:
    """Withdraw a score, an experiment or an observation: it stays where it is and does not count any more.

    Args:
        db: the database.
        row: its name, of a kind of `store.records.EVIDENCE_KINDS`. With an experiment, all its observations go.
        reason: why; shown wherever the row is.
        judge: says what the campaign's evidence comes to, as it is then.

    Raises:
        StoreError: there is no such row, it is withdrawn already, or no reason is given. Nothing is written.
    """
    return _amend(db, row, "invalidated", reason, judge)


def reinstate(db: Database, row: Ref, reason: str, judge: Judge) -> Amended:
    """Put a withdrawn row back; as `withdraw`.

    Raises:
        StoreError: there is no such row, it was not withdrawn itself, or no reason is given. Nothing is written.
    """
    return _amend(db, row, "reinstated", reason, judge)


def _amend(db: Database, row: Ref, action: str, reason: str, judge: Judge) -> Amended:
    kind, number = row
    if kind not in EVIDENCE_KINDS:
        listed = ", ".join(EVIDENCE_KINDS)
        raise StoreError(f"{row} is no evidence that could be withdrawn or put back. What can be: {listed}.")
    if not reason.strip():
        raise StoreError("Say why, with --reason: it is shown wherever the row is.")
    with db.transaction() as session:
        place = _place(session, kind, number)
        if place is None:
            raise StoreError(f"There is no {row} in {db.url}. `neurogloss evidence UNIT` lists the rows of a unit.")
        campaign_id, campaign, unit = place
        lock_campaign(session, campaign_id)
        known = withdrawn_in(session, campaign_id).get((kind, number))
        if action == "invalidated" and known is not None:
            raise StoreError(f"{row} is withdrawn already: {known}")
        if action == "reinstated" and known is None:
            raise StoreError(f"{row} counts: it was not withdrawn, or it was put back since.")
        told = _Told(campaign_id=campaign_id, action=action, reason=reason.strip(), **{f"{kind}_id": number})
        session.add(told)
        session.flush()
        before, held = _verdicts(session, campaign_id), _statuses(session, campaign_id)
        judged = judge_again(session, campaign_id, judge)
        rivals = [
            RivalChange(key, held[key][0], held[key][1], status)
            for key, status in judged.statuses.items()
            if held[key][1] != status
        ]
        changes = [
            VerdictChange(key, name, polarity, half, old, new, tuple(reasons))
            for (key, half), (name, polarity, new, reasons) in _verdicts(session, campaign_id).items()
            if (old := before[key, half][2]) != new
        ]
        changes.sort(key=lambda change: (change.unit != unit, change.description_id, change.half))
        return Amended(told.id, str(row), campaign, unit, action, told.reason, tuple(changes), tuple(rivals))


def _place(session: Session, kind: str, number: int) -> tuple[int, str, str] | None:
    """Campaign and unit that a row belongs to."""
    job, description, experiment = schema.Investigation, schema.Description, schema.Experiment
    query = (
        sa.select(schema.Campaign.id, schema.Campaign.name, schema.Unit.unit)
        .select_from(job)
        .join(schema.Campaign, schema.Campaign.id == job.campaign_id)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
    )
    if kind == "score":
        query = query.join(description, description.investigation_id == job.id).join(
            schema.Score, schema.Score.description_id == description.id
        )
        query = query.where(schema.Score.id == number)
    else:
        query = query.join(experiment, experiment.investigation_id == job.id)
        if kind == "observation":
            query = query.join(schema.Observation, schema.Observation.experiment_id == experiment.id)
        query = query.where((experiment.id if kind == "experiment" else schema.Observation.id) == number)
    found = session.execute(query).one_or_none()
    return None if found is None else (found[0], found[1], found[2])


def _statuses(session: Session, campaign_id: int) -> dict[int, tuple[str, str]]:
    """Hypotheses of a campaign: key and status by id."""
    rival, job = schema.Hypothesis, schema.Investigation
    query = sa.select(rival.id, rival.key, rival.status).join(job, job.id == rival.investigation_id)
    return {row[0]: (row[1], row[2]) for row in session.execute(query.where(job.campaign_id == campaign_id))}


def _verdicts(
    session: Session, campaign_id: int
) -> dict[tuple[int, Literal["input", "output"]], tuple[str, str, str, list[str]]]:
    """(description, half) -> unit, polarity, verdict and reasons."""
    table = schema.Description
    query = (
        sa.select(table, schema.Unit.unit)
        .join(schema.Unit, schema.Unit.id == table.unit_id)
        .where(table.campaign_id == campaign_id, table.superseded_by.is_(None))
        .order_by(table.id)
    )
    found: dict[tuple[int, Literal["input", "output"]], tuple[str, str, str, list[str]]] = {}
    for row, unit in session.execute(query):
        verdict: dict[str, Any] = row.details.get("verdict") or {}
        found[row.id, "input"] = (unit, row.polarity, row.verdict_input, verdict.get("reasons") or [])
        found[row.id, "output"] = (unit, row.polarity, row.verdict_output, verdict.get("output_reasons") or [])
    return found
