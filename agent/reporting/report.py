"""A campaign's report as one value: everything that its Markdown, HTML and JSON forms show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.reporting import checks
from agent.reporting.checks import Check, State
from agent.reporting.errors import ErrorEstimates, error_estimates
from agent.reporting.evidence import COSTS, Claim, Evidence, Head
from agent.reporting.llm import LlmUse, llm_use
from agent.reporting.output import OutputUse, output_use
from agent.reporting.predictions import Disagreement, PredictionUse, disagreement, prediction_use
from agent.reporting.sections import (
    AgainstControls,
    Calibration,
    Costs,
    Missing,
    against_controls,
    best_claims,
    calibration,
    costs,
    lowest_claims,
    missing,
    worst_claims,
)

#: Version of the JSON form; it changes when a key is renamed, removed or means something else.
VERSION = 1
#: Descriptions and missing units listed, of each sort.
LISTED, MISSING_LISTED = 10, 30

Colour = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Counts:
    """How many of what."""

    units: Mapping[str, int]
    """Real units by status."""
    controls: Mapping[str, int]
    """Controls by kind."""
    claims: int
    """Tested descriptions of real units."""
    verdicts: Mapping[str, int]
    """Of these, by verdict on the input half."""


@dataclass(frozen=True)
class CampaignReport:
    """What came of a campaign and whether to believe it."""

    colour: Colour
    """Red when a check failed; amber when one is undecided or nothing guards the scores; else green."""
    why: list[str]
    """What keeps it from being green: names of checks with their findings."""
    head: Head
    counts: Counts
    checks: list[Check]
    scores: AgainstControls
    output: OutputUse | None
    """None where no description claims anything of the output that could be tested."""
    errors: ErrorEstimates
    calibration: Calibration
    predictions: PredictionUse | None
    """None where no description predicted anything."""
    disagreement: Disagreement | None
    """None where no choice among rivals is on record."""
    cost: Costs
    llm: LlmUse | None
    """None for a campaign that asked no language model."""
    failed: Missing
    skipped: Missing
    best: list[Claim]
    weakest: list[Claim]
    """Accepted ones that stay least above chance."""
    lowest: list[Claim]
    """With the lowest scores, accepted or not."""
    claims: list[Claim]
    """All, controls and units that triage skipped among them."""

    def to_json(self) -> dict[str, Any]:
        """Plain values with `version` first. Numbers may be infinite where a single unit gives no interval."""
        return {"version": VERSION, **asdict(self)}


def build_report(evidence: Evidence) -> CampaignReport:
    """Computes a campaign's report."""
    scores, errors, calibrated, spent = (
        against_controls(evidence), error_estimates(evidence), calibration(evidence), costs(evidence),
    )  # fmt: skip
    done = [
        checks.finished(evidence),
        checks.controls_accepted(evidence),
        checks.controls_accepted_by_kind(evidence),
        checks.separation_check(evidence, scores.separated),
        checks.expected_false(evidence, errors),
        checks.leak(evidence, calibrated.gap),
        checks.winners_curse(evidence, calibrated.gap),
        checks.seal(evidence),
        checks.intervals(evidence),
        checks.unparseable(evidence),
        checks.failures(evidence.jobs),
        checks.costs_add_up({name: float(getattr(spent.total, name)) for name in COSTS}, evidence.recorded),
    ]
    real = evidence.tested(control=False)
    colour, why = banner(done)
    return CampaignReport(
        colour=colour,
        why=why,
        head=evidence.head,
        counts=Counts(
            units=_counted(job.status for job in evidence.jobs if job.control is None),
            controls=_counted(job.control for job in evidence.jobs if job.control is not None),
            claims=len(real),
            verdicts=_counted(claim.verdict for claim in real),
        ),
        checks=done,
        scores=scores,
        output=output_use(evidence.claims),
        errors=errors,
        calibration=calibrated,
        predictions=prediction_use(evidence.predictions),
        disagreement=disagreement(evidence.rivals),
        cost=spent,
        llm=None if evidence.llm is None else llm_use(evidence.llm),
        failed=missing(evidence.jobs, "failed", MISSING_LISTED),
        skipped=missing(evidence.jobs, "skipped", MISSING_LISTED),
        best=best_claims(real, LISTED),
        weakest=worst_claims(real, LISTED),
        lowest=lowest_claims(real, LISTED),
        claims=list(evidence.claims),
    )


def banner(done: list[Check]) -> tuple[Colour, list[str]]:
    """The colour of a report, and what keeps it from being green."""
    failed = [check for check in done if check.state is State.FAILED]
    unsure = [check for check in done if check.state is State.UNDECIDED]
    unguarded = [c for c in done if c.key == "controls_accepted" and c.state is State.NOT_APPLICABLE]
    worst = failed or [*unsure, *unguarded]
    colour: Colour = "red" if failed else "amber" if worst else "green"
    return colour, [f"{check.name}: {check.finding}" for check in worst]


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
