"""The part of a report about language models: what they cost, whether a rule would have done, what stages bought."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.reporting.evidence import HEADLINE, LlmEvidence
from store.claim_rows import ClaimRow, ClaimScore
from store.queries import LlmCost

#: How far a description's words and its rule agree about where the unit is active.
AGREEMENT = "rule_agreement"
#: What a rule that stands beside words reaches by itself.
RULE_F1 = "rule_f1"
#: Words and rule are said to agree from here on.
AGREE = 0.8
#: Level below which a diagnostic's p-value is counted.
LEVEL = 0.05
#: How published work calls a metric, by how its name begins; where several fit, the longest.
PUBLISHED: Mapping[str, str] = {
    "detection": "detection (Paulo et al. 2024)",
    "fuzzing": "fuzzing (Paulo et al. 2024)",
    "intruder": "intruder detection (Paulo et al. 2024)",
    "embedding": "embedding score (Paulo et al. 2024)",
    "surprisal": "surprisal score (Paulo et al. 2024)",
    "clarity": "clarity (FADE, Puri et al. 2025)",
    "responsiveness": "responsiveness (FADE, Puri et al. 2025)",
    "purity": "purity (FADE, Puri et al. 2025)",
    "input_success": "input success (Gur-Arieh et al. 2025)",
    "generative": "generative accuracy (SAGE 2025)",
    "ev_correlation": "correlation score, top-and-random (Bills et al. 2023)",
    "r2": "explained variance (Bills et al. 2023)",
}


@dataclass(frozen=True)
class LlmPart:
    """What one asker's calls for one purpose cost; `purpose` is empty for a sum over all."""

    asker: str
    purpose: str
    calls: int
    known: int
    """Answers that were on record already, at no cost."""
    prompt_tokens: int
    cached_tokens: int
    """Of the prompts', those that the server took from its prefix cache."""
    completion_tokens: int
    dollars: float | None
    """None where no price is known."""
    invalid: int
    """Calls whose answer was not in the form asked for."""
    unanswered: int

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class RuleAgreement:
    """How far the words' predictor and the rule agree, over the tested claims of real units that have both."""

    claims: int
    median: float
    agreeing: int
    """Claims with an agreement of `AGREE` or more."""
    words_f1: float | None
    """Median, on sealed text, of the words."""
    rule_f1: float | None
    """Of the rules of the same claims."""
    tokens: int
    """That testing these claims' words cost, and the rules' test would not have."""
    dollars: float | None


@dataclass(frozen=True)
class StageGain:
    """What one of several explainers bought, over the tails of real units."""

    stage: int
    explainer: str
    tails: int
    """That came to this stage."""
    ran: int
    """Of these, those for which it was asked."""
    failed: int
    before: float | None
    """Median F1 on refine of the best rival before it, where it was asked."""
    after: float | None
    """The same after it."""
    tokens: int
    """Of all that this explainer asked, the comparison of its rivals included."""
    dollars: float | None


@dataclass(frozen=True)
class DiagnosticRow:
    """One diagnostic over the tested claims of real units."""

    metric: str
    published: str
    """What published work calls such a number."""
    claims: int
    median: float | None
    chance: float | None
    """Median of the nulls' means."""
    significant: int
    """Claims whose p-value is at most `LEVEL`."""
    invalid: float
    """Mean share of answers that could not be had; each counts as wrong."""


@dataclass(frozen=True)
class LlmUse:
    """All about language models in a campaign."""

    parts: list[LlmPart]
    total: LlmPart
    descriptions: int
    """Tested descriptions of real units, which all calls (those for controls and failures too) were made for."""
    tokens_per_description: float | None
    """None where there is no description."""
    agreement: RuleAgreement | None
    stages: list[StageGain]
    diagnostics: list[DiagnosticRow]


def llm_use(evidence: LlmEvidence) -> LlmUse | None:
    """Computes the part; None for a campaign that asked no language model."""
    parts = [_part(str(row.key["asker"] or "–"), str(row.key["purpose"]), [row]) for row in evidence.costs]
    if not parts:
        return None
    tested = [claim for claim in evidence.claims if claim.tested and claim.control is None]
    total = _part("total", "", evidence.costs)
    return LlmUse(
        parts=sorted(parts, key=lambda part: (-part.tokens, part.asker, part.purpose)),
        total=total,
        descriptions=len(tested),
        tokens_per_description=total.tokens / len(tested) if tested else None,
        agreement=_agreement(tested, evidence.by_claim),
        stages=_stages(tested, evidence.by_claim),
        diagnostics=_diagnostics(tested),
    )


