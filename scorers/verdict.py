"""From a claim's scores to its verdict: supported, refuted, inconclusive or untested.

The rule looks at one metric (F1) and asks three things of it, each of which a different kind of bad description fails:

1. Is it good enough to be of use? The value must reach `target`, and its 95 % interval, corrected for chance, must stay
   above `floor`, so that neither a lucky handful of examples nor a unit that is on most of the time is enough. A
   corrected value is (value - null) / (1 - null) with the rotation null's mean: 0 is chance and 1 is perfect, as in
   Cohen's kappa (Cohen 1960).
2. Is it better than chance? Its p-value against the rotation null must not exceed `alpha`; once a campaign has set
   q-values, by whichever method and from p-values or e-values, the q-value decides instead.
3. Is it about this unit? Where enough other units are known, the description must fit its own unit better than all but
   the share `alpha` of them (pairing null).

A claim is refuted only by data that exclude its being of use: the whole corrected interval lies below `floor`. Failing
a test is not a refutation; everything between is inconclusive.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scorers.errors import ScorerError
from scorers.types import Score
from tools.types import Split

#: Splits that no explainer sees; a verdict on another split would flatter.
SEALED: Final = (Split.SCORE, Split.AUDIT)


class Verdict(enum.StrEnum):
    """What a test says of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    UNTESTED = "untested"


@dataclass(frozen=True)
class VerdictRule:
    """Thresholds of a verdict; the defaults hold for input-side claims scored by simulation."""

    metric: str = "f1"
    """The metric that decides. Only one that may headline should."""
    target: float = 0.5
    """Value that a supported claim reaches. F1 = 0.5: for every hit one miss and one false alarm, e.g. half of the
    activity is predicted and half of the predictions are right."""
    floor: float = 0.3
    """Lower bound of a supported claim's interval, corrected for chance; a claim whose whole corrected interval lies
    below it is refuted."""
    alpha: float = 0.05
    """Largest p-value or q-value of a supported claim, against each null."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and, in words, what decided it."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(scores: Sequence[Score], rule: VerdictRule | None = None) -> Judgement:
    """Judge one claim by its scores.

    Args:
        scores: the claim's scores on a sealed split, one predictor, of any metrics.
        rule: thresholds.

    Raises:
        ScorerError: the deciding metric was scored on a split that explainers see, or more than once.
    """
    rule = rule or VerdictRule()
    deciding = [score for score in scores if score.metric == rule.metric]
    if not deciding:
        return Judgement(Verdict.UNTESTED, (f"there is no {rule.metric} score",))
    if len(deciding) > 1:
        raise ScorerError(f"A verdict needs one {rule.metric} score of a claim, not {len(deciding)}.")
    score = deciding[0]
    if score.split not in SEALED:
        raise ScorerError(f"A verdict needs a score on the score or audit split, not on '{score.split}'.")
    if score.value is None:
        return Judgement(Verdict.UNTESTED, (f"{rule.metric} is undefined: {score.reason}",))
    if score.low is None or score.high is None:
        return Judgement(Verdict.INCONCLUSIVE, (f"{rule.metric} has no interval: the sample is a single document",))
    ends = f"{rule.metric} {score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
    if above_chance(score.high, score) < rule.floor:
        return Judgement(Verdict.REFUTED, (f"{ends}{_chance(score)} lies below {rule.floor:g}",))
    failed = _failures(score, rule, ends)
    if failed:
        return Judgement(Verdict.INCONCLUSIVE, tuple(failed))
    return Judgement(Verdict.SUPPORTED, (f"{ends} reaches {rule.target:g} and stays above {rule.floor:g}",))


def above_chance(value: float, score: Score) -> float:
    """A value of the score's metric, corrected for chance: 0 where the null's mean lies, 1 where it is perfect."""
    null = score.null_mean or 0.0
    return (value - null) / (1 - null) if null < 1 else 0.0


def _chance(score: Score) -> str:
    return f", corrected for a chance of {score.null_mean:.2f}," if score.null_mean else ""


def _evidence(score: Score) -> tuple[str, float | None]:
    """The number that speaks against chance, and its name: what the campaign has made of it, or the claim's own."""
    if score.q_value is not None:
        return "q", score.q_value
    if score.p_value is None and score.e_value is not None:
        # By Markov's inequality 1/E is a p-value.
        return "1/e", min(1.0, 1 / max(score.e_value, 1e-300))
    return "p", score.p_value


def _failures(score: Score, rule: VerdictRule, ends: str) -> list[str]:
    """Conditions of support that a score with value and interval does not meet."""
    failed = []
    if score.value is not None and score.value < rule.target:
        failed.append(f"{ends} does not reach {rule.target:g}")
    if score.low is not None and above_chance(score.low, score) < rule.floor:
        failed.append(f"{ends}{_chance(score)} reaches down below {rule.floor:g}")
    name, p = _evidence(score)
    if p is None:
        failed.append("there is no p-value: too few positions to rotate")
    elif p > rule.alpha:
        failed.append(f"{name} = {p:.3g} against chance exceeds {rule.alpha:g}")
    for null in score.nulls[1:]:
        # With fewer draws no p-value could be that small, and the null cannot speak against the claim.
        if (1 + null.draws) * rule.alpha >= 1 and null.p_value > rule.alpha:
            failed.append(f"it fits other units as well ({null.name} null: p = {null.p_value:.3g})")
    return failed
