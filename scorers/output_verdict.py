"""From the scores of an output half to its verdict.

A claim that tokens change is supported when their mean shift surely counts (the interval's lower end reaches `floor`)
and hardly any random write of the same size does as much; it is refuted when the whole interval lies below. A claim of
no effect is one of equivalence: supported when the upper ends of the largest change of a logit and of the divergences
of the predictions lie below what counts; refuted when one of them surely lies above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from explainers.output.claim import NOTABLE, NOTABLE_KL
from scorers.errors import ScorerError
from scorers.output import DECIDES
from scorers.types import Score
from scorers.verdict import SEALED, Judgement, Verdict


@dataclass(frozen=True)
class OutputRule:
    """Thresholds of a verdict on an output half."""

    floor: float = NOTABLE
    """Mean change of logits that counts."""
    floor_kl: float = NOTABLE_KL
    """Divergence of predictions that counts, in nats."""
    fewest: int = 8
    """Documents below which nothing is decided."""
    alpha: float = 0.05
    """Largest p-value or q-value of a supported claim."""


def judge_output(kind: str, scores: Sequence[Score], rule: OutputRule | None = None) -> Judgement:
    """Judge an output half by its scores.

    Args:
        kind: Of the claim, one of `DECIDES`.
        scores: The claim's; those of input halves among them are passed over.
        rule: Thresholds.

    Raises:
        ScorerError: A score is of a split that explainers see.
    """
    rule = rule or OutputRule()
    known = {score.metric: score for score in scores if score.metric.startswith("output_")}
    decides = known.get(DECIDES[kind])
    if decides is None:
        return Judgement(Verdict.UNTESTED, (f"there is no {DECIDES[kind]} score",))
    if decides.split not in SEALED:
        raise ScorerError(f"A verdict needs a score on the score or audit split, not on '{decides.split}'.")
    if decides.value is None:
        return Judgement(Verdict.UNTESTED, (f"{decides.metric} is undefined: {decides.reason}",))
    if decides.n_documents < rule.fewest or decides.low is None:
        told = f"only {decides.n_documents} sealed documents have it on; {rule.fewest} are needed"
        return Judgement(Verdict.INCONCLUSIVE, (told,))
    if kind == "nothing":
        return _nothing(known, decides, rule)
    if kind == "later":
        return _later(known, decides, rule)
    floor, unit = (rule.floor, "logits") if kind == "changes" else (rule.floor_kl, "nats")
    return _effect(decides, floor, unit, rule)


def _effect(score: Score, floor: float, unit: str, rule: OutputRule) -> Judgement:
    assert score.low is not None
    assert score.high is not None
    told = _told(score, unit)
    if score.high < floor:
        return Judgement(Verdict.REFUTED, (f"{told} lies below {floor:g}",))
    failed = []
    if score.low < floor:
        failed.append(f"{told} reaches down below {floor:g}")
    failed += _chance(score, rule, "random writes of the same size")
    if failed:
        return Judgement(Verdict.INCONCLUSIVE, tuple(failed))
    return Judgement(Verdict.SUPPORTED, (f"{told} stays above {floor:g}, and random writes of its size do less",))


def _nothing(known: Mapping[str, Score], decides: Score, rule: OutputRule) -> Judgement:
    bounds = {"output_most": (rule.floor, "logits"), "output_kl": (rule.floor_kl, "nats"),
              "output_later": (rule.floor_kl, "nats")}  # fmt: skip
    there = [(known[name], *bound) for name, bound in bounds.items() if name in known and known[name].high is not None]
    for score, bound, unit in there:
        if score.low is not None and score.low >= bound:
            return Judgement(Verdict.REFUTED, (f"{_told(score, unit)} lies above {bound:g}: it does something",))
    failed = [
        f"{_told(score, unit)} reaches up to {bound:g}"
        for score, bound, unit in there
        if score.high is not None and score.high >= bound
    ]
    failed += _chance(decides, rule, "an effect that counts")
    if failed:
        return Judgement(Verdict.INCONCLUSIVE, tuple(failed))
    told = ", ".join(_told(score, unit) for score, _, unit in there)
    return Judgement(Verdict.SUPPORTED, (f"no effect: {told} stay below what counts",))


def _later(known: Mapping[str, Score], decides: Score, rule: OutputRule) -> Judgement:
    judged = _effect(decides, rule.floor_kl, "nats", rule)
    now = known.get("output_kl")
    if now is None or now.low is None or now.high is None:
        return judged
    told = _told(now, "nats")
    if now.low >= rule.floor_kl:
        return Judgement(Verdict.REFUTED, (f"{told} lies above {rule.floor_kl:g}: the next prediction moves too",))
    if judged.verdict is Verdict.SUPPORTED and now.high >= rule.floor_kl:
        return Judgement(Verdict.INCONCLUSIVE, (f"{told} reaches up to {rule.floor_kl:g}",))
    return judged


def _chance(score: Score, rule: OutputRule, against: str) -> list[str]:
    name, p = ("q", score.q_value) if score.q_value is not None else ("p", score.p_value)
    if p is None:
        return [f"there is no p-value against {against}"]
    return [f"{name} = {p:.3g} against {against} exceeds {rule.alpha:g}"] if p > rule.alpha else []


def _told(score: Score, unit: str) -> str:
    return f"{score.metric} {score.value:.3g} [{score.low:.3g}, {score.high:.3g}] {unit}"
