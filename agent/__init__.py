"""The investigation, a LangGraph graph that tests what it claims, and campaigns of many."""

from __future__ import annotations

from agent.campaign import resume_spec, run_campaign
from agent.progress import Estimate, IndexProgress, Observer, Summary, Tally, UnitDone
from agent.spec import Budget, CampaignSpec, Panel, SpecError, builtin_specs, load_spec

__all__ = [
    "Budget",
    "CampaignSpec",
    "Estimate",
    "IndexProgress",
    "Observer",
    "Panel",
    "SpecError",
    "Summary",
    "Tally",
    "UnitDone",
    "builtin_specs",
    "load_spec",
    "resume_spec",
    "run_campaign",
]
