"""A campaign's claims and controls, one record each: what error control, reports and charts are made from."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from store import schema
from store.campaigns import get_campaign
from store.claim_rows import ClaimRow, ClaimScore, ControlRow
from store.database import Database

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
    description, unit, job = schema.Description, schema.Unit, schema.Investigation
    query = (
        sa.select(description, unit, job)
        .join(unit, unit.id == description.unit_id)
        .join(job, job.id == description.investigation_id)
        .where(description.campaign_id == campaign.id, description.superseded_by.is_(None), description.rank == 1)
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
        .where(description.campaign_id == campaign.id, score.split == _SPLIT)
        .order_by(score.headline.desc(), score.id)
    )
    with db.session() as session:
        scores: dict[int, dict[str, ClaimScore]] = defaultdict(dict)
        for row in session.scalars(own):
            # Headline rows come first: of a metric that was scored by several predictors, the headline is told.
            scores[row.description_id].setdefault(row.metric, _score(row))
        return [_claim(*found, scores.get(found[0].id, {})) for found in session.execute(query)]


def control_rows(db: Database, campaign: str) -> list[ControlRow]:
    """The blind controls of a campaign, in the order in which they were queued.

    Raises:
        StoreError: there is no campaign of this name.
    """
    known = get_campaign(db, campaign)
    description, unit, job = schema.Description, schema.Unit, schema.Investigation
    with db.session() as session:
        verdicts: dict[int, dict[str, str]] = defaultdict(dict)
        for key, polarity, verdict in session.execute(
            sa.select(description.investigation_id, description.polarity, description.verdict_input).where(
                description.campaign_id == known.id, description.superseded_by.is_(None), description.rank == 1
            )
        ):
            verdicts[key][polarity] = verdict
        rows = session.execute(
            sa.select(job, unit.unit)
            .join(unit)
            .where(job.campaign_id == known.id, job.control.is_not(None))
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
