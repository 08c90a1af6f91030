"""The end of a campaign: error rates over all its claims, and how it came out."""

from __future__ import annotations

import statistics
from collections import Counter
from functools import partial

import store
from agent.judging import judge
from agent.progress import Summary
from agent.workers import spent_of, tally_of
from store.queries import best_descriptions, campaign_index, list_campaigns
from store.work import Campaign


def close(db: store.Database, campaign: Campaign) -> None:
    """Sets q-values and verdicts by error control over all claims, unblinds the controls, marks the campaign done."""
    store.close_campaign(db, campaign.id, partial(judge, closing=True))


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
