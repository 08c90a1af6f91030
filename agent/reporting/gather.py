"""From the database to the evidence that a report is computed from."""

from __future__ import annotations

from collections import Counter

import store
from agent.reporting.evidence import CARRIED, EDGES, HEADLINE, Claim, Evidence, Head, Job, LlmEvidence, Rivals
from agent.reporting.report import CampaignReport, build_report
from store.claim_rows import ClaimRow, ClaimScore
from store.queries import best_descriptions, campaign_evidence, list_campaigns, llm_costs
from store.queries.jobs import JobRow, campaign_jobs


def campaign_report(db: store.Database, name: str) -> CampaignReport:
    """The report of a campaign, as it stands.

    Raises:
        StoreError: there is no campaign of this name.
    """
    return build_report(gather(db, name))


def gather(db: store.Database, name: str) -> Evidence:
    """All that a campaign's report is computed from.

    Raises:
        StoreError: there is no campaign of this name.
    """
    campaign = store.get_campaign(db, name)
    row = next(row for row in list_campaigns(db) if row.campaign == name)
    claims, jobs = campaign_evidence(db, name), campaign_jobs(db, name)
    spec = campaign.spec
    tails = Counter(claim.investigation_id for claim in claims)
    work = {job.investigation_id: job for job in jobs}
    passes = {claim.investigation_id: claim.forward_passes or 0 for claim in claims}
    return Evidence(
        head=Head(
            campaign=name,
            status=campaign.status,
            subject=str(row.subject or spec.get("subject", "–")),
            corpus=str(spec.get("corpus", "–")),
            explainer=str(spec.get("explainer", "–")),
            scorer=", ".join(str(spec[key]) for key in ("scorer", "scoring") if key in spec) or "simulation",
            error_method=str(spec.get("error_method", "bh")),
            spec_hash=campaign.spec_hash,
            alpha=float(spec.get("alpha", 0.05)),
            began=row.created_at,
            ended=row.finished_at,
            pending=sum(job.status in ("pending", "leased") for job in jobs),
        ),
        claims=[_claim(claim, work[claim.investigation_id], tails[claim.investigation_id]) for claim in claims],
        jobs=[_job(job, passes.get(job.investigation_id, 0)) for job in jobs],
        recorded={"seconds": row.seconds, "tool_calls": float(row.tool_calls), "tokens": float(row.tokens)},
        llm=LlmEvidence(
            costs=llm_costs(db, name, ["asker", "purpose"]),
            by_claim=llm_costs(db, name, ["investigation", "polarity", "asker"], controls=False),
            claims=[claim for claim in claims if claim.control is None],
        ),
        predictions=[
            claim.details["predictions"]
            for claim in claims
            if claim.control is None and claim.details.get("predictions")
        ],
        rivals=[
            Rivals(
                f"{row.unit}{row.polarity}", row.label, row.selection,
                [(other.label, other.selection or 0.0) for other in row.runners_up],
            )
            for row in best_descriptions(db, campaign=name, order="unit", limit=None)
            if row.selection is not None
        ],
    )  # fmt: skip


def _claim(row: ClaimRow, job: JobRow, tails: int) -> Claim:
    score = row.scores.get(HEADLINE)
    # As `agent.sealed.verdict` has it.
    decides = row.scores.get(EDGES, score)
    carried = row.scores.get(CARRIED)
    return Claim(
        unit=row.unit,
        polarity=row.polarity,
        label=row.label,
        verdict=row.verdict_input,
        verdict_output=row.verdict_output,
        output_kind=row.output_kind,
        output_reason="; ".join((row.details.get("verdict") or {}).get("output_reasons") or []) or None,
        before=(row.details.get("verdict") or {}).get("before"),
        tested=row.tested,
        control=row.control,
        control_of=row.control_of,
        explainer=row.explainer,
        value=score.value if score else None,
        low=score.low if score else None,
        high=score.high if score else None,
        null=score.null_mean if score else None,
        decided_by=decides.metric if decides else HEADLINE,
        p=decides.p if decides else None,
        q=decides.q if decides else None,
        e=decides.e if decides else None,
        carried=carried.value if carried else None,
        carried_null=carried.null_mean if carried else None,
        carried_p=carried.p if carried else None,
        complete=decides is not None and is_complete(decides),
        unparseable=score.unparseable if score else None,
        refine=row.refine_f1,
        openings=job.openings.get(row.description_id, 0),
        seconds=row.seconds / tails,
        tool_calls=row.tool_calls / tails,
        forward_passes=(row.forward_passes or 0) / tails,
        tokens=row.tokens / tails,
    )


def is_complete(score: ClaimScore) -> bool:
    """Whether a score has its value, interval and null, and a p- or e-value."""
    needed = (score.value, score.low, score.high, score.null_mean)
    return all(value is not None for value in needed) and (score.p is not None or score.e is not None)


def _job(row: JobRow, forward_passes: int) -> Job:
    return Job(
        unit=row.unit,
        status=row.status,
        control=row.control,
        reason=row.reason,
        seconds=row.seconds,
        tool_calls=row.tool_calls,
        forward_passes=forward_passes,
        tokens=row.tokens,
        dropped_openings=row.dropped_openings,
    )
