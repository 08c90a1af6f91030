"""The database: what is studied, the queue of work, what was found, and how it is asked.

Give it plain values; it gives plain values back. ``open_database`` first, then the functions below.
"""

from __future__ import annotations

from store.campaigns import (
    add_investigations,
    create_campaign,
    fail,
    finish,
    get_campaign,
    heartbeat,
    lease_next,
    progress,
    reclaim,
    release,
    retry_failed,
)
from store.canonical import campaign_content, content_hash, differences
from store.claim_rows import CampaignEvidence, Judged
from store.closing import close_campaign, judge_campaign
from store.copying import copy_campaign, copy_invalidations
from store.database import Database, open_database
from store.errors import LeaseLostError, SealBrokenError, StoreError
from store.invalidations import reinstate, withdraw
from store.llm_calls import counterpart, find_call, find_replayed, record_calls
from store.openings import record_opening
from store.queries import (
    best_descriptions,
    campaign_evidence,
    campaign_scores,
    campaign_summary,
    control_rows,
    find_units,
    list_campaigns,
    llm_costs,
    unit_page,
)
from store.queries.evidence import evidence_of
from store.queries.invalidations import invalidations
from store.rechecks import begin_recheck, finish_recheck, rechecks_of
from store.recordings import find_step, record_step, recorded_steps
from store.search import search_text
from store.writes import register_corpus, register_dictionary, register_index, register_subject

__all__ = [
    "CampaignEvidence",
    "Database",
    "Judged",
    "LeaseLostError",
    "SealBrokenError",
    "StoreError",
    "add_investigations",
    "begin_recheck",
    "best_descriptions",
    "campaign_content",
    "campaign_evidence",
    "campaign_scores",
    "campaign_summary",
    "close_campaign",
    "content_hash",
    "control_rows",
    "copy_campaign",
    "copy_invalidations",
    "counterpart",
    "create_campaign",
    "differences",
    "evidence_of",
    "fail",
    "find_call",
    "find_replayed",
    "find_step",
    "find_units",
    "finish",
    "finish_recheck",
    "get_campaign",
    "heartbeat",
    "invalidations",
    "judge_campaign",
    "lease_next",
    "list_campaigns",
    "llm_costs",
    "open_database",
    "progress",
    "rechecks_of",
    "reclaim",
    "record_calls",
    "record_opening",
    "record_step",
    "recorded_steps",
    "register_corpus",
    "register_dictionary",
    "register_index",
    "register_subject",
    "reinstate",
    "release",
    "retry_failed",
    "search_text",
    "unit_page",
    "withdraw",
]
