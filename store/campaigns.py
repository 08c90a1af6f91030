"""The queue of investigations: pending → leased → done, failed or skipped.

A worker leases a unit, works on it while its heartbeat keeps the lease, and hands back everything it found in one
transaction (`finish`). A lease that runs out, because its holder was killed or hangs, is given to the next worker.
Every lease has a number that only grows, and only the holder of the latest one can write: a unit is never finished
twice, however late a stale worker wakes up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema, writes
from store.database import Database, database_time
from store.errors import LeaseLostError, StoreError
from store.records import INVESTIGATION_STATUSES, Cost, InvestigationResult, UnitRecord
from store.work import Campaign, CampaignProgress, ControlRecord, Investigation

#: A unit is begun at most this often. Generous, since a killed process takes all units down that it held, and at most
#: one of them is to blame; clean releases do not count.
MAX_ATTEMPTS = 20
#: A unit that fails this often, by its own account, is failed for good.
MAX_FAILURES = 3

_Row = schema.Investigation


def create_campaign(
    db: Database,
    name: str,
    spec: Mapping[str, Any],
    spec_hash: str,
    *,
    seed: int = 0,
    budget: Mapping[str, Any] | None = None,
    estimates: Mapping[str, Any] | None = None,
    subject_id: int | None = None,
    corpus_id: int | None = None,
    index_id: int | None = None,
) -> Campaign:
    """The campaign of this name: made, or found again when the spec is the same.

    The budget and the estimates are no part of the spec: where given, they replace the ones before, so that a
    campaign whose budget is used up can go on with a larger one.

    Raises:
        StoreError: a campaign of this name has another spec.
    """
    given = {"budget": budget, "estimates": estimates}
    given_ids = {"subject_id": subject_id, "corpus_id": corpus_id, "index_id": index_id}
    with db.transaction() as session:
        row = session.scalars(sa.select(schema.Campaign).where(schema.Campaign.name == name)).one_or_none()
        if row is not None and row.spec_hash != spec_hash:
            raise StoreError(
                f"There is a campaign '{name}' with another spec in {db.url} ({_differing(row.spec, spec)}).\n"
                "Give this one another name, or `neurogloss campaign show` the one before and use its spec."
            )
        if row is None:
            row = schema.Campaign(
                name=name, spec=dict(spec), spec_hash=spec_hash, seed=seed, status="open", budget={}, estimates={}
            )
            session.add(row)
        for field, value in given.items():
            if value is not None:
                setattr(row, field, dict(value))
        for field, key in given_ids.items():
            if key is not None:
                setattr(row, field, key)
        session.flush()
        return _campaign(row)


def get_campaign(db: Database, name: str) -> Campaign:
    """The campaign of this name.

    Raises:
        StoreError: there is none; the message lists those that there are.
    """
    with db.session() as session:
        row = session.scalars(sa.select(schema.Campaign).where(schema.Campaign.name == name)).one_or_none()
        if row is None:
            names = session.scalars(sa.select(schema.Campaign.name).order_by(schema.Campaign.id.desc()).limit(8)).all()
            known = f"It has: {', '.join(names)}." if names else "It has none yet."
            raise StoreError(f"There is no campaign '{name}' in {db.url}. {known}")
        return _campaign(row)


def add_investigations(
    db: Database, campaign_id: int, subject_id: int, units: Iterable[str | UnitRecord | ControlRecord]
) -> int:
    """Queue units and controls, in this order. Those already queued are left as they are; returns how many are new."""
    records = [UnitRecord(unit) if isinstance(unit, str) else unit for unit in units]
    with db.transaction() as session:
        ids = writes.write_units(session, subject_id, [r.unit if isinstance(r, ControlRecord) else r for r in records])
        known = set(session.scalars(sa.select(_Row.unit_id).where(_Row.campaign_id == campaign_id)))
        fresh = {key: record for key, record in zip(ids, records, strict=True) if key not in known}
        if fresh:
            rows = [
                {
                    "campaign_id": campaign_id,
                    "unit_id": key,
                    "control": getattr(record, "control", None),
                    "control_of": getattr(record, "control_of", None),
                }
                for key, record in fresh.items()
            ]
            session.execute(sa.insert(_Row), rows)
        return len(fresh)


def lease_next(
    db: Database, campaign_id: int, owner: str, lease_seconds: float, *, max_attempts: int = MAX_ATTEMPTS
) -> Investigation | None:
    """Take the next unit that nobody holds, or whose lease ran out; None when there is none.

    Atomic across threads, processes and, on Postgres, machines. Units with fewer attempts come first, so that one
    that kills its workers does not stop the rest; after `max_attempts` it is failed.

    Args:
        db: the database.
        campaign_id: the campaign to work for.
        owner: who takes it, unique to the process (host, process id, start time); see `reclaim`.
        lease_seconds: how long the lease holds without a `heartbeat`.
        max_attempts: how often a unit is begun at most.
    """
    with db.transaction() as session:
        now = database_time(session)
        expired = sa.and_(_Row.status == "leased", _Row.lease_until < now)
        free = sa.and_(_Row.campaign_id == campaign_id, sa.or_(_Row.status == "pending", expired))
        _give_up(session, free, max_attempts, now)
        row = session.scalars(
            sa.select(_Row).where(free).order_by(_Row.attempts, _Row.id).limit(1).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        row.status = "leased"
        row.attempts += 1
        row.leases += 1
        row.lease_owner = owner
        row.lease_until = now + dt.timedelta(seconds=lease_seconds)
        row.started_at = row.started_at or now
        unit = session.get_one(schema.Unit, row.unit_id)
        return Investigation(
            id=row.id,
            campaign_id=campaign_id,
            subject_id=unit.subject_id,
            unit=unit.unit,
            owner=owner,
            lease=row.leases,
            attempt=row.attempts,
            failures=row.failures,
            stage=row.stage,
            control=row.control,
            control_of=row.control_of,
        )


def heartbeat(db: Database, investigation: Investigation, lease_seconds: float, *, stage: str | None = None) -> None:
    """Keep the lease for another `lease_seconds` from now, and say how far the work is.

    Raises:
        LeaseLostError: it ran out and somebody else took it.
    """
    with db.transaction() as session:
        until = database_time(session) + dt.timedelta(seconds=lease_seconds)
        values: dict[str, Any] = {"lease_until": until}
        if stage is not None:
            values["stage"] = stage
        update_held(session, investigation, **values)


def release(db: Database, investigation: Investigation) -> bool:
    """Give an unfinished unit back to the queue (Ctrl-C); the attempt does not count. False if it was lost already."""
    with db.transaction() as session:
        try:
            update_held(
                session, investigation, status="pending", attempts=_Row.attempts - 1, lease_owner=None, lease_until=None
            )
        except LeaseLostError:
            return False
        return True


def reclaim(db: Database, campaign_id: int, is_alive: Callable[[str], bool]) -> int:
    """Give back to the queue the units whose holder is known to be dead, without waiting for their leases to run out.

    Args:
        db: the database.
        campaign_id: the campaign.
        is_alive: whether the process behind an owner may still be at work; when in doubt it must say so.

    Returns:
        How many units were given back. The attempts count.
    """
    with db.transaction() as session:
        held = sa.and_(_Row.campaign_id == campaign_id, _Row.status == "leased")
        owners = session.scalars(sa.select(_Row.lease_owner).where(held).distinct()).all()
        dead = [owner for owner in owners if owner is not None and not is_alive(owner)]
        if not dead:
            return 0
        return changed_rows(
            session,
            sa.update(_Row)
            .where(held, _Row.lease_owner.in_(dead))
            .values(status="pending", lease_owner=None, lease_until=None),
        )


def finish(db: Database, investigation: Investigation, result: InvestigationResult) -> None:
    """Write everything that was found and mark the unit done (or skipped), in one transaction: all of it or nothing.

    Raises:
        LeaseLostError: the lease is somebody else's by now, or the unit is finished already; nothing is written.
        StoreError: the result is not well formed, or the disk is full; nothing is written.
    """
    if result.unit.unit != investigation.unit:
        raise StoreError(f"A result about {result.unit.unit} is not one of the investigation of {investigation.unit}.")
    with db.transaction() as session:
        update_held(
            session,
            investigation,
            status="done" if result.skipped is None else "skipped",
            reason=result.skipped,
            stage=None,
            lease_owner=None,
            lease_until=None,
            finished_at=schema.utc_now(),
            **_spent(result.cost),
        )
        writes.write_result(
            session,
            campaign_id=investigation.campaign_id,
            investigation_id=investigation.id,
            subject_id=investigation.subject_id,
            result=result,
        )


def fail(
    db: Database,
    investigation: Investigation,
    reason: str,
    *,
    retry: bool,
    cost: Cost = Cost(),
    max_failures: int = MAX_FAILURES,
) -> bool:
    """Record that the attempt failed and what it cost; returns whether the unit will be tried again.

    It will if `retry` says that trying again may help, and it has not failed `max_failures` times since it was queued
    or last put back by `retry_failed`.

    Raises:
        LeaseLostError: the lease is somebody else's by now, or the unit is finished already; nothing is written.
    """
    with db.transaction() as session:
        before, forgiven = session.execute(
            sa.select(_Row.failures, _Row.forgiven).where(_Row.id == investigation.id)
        ).one()
        failures = 1 + before
        again = retry and failures - forgiven < max_failures
        update_held(
            session,
            investigation,
            status="pending" if again else "failed",
            failures=failures,
            reason=reason,
            lease_owner=None,
            lease_until=None,
            finished_at=None if again else schema.utc_now(),
            **_spent(cost),
        )
    return again


def retry_failed(db: Database, campaign_id: int) -> int:
    """Put the failed units of a campaign back into its queue, with all attempts before them, and open it again."""
    with db.transaction() as session:
        count = changed_rows(
            session,
            sa.update(_Row)
            .where(_Row.campaign_id == campaign_id, _Row.status == "failed")
            .values(status="pending", attempts=0, forgiven=_Row.failures, finished_at=None),
        )
        if count:
            session.execute(
                sa.update(schema.Campaign)
                .where(schema.Campaign.id == campaign_id)
                .values(status="open", finished_at=None)
            )
        return count


def progress(db: Database, campaign_id: int) -> CampaignProgress:
    """Counts by status and what was used, for budgets and for the live display."""
    real = _Row.control.is_(None)
    with db.session() as session:
        rows = session.execute(
            sa.select(
                real,
                _Row.status,
                sa.func.count(),
                sa.func.sum(_Row.seconds),
                sa.func.sum(_Row.tool_calls),
                sa.func.sum(_Row.tokens),
                sa.func.sum(_Row.llm_calls),
                sa.func.sum(_Row.dollars),
            )
            .where(_Row.campaign_id == campaign_id)
            .group_by(real, _Row.status)
        ).all()
    counts = {(bool(row[0]), row[1]): int(row[2]) for row in rows}
    dollars = [float(row[7]) for row in rows if row[7] is not None]
    controls = {status: number for (asked_for, status), number in counts.items() if not asked_for}
    return CampaignProgress(
        **{status: counts.get((True, status), 0) for status in INVESTIGATION_STATUSES},
        seconds=float(sum(row[3] for row in rows)),
        tool_calls=int(sum(row[4] for row in rows)),
        tokens=int(sum(row[5] for row in rows)),
        llm_calls=int(sum(row[6] for row in rows)),
        dollars=sum(dollars) if dollars else None,
        controls=sum(controls.values()),
        controls_left=controls.get("pending", 0) + controls.get("leased", 0),
    )


def _campaign(row: schema.Campaign) -> Campaign:
    names = Campaign.__dataclass_fields__
    return Campaign(**{name: getattr(row, name) for name in names})


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f"differs in: {', '.join(names)}" if names else "its hash differs"


def _give_up(session: Session, which: sa.ColumnElement[bool], max_attempts: int, now: dt.datetime) -> None:
    session.execute(
        sa.update(_Row)
        .where(which, _Row.attempts >= max_attempts)
        .values(
            status="failed",
            failures=_Row.failures + 1,
            reason=f"given up after {max_attempts} attempts: each time its process ended, or hung, before it was done",
            lease_owner=None,
            lease_until=None,
            finished_at=now,
        )
    )


def _spent(cost: Cost) -> dict[str, Any]:
    """Adds to what earlier attempts used."""
    return {
        "seconds": _Row.seconds + cost.seconds,
        "tool_calls": _Row.tool_calls + cost.tool_calls,
    }


def update_held(session: Session, investigation: Investigation, **values: Any) -> None:
    """Change the row of an investigation whose lease is still the caller's.

    Raises:
        LeaseLostError: it is not.
    """
    changed = changed_rows(
        session,
        sa.update(_Row)
        .where(_Row.id == investigation.id, _Row.status == "leased", _Row.leases == investigation.lease)
        .values(**values),
    )
    if not changed:
        raise LeaseLostError(
            f"The lease on {investigation.unit} is lost: it ran out and was taken over, or the unit is finished."
        )


def changed_rows(session: Session, statement: sa.Update) -> int:
    """Runs an update; returns how many rows it changed."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, sa.CursorResult)
    return result.rowcount
