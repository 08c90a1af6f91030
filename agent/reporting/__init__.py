"""What came of a campaign and whether to believe it: the numbers of ``neurogloss campaign report``."""

from __future__ import annotations

from agent.reporting.checks import Check, State
from agent.reporting.gather import campaign_report
from agent.reporting.report import CampaignReport, build_report

__all__ = ["CampaignReport", "Check", "State", "build_report", "campaign_report"]
