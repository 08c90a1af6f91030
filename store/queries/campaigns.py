"""Campaigns: the list, one in full, and its scores for error control."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from store import schema
from store.database import Database
from store.errors import StoreError
from store.queries.descriptions import best_descriptions
from store.rows import (
    CampaignRow,
    CampaignScore,
    CampaignSummary,
    DescribedRow,
    Failure,
    KindSummary,
    moment,
)
from store.schema.views import campaign_summary as summary_view

#: From this F1 on, a supported description is called good.
WELL_DESCRIBED_F1 = 0.5


def list_campaigns(db: Database) -> list[CampaignRow]:
    """All campaigns, newest first."""
    with db.session() as session:
        rows = session.execute(sa.select(summary_view).order_by(summary_view.c.campaign_id.desc()))
        return [_campaign(row) for row in rows.mappings()]


def campaign_index(db: Database, campaign_id: int) -> str | None:
    """Folder of the activation index that a campaign works on; None as long as it has none."""
    with db.session() as session:
        of_campaign = sa.select(schema.Campaign.index_id).where(schema.Campaign.id == campaign_id).scalar_subquery()
        return session.scalar(sa.select(schema.Index.path).where(schema.Index.id == of_campaign))


def campaign_summary(
    db: Database,
    name: str,
    *,
    controls: bool = False,
    well_described_f1: float = WELL_DESCRIBED_F1,
    n_failures: int = 20,
) -> CampaignSummary:
    """A campaign in full: what came of its units, by kind.

    Args:
        db: the database.
        name: of the campaign.
        controls: with its blind controls, as a kind of their own, 'control'.
        well_described_f1: from this F1 on, a supported description is called good.
        n_failures: how many failures to list.

    Raises:
        StoreError: there is no campaign of this name.
    """
    job, unit = schema.Investigation, schema.Unit
    with db.session() as session:
        row = session.execute(sa.select(summary_view).where(summary_view.c.campaign == name)).mappings().one_or_none()
        if row is None:
            raise StoreError(
                f"There is no campaign '{name}' in {db.url}. `neurogloss campaign list` shows those there."
            )
        campaign = session.get_one(schema.Campaign, row["campaign_id"])
        wanted = sa.and_(job.campaign_id == campaign.id, sa.true() if controls else job.control.is_(None))
        jobs = session.execute(sa.select(unit.kind, job.status, unit.state).join(unit).where(wanted)).all()
        failures = session.execute(
            sa.select(unit.unit, job.status, job.reason)
            .join(unit)
            .where(wanted, job.status == "failed")
            .order_by(job.id)
            .limit(n_failures)
        )
        failed = [Failure(*found) for found in failures]
    rows = best_descriptions(db, campaign=name, controls=controls, order="unit", limit=None)
    kinds = sorted({kind for kind, _, _ in jobs})
    return CampaignSummary(
        campaign=_campaign(row),
        spec=campaign.spec,
        seed=campaign.seed,
        budget=campaign.budget,
        estimates=campaign.estimates,
        well_described_f1=well_described_f1,
        total=_summary([(status, state) for _, status, state in jobs], rows, well_described_f1),
        kinds={
            kind: _summary(
                [(status, state) for one, status, state in jobs if one == kind],
                [described for described in rows if described.kind == kind],
                well_described_f1,
            )
            for kind in kinds
        },
        failures=failed,
        outcome=campaign.outcome,
    )


def campaign_scores(
    db: Database, campaign_id: int, *, headline_only: bool = True, controls: bool = False
) -> list[CampaignScore]:
    """The scores of what a campaign asserts, those of its blind controls only when asked for."""
    score, description, unit, job = schema.Score, schema.Description, schema.Unit, schema.Investigation
    query = (
        sa.select(
            score.id, description.id, unit.unit, description.polarity, score.metric, score.split, score.value,
            score.p_value, score.e_value,
        )
        .join(description, description.id == score.description_id)
        .join(unit, unit.id == description.unit_id)
        .join(job, job.id == description.investigation_id)
        .where(description.campaign_id == campaign_id, description.superseded_by.is_(None), description.rank == 1)
        .order_by(score.id)
    )  # fmt: skip
    if headline_only:
        query = query.where(score.headline)
    if not controls:
        query = query.where(job.control.is_(None))
    with db.session() as session:
        return [CampaignScore(*row) for row in session.execute(query)]


def _campaign(row: Any) -> CampaignRow:
    values = {name: row[name] for name in CampaignRow.__dataclass_fields__}
    times = {name: moment(values[name]) for name in ("created_at", "finished_at")}
    return CampaignRow(**{**values, **times})


def _summary(jobs: Sequence[tuple[str, str]], rows: Sequence[DescribedRow], least_f1: float) -> KindSummary:
    statuses = Counter(status for status, _ in jobs)
    effects = Counter(row.output_kind or "" for row in rows if row.verdict_output == "supported")
    good = {
        (row.fingerprint, row.unit)
        for row in rows
        if row.verdict_input == "supported" and row.f1 is not None and row.f1 >= least_f1
    }
    tried = statuses["done"] + statuses["failed"]
    return KindSummary(
        investigations=dict(sorted(statuses.items())),
        states=dict(sorted(Counter(state for status, state in jobs if status in ("done", "skipped")).items())),
        descriptions=len(rows),
        verdicts_input=dict(sorted(Counter(row.verdict_input for row in rows).items())),
        verdicts_output=dict(sorted(Counter(row.verdict_output for row in rows).items())),
        effects=dict(sorted(effects.items())),
        median_f1=_median(row.f1 for row in rows),
        median_average_precision=_median(row.average_precision for row in rows),
        median_pearson=_median(row.pearson for row in rows),
        well_described=len(good),
        well_described_share=len(good) / tried if tried else None,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
