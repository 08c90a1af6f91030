"""The end of a campaign: error rates over all its claims, and how it came out."""

from __future__ import annotations

import statistics
from collections import Counter

import store
from agent.progress import Summary
from agent.workers import spent_of, tally_of
from scorers.error_rates import q_values
from store.queries import best_descriptions, campaign_scores, list_campaigns
from store.work import Campaign
from tools.index import ActivationIndex


def close(db: store.Database, campaign: Campaign) -> None:
    """Sets the q-values (Benjamini and Hochberg 1995) of every headline score and marks the campaign done.

    The family of a q-value is all claims of the campaign under one metric and split: a claim is one question, and its
    metrics are different ways to ask it.
    """
    families: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for score in campaign_scores(db, campaign.id):
        if score.p_value is not None:
            families.setdefault((score.metric, score.split), []).append((score.score_id, score.p_value))
    found: dict[int, float] = {}
    for members in families.values():
        adjusted = q_values([p for _, p in members])
        found.update({score_id: q for (score_id, _), q in zip(members, adjusted, strict=True) if q is not None})
    store.close_campaign(db, campaign.id, found)


def summarise(
    db: store.Database,
    campaign: Campaign,
    status: str,
    *,
    reason: str | None = None,
    already_done: bool = False,
    index: ActivationIndex | None = None,
) -> Summary:
    """How a campaign stands, read from the database."""
    now = store.progress(db, campaign.id)
    row = next(row for row in list_campaigns(db) if row.campaign == campaign.name)
    described = best_descriptions(db, campaign=campaign.name, limit=None)
    known = [found.f1 for found in described if found.f1 is not None]
    spent = spent_of(now)
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
        index=str(index.path) if index is not None else None,
    )
