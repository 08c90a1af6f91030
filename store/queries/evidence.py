"""A campaign's claims and controls, one record each: what error control, reports and charts are made from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.campaigns import get_campaign
from store.claim_rows import CampaignEvidence, ClaimRow, ClaimScore, ClaimTest, ControlRow, RefutedRival, Withdrawn
from store.database import Database
from store.records import EVIDENCE_KINDS
from store.schema.views import invalid_rows

_SPLIT = "score"


def campaign_evidence(db: Database, name: str, *, controls: bool = True) -> list[ClaimRow]:
    """One record for each claim of a campaign, its blind controls' among them, in a fixed order.

    A claim is what is asserted of a tail: the runners-up beside it, which were not tested, are none.

    Units are ordered by their ids and controls come last, whatever the order in which they were worked on.

    Args:
        db: the database.
        name: of the campaign.
        controls: False leaves them out.

    Raises:
        StoreError: there is no campaign of this name.
    """
    campaign = get_campaign(db, name)
    with db.session() as session:
        return claims_in(session, campaign.id, controls=controls)


def evidence_in(session: Session, campaign_id: int) -> CampaignEvidence:
    """All that a campaign's verdicts rest on, in one state of the database."""
    campaign = session.get_one(schema.Campaign, campaign_id)
    return CampaignEvidence(
        campaign.name,
        campaign.status,
        campaign.spec,
        claims_in(session, campaign_id),
        controls_in(session, campaign_id),
        campaign.outcome,
        _refuted(session, campaign_id),
    )


def evidence_of(db: Database, campaign_id: int) -> CampaignEvidence:
    """See `evidence_in`."""
    with db.session() as session:
        return evidence_in(session, campaign_id)


def claims_in(session: Session, campaign_id: int, *, controls: bool = True) -> list[ClaimRow]:
    """See `campaign_evidence`."""
    description, unit, job = schema.Description, schema.Unit, schema.Investigation
    query = (
        sa.select(description, unit, job, schema.Hypothesis.status)
        .join(unit, unit.id == description.unit_id)
        .join(job, job.id == description.investigation_id)
        .outerjoin(schema.Hypothesis, schema.Hypothesis.id == description.hypothesis_id)
        .where(description.campaign_id == campaign_id, description.superseded_by.is_(None), description.rank == 1)
        .order_by(
            job.control.is_not(None), unit.kind, unit.layer, unit.dictionary, unit.unit_index, unit.unit,
            description.polarity, description.id,
        )
    )  # fmt: skip
    if not controls:
        query = query.where(job.control.is_(None))
    score = schema.Score
    own = (
        sa.select(score)
        .join(description, description.id == score.description_id)
        .where(description.campaign_id == campaign_id, score.split == _SPLIT)
        .order_by(score.headline.desc(), score.id)
    )
    invalid = withdrawn_in(session, campaign_id)
    scores: dict[int, dict[str, ClaimScore]] = defaultdict(dict)
    gone: dict[int, list[Withdrawn]] = defaultdict(list)
    for row in session.scalars(own):
        if (reason := invalid.get(("score", row.id))) is not None:
            gone[row.description_id].append(Withdrawn(f"score:{row.id}", row.metric, reason))
            continue
        # Headline rows come first: of a metric that was scored by several predictors, the headline is told.
        scores[row.description_id].setdefault(row.metric, _score(row))
    tests = _tests(session, campaign_id, invalid)
    claims = []
    for one, unit_row, job_row, status in session.execute(query):
        asserted = tests.get(one.hypothesis_id or 0, [])
        lost = [
            Withdrawn(f"observation:{test.observation_id}", test.kind, test.withdrawn)
            for test in asserted
            if test.withdrawn is not None
        ]
        claims.append(
            replace(
                _claim(one, unit_row, job_row, scores.get(one.id, {})),
                hypothesis_status=status, tests=tuple(asserted), withdrawn=(*gone[one.id], *lost),
            )
        )  # fmt: skip
    return claims


def withdrawn_in(session: Session, campaign_id: int | None = None) -> dict[tuple[str, int], str]:
    """Rows that do not count any more, of one campaign or of all: (kind, id) -> why."""
    query = sa.select(invalid_rows)
    if campaign_id is not None:
        query = query.where(invalid_rows.c.campaign_id == campaign_id)
    found = {}
    for row in session.execute(query).mappings():
        kind = next(kind for kind in EVIDENCE_KINDS if row[f"{kind}_id"] is not None)
        found[kind, int(row[f"{kind}_id"])] = str(row["reason"])
    return found


