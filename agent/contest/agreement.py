"""Rivals that say the same: one of them goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agent.contest.edges import role_of
from agent.contest.types import MERGED, Contest, Rival
from agent.desk import Desk
from agent.triage import Tail
from explainers.predictors import predictor_of
from tools.types import BoolArray

#: Agreement from which on two rivals count as one: F1 of the one's predicted positions against the other's.
ALIKE = 0.95
#: Two rivals whose weights differ by more than this factor (in nats) are told apart by trials, however alike on texts.
APART = 3.0


def agreement(first: BoolArray, second: BoolArray) -> float:
    """F1 of one set of positions against another, 0 to 1; 1 where both are empty. Shared silence does not count."""
    either = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / either if either else 1.0


def _same_role(first: Rival, second: Rival) -> bool:
    one, other = role_of(first), role_of(second)
    return (None if one is None else one.kind) == (None if other is None else other.kind)


def merge_alike(desk: Desk, tail: Tail, contest: Contest) -> Contest:
    """With rivals merged that predict the same, on texts and at all probes; that of more weight goes on.

    Only rivals whose predictions cost nothing are compared, and none before a probe was answered: what texts cannot
    tell apart, trials may.
    """
    if not any(outcome.active for outcome in contest.outcomes):
        return contest
    sample = [view.sample(desk.unit) for view in (desk.bench.explore, desk.bench.refine)]
    said: dict[str, BoolArray] = {}
    for rival in contest.alive:
        predictor = predictor_of(desk.bench.explainer, rival.explanation)
        if predictor is None or getattr(predictor, "costly", False):
            continue
        parts = [
            predictor.predict(view.texts, rows.contexts, rows.positions) > tail.threshold
            for view, rows in zip((desk.bench.explore, desk.bench.refine), sample, strict=True)
        ]
        said[rival.key] = np.concatenate(parts)
    merged: dict[str, Rival] = {}
    ordered = sorted((rival for rival in contest.alive if rival.key in said), key=lambda rival: -rival.log_weight)
    for i, rival in enumerate(ordered):
        for other in ordered[:i]:
            if other.key in merged or other.log_weight - rival.log_weight > APART:
                continue
            if not _same_role(other, rival):
                continue  # where it writes is not all that is said of a head
            share = agreement(said[other.key], said[rival.key])
            if share >= ALIKE:
                why = f"says the same as {other.key}: agreement {share:.3f} on explore and refine"
                merged[rival.key] = rival.ended(MERGED, why)
                break
    return replace(contest, rivals=tuple(merged.get(rival.key, rival) for rival in contest.rivals))
