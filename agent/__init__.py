"""The investigation, a LangGraph graph that tests what it claims, and campaigns of many.

Everything is imported when it is first used: a report needs the database alone, and not the model libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOME = {
    **dict.fromkeys(("resume_spec", "run_campaign"), "agent.campaign"),
    **dict.fromkeys(("Estimate", "IndexProgress", "Observer", "Summary", "Tally", "UnitDone"), "agent.progress"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'agent' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "agent.spec")), name)
