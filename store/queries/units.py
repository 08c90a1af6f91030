"""Finding units, and everything that is known of one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.errors import StoreError
from store.queries.descriptions import described, with_runners_up
from store.queries.evidence import withdrawn_in
from store.queries.patterns import matching
from store.records import CONTROL_KIND
from store.rows import (
    DescribedRow,
    DescriptionPage,
    ExampleRow,
    ExperimentRow,
    FoundUnit,
    HypothesisRow,
    InvestigationRow,
    ObservationRow,
    OpeningRow,
    ScoreRow,
    UnitPage,
    UnitRow,
    moment,
)
from store.schema.views import best_descriptions as best_view

_Row = TypeVar("_Row")
_SUPPORT = {"supported": 0, "inconclusive": 1, "untested": 1, "refuted": 2}


def find_units(
    db: Database,
    pattern: str = "*",
    *,
    subject: str | None = None,
    state: str | None = None,
    min_density: float | None = None,
    max_density: float | None = None,
    described_only: bool = False,
    controls: bool = False,
    limit: int | None = 100,
    offset: int = 0,
) -> list[FoundUnit]:
    """Units that fit a pattern (``mlp:3:0-99``, ``head:*:*;sae:NAME:*``, ``*``), in the order of their ids.

    Args:
        db: the database.
        pattern: see `store.queries.patterns`.
        subject: name or fingerprint of a subject.
        state: 'alive', 'dead', 'dense' or 'duplicate'.
        min_density: least share of tokens on which the unit is active.
        max_density: largest share.
        described_only: leave out units without a description.
        controls: list what stands for blind controls too.
        limit: how many; None for all.
        offset: how many to leave out first.
    """
    unit = schema.Unit
    query = sa.select(unit, schema.Subject).join(schema.Subject).where(matching(pattern))
    if subject is not None:
        query = query.where(sa.or_(schema.Subject.name == subject, schema.Subject.fingerprint == subject))
    if state is not None:
        query = query.where(unit.state == state)
    if min_density is not None:
        query = query.where(unit.density >= min_density)
    if max_density is not None:
        query = query.where(unit.density <= max_density)
    if described_only:
        query = query.where(sa.exists().where(schema.Description.unit_id == unit.id))
    if not controls:
        query = query.where(unit.kind != CONTROL_KIND)
    query = query.order_by(
        schema.Subject.name, unit.kind, unit.layer, unit.dictionary, unit.unit_index, unit.unit, unit.id
    )
    with db.session() as session:
        found = session.execute(query.limit(limit).offset(offset)).all()
        best: dict[int, list[DescribedRow]] = defaultdict(list)
        ids = [row.id for row, _ in found]
        for start in range(0, len(ids), 1000):
            rows = session.execute(
                sa.select(best_view)
                .where(best_view.c.unit_id.in_(ids[start : start + 1000]))
                .order_by(best_view.c.unit_id, best_view.c.polarity)
            )
            there = rows.mappings().all()
            for row, one in zip(there, with_runners_up(session, [described(row) for row in there]), strict=True):
                best[row["unit_id"]].append(one)
        return [FoundUnit(unit_row(row, owner), best[row.id]) for row, owner in found]


def unit_page(db: Database, unit: str, *, subject: str | None = None, campaign: str | None = None) -> UnitPage:
    """Everything that is known of a unit.

    Args:
        db: the database.
        unit: its id, ``mlp:3:17``.
        subject: name or fingerprint; needed where units of several subjects have that id.
        campaign: look only at what this campaign found.

    Raises:
        StoreError: it is not there, or there are several.
    """
    with db.session() as session:
        row, owner = find_unit_row(session, db, unit, subject)
        jobs = investigations_of(session, row.id, campaign)
        if campaign is not None and not jobs:
            raise StoreError(f"The campaign '{campaign}' has no unit {unit}, or there is no such campaign in {db.url}.")
        names = {job.investigation_id: job.campaign for job in jobs}
        descriptions = descriptions_of(session, names)
        shown = descriptions[0].investigation_id if descriptions else jobs[0].investigation_id if jobs else None
        corpus = session.scalar(sa.select(schema.Corpus.spec).join(schema.Index).where(schema.Index.id == row.index_id))
        keys = hypothesis_keys(session, [shown] if shown is not None else [])
        return UnitPage(
            unit=unit_row(row, owner),
            statistics=row.statistics,
            profile=row.profile,
            corpus=corpus,
            descriptions=descriptions,
            investigations=jobs,
            shown=shown,
            hypotheses=rows_of(session, HypothesisRow, schema.Hypothesis, shown, schema.Hypothesis.position),
            experiments=experiments_of(session, shown, keys),
            examples=rows_of(
                session, ExampleRow, schema.Example, shown,
                schema.Example.polarity, schema.Example.source, schema.Example.split, schema.Example.rank,
            ),
            openings=rows_of(session, OpeningRow, schema.Opening, shown, schema.Opening.id),
        )  # fmt: skip


def find_unit_row(session: Session, db: Database, unit: str, subject: str | None) -> tuple[schema.Unit, schema.Subject]:
    """The row of a unit and of its subject; see `unit_page` for errors."""
    query = sa.select(schema.Unit, schema.Subject).join(schema.Subject).where(schema.Unit.unit == unit)
    if subject is not None:
        query = query.where(sa.or_(schema.Subject.name == subject, schema.Subject.fingerprint == subject))
    found = session.execute(query.order_by(schema.Subject.id)).all()
    if not found:
        of = f" of {subject}" if subject is not None else ""
        raise StoreError(f"There is no unit {unit}{of} in {db.url}. `neurogloss units` lists those that there are.")
    if len(found) > 1:
        names = ", ".join(f"{owner.name} ({owner.fingerprint})" for _, owner in found)
        raise StoreError(f"Several subjects in {db.url} have a unit {unit}: {names}.\nSay which with --subject.")
    return found[0]


def unit_row(row: schema.Unit, owner: schema.Subject) -> UnitRow:
    """A unit as plain values."""
    own: dict[str, Any] = {name: getattr(row, name, None) for name in UnitRow.__dataclass_fields__}
    return UnitRow(**{**own, "unit_id": row.id, "subject": owner.name, "fingerprint": owner.fingerprint})


def investigations_of(session: Session, unit_id: int, campaign: str | None) -> list[InvestigationRow]:
    """The work on a unit, newest first."""
    job, name = schema.Investigation, schema.Campaign.name
    query = sa.select(job, schema.Campaign).join(schema.Campaign).where(job.unit_id == unit_id)
    if campaign is not None:
        query = query.where(name == campaign)
    return [
        InvestigationRow(
            investigation_id=row.id,
            campaign=owner.name,
            spec=owner.spec,
            status=row.status,
            stage=row.stage,
            reason=row.reason,
            attempts=row.attempts,
            failures=row.failures,
            seconds=row.seconds,
            tool_calls=row.tool_calls,
            tokens=row.tokens,
            llm_calls=row.llm_calls,
            dollars=row.dollars,
            started_at=moment(row.started_at),
            finished_at=moment(row.finished_at),
            control=row.control,
            control_of=row.control_of,
        )
        for row, owner in session.execute(query.order_by(job.id.desc()))
    ]


def descriptions_of(session: Session, campaigns: dict[int, str]) -> list[DescriptionPage]:
    """Descriptions of investigations (id -> name of the campaign), best first and superseded ones last."""
    table = schema.Description
    rows = session.scalars(sa.select(table).where(table.investigation_id.in_(campaigns)).order_by(table.id)).all()
    scores: dict[int, list[schema.Score]] = defaultdict(list)
    for score in session.scalars(
        sa.select(schema.Score)
        .where(schema.Score.description_id.in_([row.id for row in rows]))
        .order_by(schema.Score.headline.desc(), schema.Score.id)
    ):
        scores[score.description_id].append(score)
    keys, withdrawn = hypothesis_keys(session, list(campaigns)), withdrawn_in(session)

    def place(row: schema.Description) -> tuple[Any, ...]:
        f1 = [
            s.value
            for s in scores[row.id]
            if s.headline and s.metric == "weighted_f1" and s.split == "score" and ("score", s.id) not in withdrawn
        ]
        best = f1[0] if f1 and f1[0] is not None else -1.0
        return (row.superseded_by is not None, row.rank > 1, _SUPPORT[row.verdict_input], -best, row.rank, -row.id)

    pages = []
    for row in sorted(rows, key=place):
        special = {
            "description_id": row.id,
            "campaign": campaigns[row.investigation_id],
            "hypothesis": None if row.hypothesis_id is None else keys[row.hypothesis_id],
            "created_at": moment(row.created_at),
            "scores": [
                _filled(ScoreRow, score, score_id=score.id, withdrawn=withdrawn.get(("score", score.id)))
                for score in scores[row.id]
            ],
        }
        pages.append(_filled(DescriptionPage, row, **special))
    return pages


def experiments_of(session: Session, investigation_id: int | None, keys: dict[int, str]) -> list[ExperimentRow]:
    """Experiments of an investigation in their order, with what was observed; `keys` are its hypotheses' by id."""
    table, seen = schema.Experiment, schema.Observation
    withdrawn = withdrawn_in(session)
    rows = session.scalars(
        sa.select(table).where(table.investigation_id == investigation_id).order_by(table.position)
    ).all()
    observations: dict[int, list[ObservationRow]] = defaultdict(list)
    for row in session.scalars(
        sa.select(seen)
        .where(seen.experiment_id.in_([row.id for row in rows]))
        .order_by(seen.experiment_id, seen.position)
    ):
        observations[row.experiment_id].append(
            _filled(
                ObservationRow, row, observation_id=row.id,
                hypothesis=None if row.hypothesis_id is None else keys[row.hypothesis_id],
                withdrawn=withdrawn.get(("observation", row.id)) or withdrawn.get(("experiment", row.experiment_id)),
            )
        )  # fmt: skip
    return [
        _filled(
            ExperimentRow, row, experiment_id=row.id, observations=observations[row.id],
            withdrawn=withdrawn.get(("experiment", row.id)),
        )
        for row in rows
    ]  # fmt: skip


def hypothesis_keys(session: Session, investigations: list[int]) -> dict[int, str]:
    """Keys of hypotheses by their ids."""
    table = schema.Hypothesis
    query = sa.select(table.id, table.key).where(table.investigation_id.in_(investigations))
    return {number: key for number, key in session.execute(query)}


def rows_of(session: Session, kind: type[_Row], table: Any, investigation_id: int | None, *order: Any) -> list[_Row]:
    """Rows of a table that belong to an investigation."""
    query = sa.select(table).where(table.investigation_id == investigation_id).order_by(*order)
    return [_filled(kind, row, example_id=row.id, hypothesis_id=row.id) for row in session.scalars(query)]


def _filled(kind: type[_Row], row: Any, **special: Any) -> _Row:
    names: Any = kind.__dict__["__dataclass_fields__"]
    values = {name: special[name] if name in special else getattr(row, name) for name in names}
    if "created_at" in values and "created_at" not in special:
        values["created_at"] = moment(values["created_at"])
    return kind(**values)
