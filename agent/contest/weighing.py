"""What a trial's outcome does to the rivals: their weights, the evidence against them, and who is refuted."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

import numpy as np

from agent.contest.beliefs import evidence_against, log_likelihoods, noise_likelihood
from agent.contest.types import Contest, Outcome, Probe, Rival, Trial
from agent.state import Json
from agent.triage import Tail
from explainers.pattern.heads import MASS

#: A rival that is refuted stays as long as none in the running comes so near its F1 on refine.
NEAR = 0.05


def outcome_of(trial: Trial, answer: Json, tail: Tail) -> Outcome:
    """What came of a trial, from what its tool gave (`ToolResult.to_json`)."""
    passes = int(answer["cost"]["forward_passes"])
    if answer["error"] is not None:
        return Outcome(trial, str(answer["error"]), passes=passes)
    if not trial.probes:
        return Outcome(trial, None, data=answer["data"], passes=passes)
    values = tuple(float(value) for value in answer["data"]["values"])
    sign = 1.0 if tail.polarity == "+" else -1.0
    active = tuple(
        value >= MASS if probe.sources else sign * value > tail.threshold
        for probe, value in zip(trial.probes, values, strict=True)
    )
    return Outcome(trial, None, values, active, passes=passes)


def fresh(probes: Sequence[Probe], before: Container[Probe]) -> list[int]:
    """Which probes say something new: the first of each that was not answered before."""
    first: dict[Probe, int] = {}
    for number, probe in enumerate(probes):
        if probe not in before:
            first.setdefault(probe, number)
    return list(first.values())


def answered(outcomes: Iterable[Outcome]) -> dict[Probe, bool]:
    """Probes that were answered, and whether the unit was active."""
    return {
        probe: active
        for outcome in outcomes
        if outcome.error is None and outcome.active
        for probe, active in zip(outcome.trial.probes, outcome.active, strict=True)
    }


def counted(contest: Contest, outcome: Outcome, before: Container[Probe]) -> tuple[Contest, dict[str, float]]:
    """With one trial's likelihoods in weights and evidence, and for each rival what it said, in nats for it.

    Args:
        contest: As it stands.
        outcome: Of the trial.
        before: Probes that were answered before; the subject says the same twice, which is no further evidence.
    """
    alive = contest.alive
    if outcome.error is not None or not outcome.active:
        return contest, {}
    new = fresh(outcome.trial.probes, before)
    predictions = np.array([outcome.trial.predictions[rival.key] for rival in alive])[:, new]
    likelihoods = log_likelihoods(predictions, np.array(outcome.active)[new])
    noise = noise_likelihood(len(new))
    against = evidence_against([rival.log_weight for rival in alive], contest.log_noise, likelihoods, noise)
    now = {
        rival.key: replace(
            rival, log_weight=rival.log_weight + float(likelihoods[i]), log_e=rival.log_e + float(against[i])
        )
        for i, rival in enumerate(alive)
    }
    rivals = tuple(now.get(rival.key, rival) for rival in contest.rivals)
    ratios = {rival.key: -float(against[i]) for i, rival in enumerate(alive)}
    return replace(contest, rivals=rivals, log_noise=contest.log_noise + noise), ratios


def refuted(contest: Contest, alpha: float) -> Contest:
    """Without the rivals against which the evidence has reached 1 / alpha.

    A rival stays as long as none that is not refuted itself, and fits the refine split about as well, could take its
    place: a description that is wrong here and there is better than none. The last one stays in any case.
    """
    limit = float(np.log(1 / alpha))
    fine = [rival for rival in contest.alive if rival.log_e < limit]

    def judged(rival: Rival) -> Rival:
        stays = all(rival.fit is not None and (other.fit or 0.0) < rival.fit - NEAR for other in fine)
        if not rival.alive or rival.log_e < limit or stays:
            return rival
        e_value = float(np.exp(min(rival.log_e, 700)))
        return rival.ended("dropped", f"refuted by trials: e-value {e_value:.3g} at alpha {alpha:g}")

    return replace(contest, rivals=tuple(map(judged, contest.rivals)))
