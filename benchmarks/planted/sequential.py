"""The same claims scored on the whole score split, and sequentially: what stopping early saves, and whether it agrees.

Cost is counted in positions that the predictor is asked about, for these are what an LLM's tokens are spent on. Both
scores are judged by the same verdict rule, against the same other units.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted.claims import Claim
from benchmarks.planted.measure import UnitMarks
from explainers.predictors import predictor_of
from explainers.types import Explainer
from scorers.sequential import score_sequential
from scorers.simulation import score_simulation
from scorers.verdict import VerdictRule, judge
from tools.index import SplitView, open_index
from tools.types import Split, UnitId

NULL_UNITS = 32
"""Other units that a claim is also scored against, as in a campaign."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """One claim scored both ways."""

    key: str
    explainer: str
    fixed: str
    """Verdict on the whole sample."""
    early: str
    """Verdict of the sequential score."""
    outcome: str
    """'success', 'futility' or 'undecided': how the sequential score ended."""
    cost: float
    """Positions asked for, as a share of the whole sample's."""
    true: bool
    """Whether it is right to accept the claim, by the truth on fresh text."""


def score_view(index: Path) -> SplitView:
    """The sealed score split of a campaign's index, opened for the comparison of scorers: no claim is made by it."""
    opened: list[object] = []
    return open_index(index).keeper(opened.append).open(
        Split.SCORE, claim="sequential against fixed", polarity="+", by="benchmark"
    )  # fmt: skip


def compare_scoring(
    claims: Iterable[Claim],
    marks: Iterable[UnitMarks],
    explainer: Explainer,
    view: SplitView,
    *,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Pair]:
    """Scores every tested claim of a campaign both ways.

    Args:
        claims: Of one campaign.
        marks: Of the same, for what is true.
        explainer: Who wrote the descriptions.
        view: The score split.
        seed: Of resamples and of the order of documents.
        tell: Is told of progress.
    """
    tested = [claim for claim in claims if claim.control is None and claim.threshold is not None]
    wrong = {mark.key: mark.false for mark in marks}
    groups: dict[str, list[UnitId]] = {}
    for unit in dict.fromkeys(UnitId.parse(claim.unit) for claim in tested):
        groups.setdefault(unit.group, []).append(unit)
    rule = VerdictRule()
    pairs: list[Pair] = []
    for number, claim in enumerate(tested):
        predictor = predictor_of(explainer, claim.explanation)
        if predictor is None or claim.key not in wrong or claim.threshold is None:
            continue
        unit = UnitId.parse(claim.unit)
        others = [other for other in groups[unit.group] if other != unit]
        if len(others) > NULL_UNITS:
            drawn = np.random.default_rng([seed, number]).choice(len(others), NULL_UNITS, replace=False)
            others = [others[i] for i in sorted(drawn)]
        asked = (predictor, view, unit, claim.polarity, claim.threshold)
        whole = score_simulation(*asked, null_units=others, seed=seed)
        early = score_sequential(
            *asked, target=rule.target, floor=rule.floor, alpha=rule.alpha, null_units=others, seed=seed
        )
        pairs.append(
            Pair(
                claim.key, claim.explanation.explainer, str(judge(whole, rule).verdict),
                str(judge(early.scores, rule).verdict), early.verdict, early.positions / early.positions_full,
                not wrong[claim.key],
            )
        )  # fmt: skip
        if number % 100 == 99:
            tell(f"{number + 1} of {len(tested)} claims scored both ways")
    return pairs


def summarise_pairs(pairs: list[Pair]) -> Json:
    """Median cost, agreement and power; `supported or not` is what counts as the same verdict, the finer one beside."""
    if not pairs:
        return {"claims": 0}
    true = [pair for pair in pairs if pair.true]
    false = [pair for pair in pairs if not pair.true]

    def accepted(some: list[Pair], which: str) -> int:
        return sum(getattr(pair, which) == "supported" for pair in some)

    return {
        "claims": len(pairs),
        "median_cost": statistics.median(pair.cost for pair in pairs),
        "mean_cost": statistics.fmean(pair.cost for pair in pairs),
        "same_decision": sum((pair.fixed == "supported") == (pair.early == "supported") for pair in pairs),
        "same_verdict": sum(pair.fixed == pair.early for pair in pairs),
        "true": len(true),
        "accepted_fixed": accepted(true, "fixed"),
        "accepted_early": accepted(true, "early"),
        "false": len(false),
        "false_accepted_fixed": accepted(false, "fixed"),
        "false_accepted_early": accepted(false, "early"),
        "stopped": {
            outcome: sum(pair.outcome == outcome for pair in pairs) for outcome in ("success", "futility", "undecided")
        },
        "pairs": [asdict(pair) for pair in pairs],
    }
