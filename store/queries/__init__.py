"""Questions to the database; the answers are plain values of `store.rows`."""

from __future__ import annotations

from store.queries.campaigns import campaign_scores, campaign_summary, list_campaigns
from store.queries.descriptions import ORDERS, best_descriptions
from store.queries.units import find_units, unit_page

__all__ = [
    "ORDERS",
    "best_descriptions",
    "campaign_scores",
    "campaign_summary",
    "find_units",
    "list_campaigns",
    "unit_page",
]
