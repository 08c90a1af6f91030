"""The parts of a report beside its checks: scores against controls, calibration, cost, failures."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from agent.reporting.checks import Separated, accepted_shares, gap_of, separated
from agent.reporting.evidence import COSTS, Claim, Evidence, Job
from agent.reporting.statistics import Mean, Share, histogram, percentile_in, share_of

#: Bins of scores and of p-values in histograms, over 0 to 1.
SCORE_BINS, P_BINS = 20, 10
#: Bins of the refine score in the calibration table, over 0 to 1.
CALIBRATION_BINS = 5
#: Real units, as a kind beside the kinds of controls.
REAL = "real"
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class Population:
    """The tested claims of real units, or of one kind of control."""

    kind: str
    accepted: Share
    skipped: int
    """Units that triage skipped (dead, dense, copies): they were not tested, and count neither way."""
    values: list[float]
    """F1 on the score split, ascending, of those that have one."""
    median: float | None
    counts: list[int]
    """Histogram of `values` in `SCORE_BINS` bins over 0 to 1."""


@dataclass(frozen=True)
class AgainstControls:
    """Scores of real units beside those of controls."""

    populations: list[Population]
    """Real units first."""
    separated: Separated | None
    percentile: float | None
    """Share of the controls' scores that lie below the median score of the real units."""


def against_controls(evidence: Evidence) -> AgainstControls:
    """Scores by kind, and where the median real one lies among the controls."""
    kinds = sorted({job.control for job in evidence.jobs if job.control} | set(accepted_shares(evidence.claims)))
    populations = [_population(evidence, None), *(_population(evidence, kind) for kind in kinds)]
    controls = [value for population in populations[1:] for value in population.values]
    median = populations[0].median
    percentile = None if median is None else percentile_in(median, controls)
    return AgainstControls(populations, separated(evidence), percentile)


def _population(evidence: Evidence, kind: str | None) -> Population:
    claims = [claim for claim in evidence.claims if claim.tested and claim.control == kind]
    values = sorted(claim.value for claim in claims if claim.value is not None)
    return Population(
        kind=kind or REAL,
        accepted=share_of(sum(claim.accepted for claim in claims), len(claims)),
        skipped=sum(job.status == "skipped" and job.control == kind for job in evidence.jobs),
        values=values,
        median=statistics.median(values) if values else None,
        counts=histogram(values, SCORE_BINS),
    )


@dataclass(frozen=True)
class CalibrationBin:
    """Real claims whose refine F1 lies in [low, high)."""

    low: float
    high: float
    n: int
    refine: float
    """Mean."""
    score: float
    """Mean."""


@dataclass(frozen=True)
class PValues:
    """p-values against chance of one kind of control."""

    kind: str
    n: int
    counts: list[int]
    """Histogram in `P_BINS` bins over 0 to 1."""
    too_small: float | None
    """One-sided Kolmogorov-Smirnov p-value that they are not smaller than uniform ones; None where there are none."""


@dataclass(frozen=True)
class Calibration:
    """How well the refine score foretells the sealed one, and whether p-values are what they say."""

    gap: Mean | None
    """Refine less score, over all tested units, controls among them but for swapped ones."""
    bins: list[CalibrationBin]
    """Real claims; empty bins left out."""
    mean_error: float | None
    mean_absolute_error: float | None
    correlation: float | None
    inside: Share
    """Real claims whose refine score lies inside the 95 % interval of the sealed one."""
    p_values: list[PValues]


def calibration(evidence: Evidence) -> Calibration:
    """Refine against score, and the controls' p-values."""
    pairs = [
        (claim.refine, claim.value, claim)
        for claim in evidence.tested(control=False)
        if claim.refine is not None and claim.value is not None
    ]
    refine, score = np.array([one[0] for one in pairs]), np.array([one[1] for one in pairs])
    varied = len(pairs) > 2 and refine.std() > 0 and score.std() > 0
    spans = [
        (refine_f1, claim.low, claim.high)
        for refine_f1, _, claim in pairs
        if claim.low is not None and claim.high is not None
    ]
    kinds = sorted(accepted_shares(evidence.tested(control=True)))
    return Calibration(
        gap=gap_of([claim for claim in evidence.claims if claim.tested]),
        bins=_bins([(r, s) for r, s, _ in pairs]),
        mean_error=float((refine - score).mean()) if pairs else None,
        mean_absolute_error=float(np.abs(refine - score).mean()) if pairs else None,
        correlation=float(np.corrcoef(refine, score)[0, 1]) if varied else None,
        inside=share_of(sum(low <= value <= high for value, low, high in spans), len(spans)),
        p_values=[_p_values(evidence, kind) for kind in kinds],
    )


