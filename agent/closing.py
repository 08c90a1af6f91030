"""The end of a campaign: error rates over all its claims, and how it came out."""

from __future__ import annotations

import statistics
from collections import Counter

import store
from agent.error_control import control_errors, deciding, scores_of
from agent.outcome import Outcome, outcome_of
from agent.plain import plain
from agent.progress import Summary
from agent.spec import BEFORE, CampaignSpec
from agent.workers import spent_of, tally_of
from store.queries import best_descriptions, campaign_evidence, campaign_index, control_rows, list_campaigns
from store.work import Campaign


def close(db: store.Database, campaign: Campaign) -> Outcome:
    """Sets q-values and verdicts by error control over all claims, unblinds the controls, marks the campaign done."""
    alpha = float(campaign.spec.get("alpha", CampaignSpec.model_fields["alpha"].default))
    method = str(campaign.spec.get("error_method", BEFORE["error_method"]))
    claims = campaign_evidence(db, campaign.name)
    found = control_errors(claims, method=method, alpha=alpha)
    deciders = {claim.description_id: deciding(scores_of(claim)) for claim in claims if claim.tested}
    outcome = outcome_of(
        claims,
        control_rows(db, campaign.name),
        found.verdicts,
        {key: found.q_values[own[0]] for key, own in deciders.items() if own is not None and own[0] in found.q_values},
        alpha=alpha,
        method=method,
    )
    store.close_campaign(
        db,
        campaign.id,
        found.q_values,
        verdicts={key: plain(verdict) for key, verdict in found.verdicts.items()},
        outcome=plain(outcome.to_json()),
    )
    return outcome


def summarise(
    db: store.Database,
    campaign: Campaign,
    status: str,
    *,
    reason: str | None = None,
    already_done: bool = False,
) -> Summary:
    """How a campaign stands, read from the database."""
    now = store.progress(db, campaign.id)
    row = next(row for row in list_campaigns(db) if row.campaign == campaign.name)
    described = best_descriptions(db, campaign=campaign.name, limit=None)
    known = [found.f1 for found in described if found.f1 is not None]
    spent = spent_of(now)
    outcome = store.get_campaign(db, campaign.name).outcome
    return Summary(
        campaign=campaign.name,
        campaign_id=campaign.id,
        status=status,
        tally=tally_of(now, 0.0),
        described=len(known),
        verdicts=dict(sorted(Counter(found.verdict_input for found in described).items())),
        median_f1=statistics.median(known) if known else None,
        spent={"units": spent.units, "seconds": row.seconds, "tool_calls": row.tool_calls},
        reason=reason,
        already_done=already_done,
        index=campaign_index(db, campaign.id),
        outcome=None if outcome is None else dict(outcome),
    )
