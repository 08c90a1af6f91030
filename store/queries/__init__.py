"""Questions to the database; the answers are plain values of `store.rows`."""

from __future__ import annotations

from store.queries.campaigns import campaign_index, campaign_scores, campaign_summary, list_campaigns
from store.queries.descriptions import ORDERS, best_descriptions
from store.queries.evidence import campaign_evidence, control_rows
from store.queries.llm_costs import LlmCost, llm_costs
from store.queries.notebook import notebook
from store.queries.units import find_units, unit_page

__all__ = [
    "ORDERS",
    "LlmCost",
    "best_descriptions",
    "campaign_evidence",
    "campaign_index",
    "campaign_scores",
    "campaign_summary",
    "control_rows",
    "find_units",
    "list_campaigns",
    "llm_costs",
    "notebook",
    "unit_page",
]
