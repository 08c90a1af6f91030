"""The best descriptions, by what people filter on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.errors import StoreError
from store.rows import DescribedRow, RunnerUp, moment
from store.schema.views import all_descriptions, current_descriptions

_Keys = tuple[sa.ColumnElement[Any], ...]
#: Investigations in one look-up; SQLite takes no more than some thousands.
_AT_ONCE = 500


def descending(column: sa.ColumnElement[Any]) -> _Keys:
    """Largest first and the unknown last, on every database."""
    return (column.is_(None), column.desc())


def _support(view: sa.FromClause) -> sa.ColumnElement[int]:
    verdict = view.c.verdict_input
    return sa.case((verdict == "supported", 0), (verdict == "refuted", 2), else_=1)


def _above_chance(view: sa.FromClause) -> sa.ColumnElement[float]:
    return view.c.f1_low - sa.func.coalesce(view.c.f1_null, 0.0)


#: 'support' puts supported ones first, by how far the lower end of the interval lies above what chance reaches: what is
#: surely good, and not so by luck or because the unit is almost always on.
ORDERS: Mapping[str, Callable[[sa.FromClause], _Keys]] = {
    "support": lambda view: (_support(view), *descending(_above_chance(view)), *descending(view.c.f1)),
    "f1": lambda view: descending(view.c.f1),
    "density": lambda view: descending(view.c.density),
    "newest": lambda view: (view.c.created_at.desc(),),
    "unit": lambda view: (),
}


def best_descriptions(
    db: Database,
    *,
    campaign: str | None = None,
    subject: str | None = None,
    kind: str | None = None,
    layer: int | None = None,
    dictionary: str | None = None,
    explainer: str | None = None,
    verdict: str | None = None,
    verdict_output: str | None = None,
    output_kind: str | None = None,
    min_f1: float | None = None,
    controls: bool = False,
    order: str = "support",
    limit: int | None = 20,
    offset: int = 0,
) -> list[DescribedRow]:
    """The best current description of each tail of each unit, of those within `campaign`, `subject` and `explainer`.

    Each is what a campaign asserts, with the runners-up that it kept beside. The best is a supported one before an
    undecided one before a refuted one, then the one with the highest F1. The other filters apply to the best ones: a
    unit whose best is refuted is no answer to ``verdict='supported'``.

    Args:
        db: the database.
        campaign: name of a campaign.
        subject: name or fingerprint of a subject.
        kind: 'mlp', 'head', 'sae' or 'dir'.
        layer: layer of the unit's site.
        dictionary: name of the dictionary that the latents belong to.
        explainer: who wrote the description.
        verdict: verdict on the input half.
        verdict_output: verdict on the output half.
        output_kind: what the output half claims, one of `store.records.OUTPUT_KINDS`.
        min_f1: least headline F1 on the score split.
        controls: with the blind controls (kind 'control') among them.
        order: one of `ORDERS`.
        limit: how many; None for all.
        offset: how many to leave out first.
    """
    if order not in ORDERS:
        raise StoreError(f"'{order}' is not an order. Choose one of: {', '.join(ORDERS)}.")
    view = all_descriptions if controls else current_descriptions
    v = view.c
    place = sa.func.row_number().over(
        partition_by=(v.unit_id, v.polarity),
        order_by=(_support(view), *descending(v.f1), v.rank, v.description_id.desc()),
    )
    within = sa.select(view, place.label("place"))
    for column, value in ((v.campaign, campaign), (v.explainer, explainer)):
        if value is not None:
            within = within.where(column == value)
    if subject is not None:
        within = within.where(sa.or_(v.subject == subject, v.fingerprint == subject))
    ranked = within.subquery()
    best = sa.select(ranked).where(ranked.c.place == 1)
    filters = {
        "kind": kind, "layer": layer, "dictionary": dictionary, "verdict_input": verdict,
        "verdict_output": verdict_output, "output_kind": output_kind,
    }  # fmt: skip
    for name, wanted in filters.items():
        if wanted is not None:
            best = best.where(ranked.c[name] == wanted)
    if min_f1 is not None:
        best = best.where(ranked.c.f1 >= min_f1)
    c = ranked.c
    unit = (c.subject, c.kind, c.layer, c.dictionary, c.unit_index, c.polarity, c.description_id)
    best = best.order_by(*ORDERS[order](ranked), *unit)
    with db.session() as session:
        rows = [described(row) for row in session.execute(best.limit(limit).offset(offset)).mappings()]
        return with_runners_up(session, rows)


def described(row: Mapping[Any, Any]) -> DescribedRow:
    """A row of the view `current_descriptions` or `best_descriptions`, without its runners-up."""
    values = {name: row[name] for name in DescribedRow.__dataclass_fields__ if name not in ("selection", "runners_up")}
    return DescribedRow(**{**values, "created_at": moment(values["created_at"])})


def with_runners_up(session: Session, rows: Sequence[DescribedRow]) -> list[DescribedRow]:
    """The same rows, each with its selection probability and the runners-up of its investigation and tail."""
    table = schema.Description
    selection = table.details["standing"]["selection"].as_float()
    own: dict[int, float | None] = {}
    others: dict[tuple[int, str], list[RunnerUp]] = defaultdict(list)
    jobs = sorted({row.investigation_id for row in rows})
    for start in range(0, len(jobs), _AT_ONCE):
        query = (
            sa.select(
                table.investigation_id, table.polarity, table.id, table.rank, table.label, table.input_half, table.rule,
                selection,
            )
            .where(table.investigation_id.in_(jobs[start : start + _AT_ONCE]), table.superseded_by.is_(None))
            .order_by(table.rank)
        )  # fmt: skip
        for job, polarity, key, rank, label, half, rule, share in session.execute(query):
            own[key] = share
            if rank > 1:
                others[job, polarity].append(RunnerUp(key, rank, label, half, rule, share))
    return [
        replace(
            row,
            selection=own.get(row.description_id),
            runners_up=tuple(others[row.investigation_id, row.polarity]),
        )
        for row in rows
    ]
