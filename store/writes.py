"""Writing: registering what is studied, and everything that one investigation found.

The functions that take a `Session` write within the caller's transaction; those that take a `Database` are one
transaction of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.errors import StoreError
from store.records import (
    CorpusRecord,
    DescriptionRecord,
    DictionaryRecord,
    ExampleRecord,
    ExperimentRecord,
    HypothesisRecord,
    IndexRecord,
    InvestigationResult,
    SubjectRecord,
    UnitRecord,
)


def register_subject(db: Database, record: SubjectRecord) -> int:
    """The id of the subject with this fingerprint; name and info are brought up to date."""
    with db.transaction() as session:
        return _upsert(session, schema.Subject, {"fingerprint": record.fingerprint}, name=record.name, info=record.info)


def register_dictionary(db: Database, subject_id: int, record: DictionaryRecord) -> int:
    """The id of the subject's dictionary of this name.

    Raises:
        StoreError: another dictionary goes by that name; its units' ids would be taken for this one's.
    """
    with db.transaction() as session:
        known = session.execute(
            sa.select(schema.Dictionary.fingerprint).where(
                schema.Dictionary.subject_id == subject_id, schema.Dictionary.name == record.name
            )
        ).scalar()
        if known not in (None, record.fingerprint):
            raise StoreError(
                f"Another dictionary named '{record.name}' is in the database for this subject (hash {known}, this one "
                f"{record.fingerprint}). Attach this one under another name."
            )
        return _upsert(
            session,
            schema.Dictionary,
            {"subject_id": subject_id, "name": record.name},
            fingerprint=record.fingerprint,
            architecture=record.architecture,
            site=record.site,
            d_in=record.d_in,
            d_sae=record.d_sae,
            info=record.info,
        )


def register_corpus(db: Database, record: CorpusRecord) -> int:
    """The id of the corpus with this digest."""
    with db.transaction() as session:
        return _upsert(
            session,
            schema.Corpus,
            {"digest": record.digest},
            spec=record.spec,
            n_documents=record.n_documents,
            info=record.info,
        )


def register_index(db: Database, subject_id: int, corpus_id: int, record: IndexRecord) -> int:
    """The id of the activation index with this key; its path is brought up to date."""
    with db.transaction() as session:
        return _upsert(
            session,
            schema.Index,
            {"key": record.key},
            subject_id=subject_id,
            corpus_id=corpus_id,
            path=record.path,
            n_tokens=record.n_tokens,
            settings=record.settings,
        )


def write_units(session: Session, subject_id: int, units: Sequence[UnitRecord]) -> list[int]:
    """Queue-time rows: units that are new get a row, those known keep their statistics. Returns their ids in order."""
    if not units:
        return []
    now = schema.utc_now()
    rows = [
        {"subject_id": subject_id, "unit": unit.unit, "created_at": now, **_unit_values(session, unit)}
        for unit in units
    ]
    known: dict[str, int] = {}
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        session.execute(insert_of(session, schema.Unit).on_conflict_do_nothing(), part)
        found = session.execute(
            sa.select(schema.Unit.unit, schema.Unit.id).where(
                schema.Unit.subject_id == subject_id, schema.Unit.unit.in_([row["unit"] for row in part])
            )
        )
        known.update({unit: key for unit, key in found})
    return [known[unit.unit] for unit in units]


def write_result(
    session: Session, *, campaign_id: int, investigation_id: int, subject_id: int, result: InvestigationResult
) -> None:
    """Everything an investigation found, for one that has no rows of its own yet but openings.

    Raises:
        StoreError: an observation or a description refers to a hypothesis that is not there.
    """
    unit_id = _upsert(
        session,
        schema.Unit,
        {"subject_id": subject_id, "unit": result.unit.unit},
        **_unit_values(session, result.unit),
    )
    _write_examples(session, unit_id, investigation_id, result.examples)
    hypotheses = _write_hypotheses(session, investigation_id, result.hypotheses)
    _write_experiments(session, investigation_id, result.experiments, hypotheses)
    _write_descriptions(
        session,
        {"unit_id": unit_id, "campaign_id": campaign_id, "investigation_id": investigation_id},
        result.descriptions,
        hypotheses,
    )


def _write_examples(session: Session, unit_id: int, investigation_id: int, examples: Sequence[ExampleRecord]) -> None:
    ranks: dict[tuple[str, str, str], int] = {}
    rows = []
    for example in examples:
        series = (example.split, example.source, example.polarity)
        ranks[series] = ranks.get(series, 0) + 1
        rows.append(
            {
                **vars(example),
                "unit_id": unit_id,
                "investigation_id": investigation_id,
                "rank": ranks[series],
                "activation": example.activations[example.peak],
                "tokens": list(example.tokens),
                "activations": list(example.activations),
            }
        )
    _insert_all(session, schema.Example, rows)


def _write_hypotheses(
    session: Session, investigation_id: int, hypotheses: Sequence[HypothesisRecord]
) -> dict[str, int]:
    keys: dict[str, int] = {}
    for position, hypothesis in enumerate(hypotheses):
        if hypothesis.key in keys:
            raise StoreError(f"Two hypotheses of one investigation have the key '{hypothesis.key}'.")
        row = schema.Hypothesis(investigation_id=investigation_id, position=position, **vars(hypothesis))
        session.add(row)
        session.flush()
        keys[hypothesis.key] = row.id
    return keys


def _write_experiments(
    session: Session, investigation_id: int, experiments: Sequence[ExperimentRecord], hypotheses: Mapping[str, int]
) -> None:
    for position, experiment in enumerate(experiments):
        values = {name: value for name, value in vars(experiment).items() if name != "observations"}
        row = schema.Experiment(investigation_id=investigation_id, position=position, **values)
        session.add(row)
        session.flush()
        _insert_all(
            session,
            schema.Observation,
            [
                {
                    "experiment_id": row.id,
                    "position": number,
                    "hypothesis_id": _hypothesis(hypotheses, observation.hypothesis),
                    "summary": observation.summary,
                    "outcome": observation.outcome,
                    "data": observation.data,
                }
                for number, observation in enumerate(experiment.observations)
            ],
        )


def _write_descriptions(
    session: Session,
    belongs: Mapping[str, int],
    descriptions: Sequence[DescriptionRecord],
    hypotheses: Mapping[str, int],
) -> None:
    latest: dict[tuple[str, int], schema.Description] = {}
    for description in sorted(descriptions, key=lambda d: (d.polarity, d.rank, d.version)):
        values = {name: value for name, value in vars(description).items() if name not in ("scores", "hypothesis")}
        row = schema.Description(**belongs, **values, hypothesis_id=_hypothesis(hypotheses, description.hypothesis))
        session.add(row)
        session.flush()
        place = (description.polarity, description.rank)
        if place in latest:
            latest[place].superseded_by = row.id
        latest[place] = row
        now = schema.utc_now()
        _insert_all(
            session,
            schema.Score,
            [{"description_id": row.id, "created_at": now, **vars(score)} for score in description.scores],
        )
        session.execute(
            sa.update(schema.Opening)
            .where(
                schema.Opening.investigation_id == belongs["investigation_id"],
                schema.Opening.claim == description.claim,
                schema.Opening.polarity == description.polarity,
            )
            .values(description_id=row.id)
        )
    session.flush()


def _hypothesis(keys: Mapping[str, int], key: str | None) -> int | None:
    if key is None:
        return None
    if key not in keys:
        raise StoreError(f"There is no hypothesis '{key}' in this investigation, but something refers to it.")
    return keys[key]


def _unit_values(session: Session, unit: UnitRecord) -> dict[str, Any]:
    index_id = None
    if unit.index_key is not None:
        index_id = session.execute(sa.select(schema.Index.id).where(schema.Index.key == unit.index_key)).scalar()
        if index_id is None:
            raise StoreError(f"The activation index {unit.index_key} is not registered (register_index).")
    taken = ("unit", "layer", "index_key")
    return {
        **{name: value for name, value in vars(unit).items() if name not in taken},
        "kind": unit.kind,
        "layer": unit.layer_number,
        "dictionary": unit.dictionary,
        "unit_index": unit.unit_index,
        "index_id": index_id,
        "updated_at": schema.utc_now(),
    }


def insert_of(session: Session, table: type[schema.Base]) -> Any:
    """INSERT of the database's dialect, which knows ON CONFLICT."""
    return (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(table)


def _insert_all(session: Session, table: type[schema.Base], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(sa.insert(table), rows)


def _upsert(session: Session, table: type[schema.Base], key: Mapping[str, Any], **values: Any) -> int:
    statement = insert_of(session, table).values(**key, **values)
    statement = statement.on_conflict_do_update(index_elements=list(key), set_=values)
    found: int = session.execute(statement.returning(sa.column("id", sa.Integer))).scalar_one()
    return found
