"""What language models cost, summed over calls as one likes: by campaign, unit, claim, purpose, asker, model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from store import schema
from store.campaigns import get_campaign
from store.database import Database
from store.errors import StoreError

_call, _job, _unit = schema.LlmCall, schema.Investigation, schema.Unit

#: What sums can be told apart by.
KEYS: Mapping[str, Any] = {
    "investigation": _call.investigation_id, "unit": _unit.unit, "control": _job.control, "polarity": _call.polarity,
    "purpose": _call.purpose, "asker": _call.asker, "model": _call.model, "status": _call.status,
}  # fmt: skip


@dataclass(frozen=True)
class LlmCost:
    """What a set of calls cost."""

    key: Mapping[str, Any]
    """Which calls: a value of each of `KEYS` that was asked for."""
    calls: int
    """That were sent."""
    known: int
    """Whose answer was known already; they cost nothing."""
    invalid: int
    """Of the calls that were sent: those whose answer was not in the form asked for."""
    unanswered: int
    """Of the calls that were sent: those without any answer."""
    attempts: int
    """Times that calls were sent: retries after refusals, timeouts and dropped connections are calls no more."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Of the prompts', those that the server took from its prefix cache."""
    dollars: float | None
    """None where no price is known."""
    seconds: float
    """Waited for answers, summed over calls, many of which are made at once."""

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens


def llm_costs(
    db: Database, campaign: str, by: Sequence[str] = ("purpose", "asker"), *, controls: bool = True
) -> list[LlmCost]:
    """What a campaign's calls to language models cost, summed by some of `KEYS`; nothing to sum by gives one total.

    Args:
        db: the database.
        campaign: its name.
        by: what to tell apart, in this order, which is also that of the rows.
        controls: False leaves the blind controls' calls out.

    Raises:
        StoreError: there is no such campaign, or nothing like that to sum by.
    """
    unknown = [name for name in by if name not in KEYS]
    if unknown:
        raise StoreError(f"Calls cannot be summed by '{unknown[0]}'. Choose from: {', '.join(KEYS)}.")
    known = get_campaign(db, campaign)
    sent, answered = _call.attempts > 0, _call.response.is_not(sa.null())
    failed = sa.and_(sent, _call.status == "failed")

    def number(which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((which, 1), else_=0)), 0)

    def total(column: Any) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(sa.func.sum(column), 0)

    keys = [KEYS[name].label(f"by_{name}") for name in by]
    query = (
        sa.select(
            *keys, number(sent), number(~sent), number(sa.and_(failed, answered)),
            number(sa.and_(failed, ~answered)), total(_call.attempts), total(_call.prompt_tokens),
            total(_call.completion_tokens), total(_call.cached_tokens),
            sa.func.sum(_call.cost_usd), total(_call.seconds),
        )
        .join(_job, _job.id == _call.investigation_id)
        .join(_unit, _unit.id == _job.unit_id)
        .where(_job.campaign_id == known.id)
    )  # fmt: skip
    if not controls:
        query = query.where(_job.control.is_(None))
    if keys:
        query = query.group_by(*(KEYS[name] for name in by)).order_by(*(KEYS[name] for name in by))
    with db.session() as session:
        rows = session.execute(query).all()
    return [_cost(dict(zip(by, row, strict=False)), *row[len(by) :]) for row in rows]


def _cost(key: Mapping[str, Any], *values: Any) -> LlmCost:
    names = [name for name in LlmCost.__dataclass_fields__ if name != "key"]
    sums: dict[str, Any] = dict(zip(names, values, strict=True))
    dollars, seconds = sums.pop("dollars"), float(sums.pop("seconds"))
    whole: dict[str, int] = {name: int(value) for name, value in sums.items()}  # Postgres sums to decimals
    return LlmCost(key=key, dollars=None if dollars is None else float(dollars), seconds=seconds, **whole)