def _part(asker: str, purpose: str, rows: Sequence[LlmCost]) -> LlmPart:
    names = ("calls", "known", "prompt_tokens", "cached_tokens", "completion_tokens", "invalid", "unanswered")
    sums = {name: sum(getattr(row, name) for row in rows) for name in names}
    return LlmPart(asker, purpose, dollars=_money(rows), **sums)


def _money(rows: Iterable[LlmCost]) -> float | None:
    known = [row.dollars for row in rows if row.dollars is not None]
    return sum(known) if known else None


def _agreement(claims: Sequence[ClaimRow], costs: Sequence[LlmCost]) -> RuleAgreement | None:
    both = [(claim, score) for claim in claims if (score := claim.scores.get(AGREEMENT)) and score.value is not None]
    if not both:
        return None
    values = [score.value for _, score in both if score.value is not None]
    # A predictor's calls are charged to the part of its name before the model's.
    asked = {(claim.investigation_id, claim.polarity, score.predictor.partition(":")[0]) for claim, score in both}
    rows = [row for row in costs if (row.key["investigation"], row.key["polarity"], row.key["asker"]) in asked]
    return RuleAgreement(
        claims=len(both),
        median=statistics.median(values),
        agreeing=sum(value >= AGREE for value in values),
        words_f1=_median(claim.scores.get(HEADLINE) for claim, _ in both),
        rule_f1=_median(claim.scores.get(RULE_F1) for claim, _ in both),
        tokens=sum(row.tokens for row in rows),
        dollars=_money(rows),
    )


def _median(scores: Iterable[ClaimScore | None]) -> float | None:
    return _middle(score.value for score in scores if score is not None)


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _stages(claims: Sequence[ClaimRow], costs: Sequence[LlmCost]) -> list[StageGain]:
    told: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for claim in claims:
        for stage in (claim.details.get("explainer") or {}).get("stages") or ():
            told.setdefault((int(stage["stage"]), str(stage["explainer"])), []).append(stage)
    gains = []
    for (number, explainer), rows in sorted(told.items()):
        ran = [row for row in rows if row["ran"]]
        askers = {str(row.get("asker", explainer)) for row in rows}
        own = [cost for cost in costs if cost.key["asker"] in askers]
        gains.append(
            StageGain(
                stage=number,
                explainer=explainer,
                tails=len(rows),
                ran=len(ran),
                failed=sum("failed" in row for row in ran),
                before=_middle(row["f1_before"] for row in ran),
                after=_middle(row["f1_after"] for row in ran),
                tokens=sum(cost.tokens for cost in own),
                dollars=_money(own),
            )
        )
    return gains


def _diagnostics(claims: Sequence[ClaimRow]) -> list[DiagnosticRow]:
    """Of everything that is no headline and goes by a name that published work uses."""
    order = list(PUBLISHED)
    found: dict[str, list[ClaimScore]] = {}
    for claim in claims:
        for metric, score in claim.scores.items():
            if not score.headline and published(metric) is not None:
                found.setdefault(metric, []).append(score)
    return [
        DiagnosticRow(
            metric=metric,
            published=published(metric) or metric,
            claims=len(scores),
            median=_median(scores),
            chance=_middle(score.null_mean for score in scores),
            significant=sum(score.p is not None and score.p <= LEVEL for score in scores),
            invalid=statistics.fmean(score.unparseable for score in scores),
        )
        for metric, scores in sorted(found.items(), key=lambda item: (order.index(_known(item[0]) or ""), item[0]))
    ]


def published(metric: str) -> str | None:
    """What published work calls such a number; None for one that is our own."""
    name = _known(metric)
    return None if name is None else PUBLISHED[name]


def _known(metric: str) -> str | None:
    return max((name for name in PUBLISHED if metric.startswith(name)), key=len, default=None)
