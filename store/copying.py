"""A campaign copied into another database, but for what is to be done again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.campaigns import get_campaign
from store.database import Database

#: Rows copied in one statement.
_AT_ONCE = 500
#: An investigation as it is before anybody has taken it up.
_AFRESH: dict[str, Any] = {
    "status": "pending", "stage": None, "reason": None, "attempts": 0, "failures": 0, "forgiven": 0, "leases": 0,
    "lease_owner": None, "lease_until": None, "seconds": 0.0, "tool_calls": 0, "tokens": 0, "llm_calls": 0,
    "dollars": None, "started_at": None, "finished_at": None,
}  # fmt: skip
#: A call whose answer is on record, as it is noted where it was not sent.
_KNOWN: dict[str, Any] = {
    "salt": 0, "cached": True, "attempts": 0, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0,
    "seconds": 0.0, "cost_usd": None,
}  # fmt: skip


def copy_campaign(
    source: Database,
    target: Database,
    name: str,
    *,
    afresh: Collection[int],
    calls: bool = True,
    played: bool = False,
    spec: tuple[Mapping[str, Any], str] | None = None,
) -> None:
    """Copy a campaign with all that it found, under the same ids, into a database that has none.

    Recordings stay behind: they are read from the original.

    Args:
        source: has the campaign.
        target: a fresh database.
        name: of the campaign.
        afresh: ids of investigations whose findings are left behind: they wait to be done. If there are any, the
            campaign is open again.
        calls: False leaves calls to language models behind as well.
        played: of investigations that are to be done again, take along what steps left behind that are played back:
            openings of sealed text, and calls to language models of the attempt that counts.
        spec: another spec with its hash, in place of the campaign's.

    Raises:
        StoreError: there is no such campaign.
    """
    campaign_id = get_campaign(source, name).id
    job, description, experiment = schema.Investigation, schema.Description, schema.Experiment
    kept = sa.select(job.id).where(job.campaign_id == campaign_id, job.id.not_in(list(afresh)))
    units = sa.select(job.unit_id).where(job.campaign_id == campaign_id)
    owner = sa.select(schema.Unit.subject_id).where(schema.Unit.id.in_(units))
    of_unit = schema.Unit.id.in_(units)
    indexes = sa.or_(
        schema.Index.id.in_(sa.select(schema.Unit.index_id).where(of_unit)),
        schema.Index.id.in_(sa.select(schema.Campaign.index_id).where(schema.Campaign.id == campaign_id)),
    )
    mine = sa.select(description.id).where(description.investigation_id.in_(kept))
    tried = sa.select(experiment.id).where(experiment.investigation_id.in_(kept))
    seen = sa.select(schema.Observation.id).where(schema.Observation.experiment_id.in_(tried))
    scored = sa.select(schema.Score.id).where(schema.Score.description_id.in_(mine))
    told = schema.Invalidation
    wanted: list[tuple[Any, Any]] = [
        (schema.Subject, schema.Subject.id.in_(owner)),
        (schema.Dictionary, schema.Dictionary.subject_id.in_(owner)),
        (schema.Corpus, schema.Corpus.id.in_(sa.select(schema.Index.corpus_id).where(indexes))),
        (schema.Index, indexes),
        (schema.Unit, of_unit),
        (schema.Campaign, schema.Campaign.id == campaign_id),
        (job, job.campaign_id == campaign_id),
        (schema.Example, schema.Example.investigation_id.in_(kept)),
        (schema.Hypothesis, schema.Hypothesis.investigation_id.in_(kept)),
        (experiment, experiment.investigation_id.in_(kept)),
        (schema.Observation, schema.Observation.id.in_(seen)),
        (description, description.investigation_id.in_(kept)),
        (schema.Score, schema.Score.id.in_(scored)),
        (schema.Opening, schema.Opening.investigation_id.in_(kept)),
        (told, sa.or_(told.score_id.in_(scored), told.experiment_id.in_(tried), told.observation_id.in_(seen))),
    ]
    if calls:
        wanted.append((schema.LlmCall, schema.LlmCall.investigation_id.in_(kept)))
    with source.session() as reading, target.transaction() as writing:
        if target.is_sqlite:
            # A description may refer to a later one, which supersedes it.
            writing.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
        for table, which in wanted:
            _copy(reading, writing, table, which)
        if played:
            again = schema.Opening.investigation_id.in_(list(afresh))
            _copy(reading, writing, schema.Opening, again, description_id=None)
            last = sa.and_(schema.LlmCall.salt == job.failures, schema.LlmCall.investigation_id == job.id)
            of = sa.select(schema.LlmCall.id).join(job, last).where(job.id.in_(list(afresh)))
            _copy(reading, writing, schema.LlmCall, schema.LlmCall.id.in_(of), **_KNOWN)
        writing.execute(sa.update(job).where(job.id.in_(list(afresh))).values(**_AFRESH))
        changed: dict[str, Any] = {"budget": {}}
        if afresh:
            changed |= {"status": "open", "outcome": None, "finished_at": None}
        if spec is not None:
            estimates = dict(get_campaign(source, name).estimates)
            estimates.pop("abilities", None)  # of the endpoints that it asked
            changed |= {"spec": dict(spec[0]), "spec_hash": spec[1], "estimates": estimates}
        writing.execute(sa.update(schema.Campaign).where(schema.Campaign.id == campaign_id).values(**changed))


def _copy(reading: Session, writing: Session, table: Any, which: Any, **changed: Any) -> None:
    columns = table.__table__.columns
    rows = reading.execute(sa.select(*columns).where(which).order_by(table.id)).mappings()
    while part := [{**row, **changed} for row in rows.fetchmany(_AT_ONCE)]:
        writing.execute(sa.insert(table), part)


def copy_invalidations(source: Database, target: Database, name: str, investigations: Collection[int]) -> int:
    """Withdraw in the copy what is withdrawn in the original, of investigations that were done again.

    Rows are found by their places, for their ids are others.

    Returns:
        How many rows of `invalidations` were copied. Verdicts are not set anew.
    """
    told = schema.Invalidation
    campaign_id = get_campaign(source, name).id
    copied = 0
    with source.session() as reading, target.transaction() as writing:
        for row in reading.scalars(sa.select(told).where(told.campaign_id == campaign_id).order_by(told.id)):
            place = _place(reading, row)
            if place is None or place[1] not in investigations:
                continue
            found = _row_at(writing, *place)
            if found is not None:
                column = f"{place[0]}_id"
                writing.add(
                    told(
                        campaign_id=campaign_id, action=row.action, reason=row.reason, created_at=row.created_at,
                        **{column: found},
                    )
                )  # fmt: skip
                copied += 1
    return copied


def _place(session: Session, row: schema.Invalidation) -> tuple[str, int, tuple[Any, ...]] | None:
    """Kind of row, its investigation, and where it is in that."""
    score, description, seen = schema.Score, schema.Description, schema.Observation
    experiment = schema.Experiment
    kind = "experiment"
    query: Any = sa.select(experiment.investigation_id, experiment.position)
    query = query.where(experiment.id == row.experiment_id)
    if row.score_id is not None:
        kind = "score"
        query = sa.select(description.investigation_id, *_SCORE_PLACE).join(score).where(score.id == row.score_id)
    elif row.observation_id is not None:
        kind = "observation"
        query = sa.select(experiment.investigation_id, experiment.position, seen.position)
        query = query.join(seen).where(seen.id == row.observation_id)
    found = session.execute(query).one_or_none()
    return None if found is None else (kind, found[0], tuple(found[1:]))


_SCORE_PLACE: tuple[Any, ...] = (
    schema.Description.polarity, schema.Description.rank, schema.Description.version, schema.Score.metric,
    schema.Score.split, schema.Score.predictor, schema.Score.protocol_hash,
)  # fmt: skip


def _row_at(session: Session, kind: str, investigation: int, place: tuple[Any, ...]) -> int | None:
    """The row of this kind at this place of an investigation."""
    score, description, seen = schema.Score, schema.Description, schema.Observation
    experiment = schema.Experiment
    if kind == "score":
        query = sa.select(score.id).join(description).where(description.investigation_id == investigation)
        query = query.where(*(column == value for column, value in zip(_SCORE_PLACE, place, strict=True)))
    else:
        own = sa.and_(experiment.investigation_id == investigation, experiment.position == place[0])
        query = sa.select(experiment.id).where(own)
        if kind == "observation":
            query = sa.select(seen.id).join(experiment).where(own, seen.position == place[1])
    return session.scalar(query)