def _refuted(session: Session, campaign_id: int) -> tuple[RefutedRival, ...]:
    """Rivals that are not asserted, some of whose observations were withdrawn, now or before they were put back."""
    rival, seen, job, told = schema.Hypothesis, schema.Observation, schema.Investigation, schema.Invalidation
    asserted = sa.select(schema.Description.hypothesis_id).where(schema.Description.hypothesis_id.is_not(None))
    touched = (
        sa.select(seen.hypothesis_id)
        .join(told, sa.or_(told.observation_id == seen.id, told.experiment_id == seen.experiment_id))
        .where(told.campaign_id == campaign_id, seen.hypothesis_id.is_not(None))
    )
    query = (
        sa.select(rival, schema.Unit.unit)
        .join(job, job.id == rival.investigation_id)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
        .where(rival.id.in_(touched), rival.id.not_in(asserted))
        .order_by(rival.id)
    )
    found = session.execute(query).all()
    if not found:
        return ()
    invalid = withdrawn_in(session, campaign_id)
    ratios: dict[int, list[float]] = defaultdict(list)
    observed = sa.select(seen).where(seen.hypothesis_id.in_([row.id for row, _ in found])).order_by(seen.id)
    for one in session.scalars(observed):
        gone = ("observation", one.id) in invalid or ("experiment", one.experiment_id) in invalid
        if not gone and isinstance(ratio := one.data.get("log_likelihood_ratio"), int | float):
            ratios[one.hypothesis_id or 0].append(float(ratio))
    return tuple(
        RefutedRival(row.id, unit, row.key, row.status, str(row.details.get("dropped", "")), tuple(ratios[row.id]))
        for row, unit in found
    )


def _tests(session: Session, campaign_id: int, invalid: dict[tuple[str, int], str]) -> dict[int, list[ClaimTest]]:
    """Observations by the hypothesis that they bear on."""
    seen, experiment, job = schema.Observation, schema.Experiment, schema.Investigation
    query = (
        sa.select(seen.hypothesis_id, seen.id, experiment.id, experiment.kind, seen.outcome)
        .join(experiment, experiment.id == seen.experiment_id)
        .join(job, job.id == experiment.investigation_id)
        .where(job.campaign_id == campaign_id, seen.hypothesis_id.is_not(None))
        .order_by(experiment.position, seen.position)
    )
    found: dict[int, list[ClaimTest]] = defaultdict(list)
    for hypothesis, observation, whole, kind, outcome in session.execute(query):
        reason = invalid.get(("observation", observation)) or invalid.get(("experiment", whole))
        found[hypothesis or 0].append(ClaimTest(observation, whole, kind, outcome, reason))
    return found


def control_rows(db: Database, campaign: str) -> list[ControlRow]:
    """The blind controls of a campaign, in the order in which they were queued.

    Raises:
        StoreError: there is no campaign of this name.
    """
    known = get_campaign(db, campaign)
    with db.session() as session:
        return controls_in(session, known.id)


def controls_in(session: Session, campaign_id: int) -> list[ControlRow]:
    """See `control_rows`."""
    description, unit, job = schema.Description, schema.Unit, schema.Investigation
    verdicts: dict[int, dict[str, str]] = defaultdict(dict)
    for key, polarity, verdict in session.execute(
        sa.select(description.investigation_id, description.polarity, description.verdict_input).where(
            description.campaign_id == campaign_id, description.superseded_by.is_(None), description.rank == 1
        )
    ):
        verdicts[key][polarity] = verdict
    rows = session.execute(
        sa.select(job, unit.unit)
        .join(unit)
        .where(job.campaign_id == campaign_id, job.control.is_not(None))
        .order_by(job.id)
    )
    return [
        ControlRow(
            row.id, name, row.control or "", row.control_of or "", row.status, row.reason,
            dict(sorted(verdicts.get(row.id, {}).items())), row.seconds, row.tool_calls,
        )
        for row, name in rows
    ]  # fmt: skip


def _claim(
    row: schema.Description, unit: schema.Unit, job: schema.Investigation, scores: dict[str, ClaimScore]
) -> ClaimRow:
    named = unit.unit if job.control_of is None else job.control_of
    kind = named.partition(":")[0]
    details: dict[str, Any] = row.details
    tail = details.get("tail") or {}
    return ClaimRow(
        description_id=row.id,
        investigation_id=job.id,
        unit=unit.unit,
        group=named if kind == "dir" else named.rpartition(":")[0],
        kind=kind,
        polarity=row.polarity,
        control=job.control,
        control_of=job.control_of,
        label=row.label,
        input_half=row.input_half,
        rule=row.rule,
        explainer=row.explainer,
        verdict_input=row.verdict_input,
        verdict_output=row.verdict_output,
        output_kind=row.output_kind,
        density=tail.get("density", unit.density),
        scores=scores,
        refine_f1=(details.get("refine") or {}).get("f1"),
        status=job.status,
        reason=job.reason,
        seconds=job.seconds,
        tool_calls=job.tool_calls,
        forward_passes=(details.get("cost") or {}).get("forward_passes"),
        tokens=job.tokens,
        details=details,
    )


def _score(row: schema.Score) -> ClaimScore:
    return ClaimScore(
        row.id, row.metric, row.value, row.low, row.high, row.null_mean, row.p_value, row.q_value, row.e_value,
        row.headline, row.n_examples, row.n_documents, row.unparseable, row.protocol_hash, row.predictor,
    )  # fmt: skip
