"""The ledger of calls to language models: each written at once and for good, and found again by its hash.

A call is kept once for each investigation. When the same request is made again (a call that got no answer is tried
again after the process was killed, say), the first answer stays and the cost of both is summed. What was spent is also
added to the investigation in the same transaction, so that its totals hold however the attempt ends.
"""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from store import schema
from store.database import Database
from store.records import LlmCallRecord

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
    # One order for all writers, so that on Postgres none of them waits for another in a circle.
    rows.sort(key=lambda row: (row["investigation_id"] or 0, row["request_hash"]))
    totals = [{"the_id": key, "more_tokens": own.tokens, "more_dollars": own.dollars}
              for key, own in sorted(spent.items())]  # fmt: skip
    with db.transaction() as session:
        connection = session.connection()
        # The first statement locks the investigations on Postgres, so that the last counts all that is there.
        if totals:
            connection.execute(_ADD_SPENT, totals)
        connection.execute(_insertion(db.is_sqlite), rows)
        if totals:
            connection.execute(_COUNT_CALLS, [{"the_id": row["the_id"]} for row in totals])


# Built once: to build them takes longer than to run them. They go past the ORM for the same reason.
_calls: Any = _Call.__table__
_jobs: Any = _Work.__table__
_more_dollars: Any = sa.bindparam("more_dollars", type_=sa.Double())
_ADD_SPENT = (
    sa.update(_jobs)
    .where(_jobs.c.id == sa.bindparam("the_id"))
    .values(
        tokens=_jobs.c.tokens + sa.bindparam("more_tokens", type_=sa.BigInteger()),
        dollars=sa.case(
            (_more_dollars.is_(None), _jobs.c.dollars), else_=sa.func.coalesce(_jobs.c.dollars, 0.0) + _more_dollars
        ),
    )
)
#: Counted, since a call that is made again is still one call.
_COUNT_CALLS = (
    sa.update(_jobs)
    .where(_jobs.c.id == sa.bindparam("the_id"))
    .values(
        llm_calls=sa.select(sa.func.count())
        .where(_calls.c.investigation_id == _jobs.c.id, _calls.c.attempts > 0)
        .correlate(_jobs)
        .scalar_subquery()
    )
)


@functools.cache
def _insertion(is_sqlite: bool) -> Any:
    """INSERT that adds to the call that is there already, whose answer, if it has one, stays."""
    statement = (sqlite if is_sqlite else postgresql).insert(_calls)
    old, new = _calls.c, statement.excluded
    unanswered = old.response.is_(sa.null())
    return statement.on_conflict_do_update(
        index_elements=["investigation_id", "request_hash"],
        set_={
            **{name: old[name] + new[name] for name in _SUMMED},
            "cost_usd": sa.case(
                (old.cost_usd.is_(None), new.cost_usd), else_=old.cost_usd + sa.func.coalesce(new.cost_usd, 0.0)
            ),
            "cached": sa.and_(old.cached, new.cached),
            **{name: sa.case((unanswered, new[name]), else_=old[name]) for name in ("response", "status", "error")},
        },
    )


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


_NAMES = tuple(LlmCallRecord.__dataclass_fields__)


@functools.cache
def _finding(unanswered: bool) -> Any:
    query = sa.select(*(_calls.c[name] for name in _NAMES)).where(_calls.c.request_hash == sa.bindparam("the_hash"))
    if not unanswered:
        query = query.where(_calls.c.response.is_not(sa.null()))
    own = sa.case((_calls.c.investigation_id == sa.bindparam("first", type_=sa.Integer()), 0), else_=1)
    return query.order_by(own, _calls.c.response.is_(sa.null()), _calls.c.id).limit(1)


def _find(db: Database, request_hash: str, first: int | None, *, unanswered: bool) -> LlmCallRecord | None:
    with db.session() as session:
        found = session.connection().execute(_finding(unanswered), {"the_hash": request_hash, "first": first})
        row = found.one_or_none()
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