def _bins(pairs: Sequence[tuple[float, float]]) -> list[CalibrationBin]:
    found = []
    for number in range(CALIBRATION_BINS):
        inside = [pair for pair in pairs if min(int(pair[0] * CALIBRATION_BINS), CALIBRATION_BINS - 1) == number]
        if inside:
            means = np.mean(inside, axis=0)
            ends = (number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS)
            found.append(CalibrationBin(*ends, len(inside), float(means[0]), float(means[1])))
    return found


def _p_values(evidence: Evidence, kind: str) -> PValues:
    values = [c.p for c in evidence.tested(control=True) if c.control == kind and c.p is not None]
    too_small = float(stats.kstest(values, "uniform", alternative="greater").pvalue) if values else None
    return PValues(kind, len(values), histogram(values, P_BINS), too_small)


@dataclass(frozen=True)
class CostRow:
    """What one part of the campaign used."""

    part: str
    units: int
    seconds: float
    tool_calls: float
    forward_passes: float
    tokens: float


@dataclass(frozen=True)
class Costs:
    """What the campaign used; `parts` sum to `total`."""

    parts: list[CostRow]
    total: CostRow
    per_description: dict[str, float] | None
    """Total by the number of tested descriptions of real units: controls and failures are part of their price."""
    per_supported: dict[str, float] | None


def costs(evidence: Evidence) -> Costs:
    """Cost by what became of the units."""
    parts: dict[str, list[Job]] = {}
    for job in evidence.jobs:
        part = "controls" if job.control is not None else {"done": "described"}.get(job.status, job.status)
        parts.setdefault(part, []).append(job)
    total = _cost_row("total", evidence.jobs)
    real = evidence.tested(control=False)
    return Costs(
        parts=[_cost_row(part, parts[part]) for part in sorted(parts, key=_COST_ORDER.index)],
        total=total,
        per_description=_per(total, len(real)),
        per_supported=_per(total, sum(claim.accepted for claim in real)),
    )


_COST_ORDER = ["described", "skipped", "failed", "leased", "pending", "controls"]


def _cost_row(part: str, jobs: Sequence[Job]) -> CostRow:
    return CostRow(part, len(jobs), **{name: sum(getattr(job, name) for job in jobs) for name in COSTS})


def _per(total: CostRow, n: int) -> dict[str, float] | None:
    return {name: getattr(total, name) / n for name in COSTS} if n else None


@dataclass(frozen=True)
class Missing:
    """Units without a tested description, failed or skipped."""

    total: int
    reasons: list[tuple[str, int]]
    """Reasons with numbers replaced by N, most frequent first."""
    units: list[tuple[str, str]]
    """Unit and reason, the first `limit` of them; of a control also its kind."""


def missing(jobs: Sequence[Job], status: str, limit: int) -> Missing:
    """The units that ended with a status, by reason."""
    found = [(job.unit if job.control is None else f"{job.unit} ({job.control})", job.reason) for job in jobs
             if job.status == status]  # fmt: skip
    told = [(unit, reason or "no reason recorded") for unit, reason in found]
    counted = Counter(_NUMBER.sub("N", reason).strip() for _, reason in told)
    return Missing(len(told), sorted(counted.items(), key=lambda one: (-one[1], one[0])), told[:limit])


def best_claims(claims: Sequence[Claim], limit: int) -> list[Claim]:
    """Accepted claims whose interval stays furthest above chance."""
    return sorted((c for c in claims if c.accepted and c.value is not None), key=_above_chance, reverse=True)[:limit]


def worst_claims(claims: Sequence[Claim], limit: int) -> list[Claim]:
    """Accepted claims whose interval stays least above chance: where a mistake is most likely."""
    return sorted((c for c in claims if c.accepted and c.value is not None), key=_above_chance)[:limit]


def lowest_claims(claims: Sequence[Claim], limit: int) -> list[Claim]:
    """The claims with the lowest scores, accepted or not."""
    return sorted((c for c in claims if c.value is not None), key=lambda c: (c.value or 0.0, c.name))[:limit]


def _above_chance(claim: Claim) -> tuple[float, float, str]:
    return ((claim.low if claim.low is not None else -1.0) - (claim.null or 0.0), claim.value or 0.0, claim.name)
