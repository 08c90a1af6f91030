"""The ledger of calls to language models: each written at once and for good, and found again by its hash.

A call is kept once for each investigation. When the same request is made again (a call that got no answer is tried
again after the process was killed, say), the first answer stays and the cost of both is summed. What was spent is also
added to the investigation in the same transaction, so that its totals hold however the attempt ends.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.records import LlmCallRecord
from store.writes import insert_into

_SUMMED = ("attempts", "prompt_tokens", "completion_tokens", "cached_tokens", "seconds")
_Call = schema.LlmCall
_Work = schema.Investigation


@dataclass
class _Spent:
    """By one investigation."""

    tokens: int = 0
    dollars: float | None = None


def record_calls(db: Database, calls: Sequence[tuple[int | None, LlmCallRecord]]) -> None:
    """Keep calls, those of several investigations at once, in one transaction.

    A call whose answer was known already has cost nothing, whatever it says.

    Args:
        db: the database.
        calls: id of the investigation (None: a call for none) and the call.

    Raises:
        StoreError: the disk is full, or the database cannot be written; none of them was kept.
    """
    now = schema.utc_now()
    rows, spent = [], defaultdict[int, _Spent](_Spent)
    for investigation_id, call in calls:
        row = {**vars(call), "investigation_id": investigation_id, "created_at": now}
        row["request"], row["response"] = dict(call.request), _finite_only(call.response)
        if call.cached:
            row.update({**dict.fromkeys(_SUMMED, 0), "cost_usd": None})
        elif investigation_id is not None:
            own = spent[investigation_id]
            own.tokens += call.prompt_tokens + call.completion_tokens
            if call.cost_usd is not None:
                own.dollars = (own.dollars or 0.0) + call.cost_usd
        rows.append(row)
    if not rows:
        return
    keys = sorted(spent)  # one order for all writers, so that on Postgres none of them waits for another in a circle
    with db.transaction() as session:
        for key in keys:
            own = spent[key]
            values: dict[str, Any] = {"tokens": _Work.tokens + own.tokens}
            if own.dollars is not None:
                values["dollars"] = sa.func.coalesce(_Work.dollars, 0.0) + own.dollars
            _change(session, key, values)
        statement = insert_into(session, _Call)
        new = statement.excluded
        unanswered = _Call.response.is_(sa.null())
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["investigation_id", "request_hash"],
                set_={
                    **{name: getattr(_Call, name) + getattr(new, name) for name in _SUMMED},
                    "cost_usd": sa.case(
                        (_Call.cost_usd.is_(None), new.cost_usd),
                        else_=_Call.cost_usd + sa.func.coalesce(new.cost_usd, 0.0),
                    ),
                    "cached": sa.and_(_Call.cached, new.cached),
                    **{
                        name: sa.case((unanswered, getattr(new, name)), else_=getattr(_Call, name))
                        for name in ("response", "status", "error")
                    },
                },
            ),
            sorted(rows, key=lambda row: (row["investigation_id"] or 0, row["request_hash"])),
        )
        for key in keys:  # counted, since a call that is made again is still one call
            sent = sa.select(sa.func.count()).where(_Call.investigation_id == key, _Call.attempts > 0)
            _change(session, key, {"llm_calls": sent.scalar_subquery()})


def _change(session: Session, investigation_id: int, values: Mapping[str, Any]) -> None:
    statement = sa.update(_Work).where(_Work.id == investigation_id).values(**values)
    session.execute(statement, execution_options={"synchronize_session": False})


def find_call(db: Database, request_hash: str, *, first: int | None = None) -> LlmCallRecord | None:
    """The answer to a request, as it was recorded for any investigation of any campaign; None when there is none.

    Args:
        db: the database.
        request_hash: of the request.
        first: an investigation whose own answer goes before others'.
    """
    return _find(db, request_hash, first, unanswered=False)


def find_replayed(db: Database, request_hash: str, *, first: int | None = None) -> LlmCallRecord | None:
    """What became of a request, answered or not; as `find_call`, but what `first` met stands though others were told
    more."""
    return _find(db, request_hash, first, unanswered=True)


def _find(db: Database, request_hash: str, first: int | None, *, unanswered: bool) -> LlmCallRecord | None:
    names = LlmCallRecord.__dataclass_fields__
    query = sa.select(*(getattr(_Call, name) for name in names)).where(_Call.request_hash == request_hash)
    if not unanswered:
        query = query.where(_Call.response.is_not(sa.null()))
    own = sa.case((_Call.investigation_id == first, 0), else_=1)
    query = query.order_by(own, _Call.response.is_(sa.null()), _Call.id).limit(1)
    with db.session() as session:
        row = session.execute(query).one_or_none()
    return None if row is None else LlmCallRecord(**row._mapping)


@dataclass(frozen=True)
class Counterpart:
    """The investigation of another database that one of ours replays."""

    investigation_id: int
    failures: int
    """Attempts at it that had failed before those that count: of one that was done, before the attempt that did it; of
    one that failed, before the first of those that brought it to its end."""


def counterpart(db: Database, investigation_id: int, source: Database) -> Counterpart | None:
    """The investigation of the same unit by the campaign of the same name in `source`; None when there is none."""
    campaign, unit, subject = schema.Campaign, schema.Unit, schema.Subject

    def placed(*columns: Any) -> Any:
        return (
            sa.select(*columns)
            .select_from(_Work)
            .join(campaign, campaign.id == _Work.campaign_id)
            .join(unit, unit.id == _Work.unit_id)
            .join(subject, subject.id == unit.subject_id)
        )

    place = (campaign.name, subject.fingerprint, unit.unit)
    with db.session() as session:
        wanted = session.execute(placed(*place).where(_Work.id == investigation_id)).one()
    which = sa.and_(*(column == value for column, value in zip(place, wanted, strict=True)))
    with source.session() as session:
        found = session.execute(
            placed(_Work.id, _Work.status, _Work.failures, _Work.forgiven).where(which)
        ).one_or_none()
    if found is None:
        return None
    return Counterpart(found.id, found.forgiven if found.status == "failed" else found.failures)


def _finite_only(response: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A response with numbers that are not finite as text ('-inf'), which ``float`` reads: JSON knows none, but a
    server may well send them."""
    if response is None:
        return None
    try:
        json.dumps(response, allow_nan=False)
    except ValueError:
        return {key: _spelled(value) for key, value in response.items()}
    return dict(response)


def _spelled(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _spelled(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(one) for one in value]
    return value
