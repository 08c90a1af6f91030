"""What the database is told of a contest, beside the rows of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.contest.beliefs import posterior
from agent.contest.types import Contest
from agent.state import Json

_FIGURES = 6


def told_of_rival(contest: Mapping[str, Any], key: str, *, kept: bool) -> Json:
    """Details of a hypothesis: its weight, what is held against it, where it comes from, why it is out.

    Args:
        contest: `Contest.to_json`.
        key: Of the rival.
        kept: Whether it is asserted in the end, or kept as a runner-up.
    """
    held = Contest.from_json(contest)
    [rival] = [one for one in held.rivals if one.key == key]
    weights = dict(zip([one.key for one in held.alive], _weights(held), strict=True))
    told: Json = {
        "contest": {
            "origin": rival.origin, "parents": list(rival.parents), "status": rival.status,
            "weight": weights.get(key), "log_e": float(f"{rival.log_e:.{_FIGURES}g}"),
        }
    }  # fmt: skip
    if not rival.alive:
        told["dropped"] = f"{rival.status}: {rival.why}"
    elif not kept:
        told["dropped"] = "another rival did better on refine, or as well there and better in trials"
    return told


def told_of_contest(contest: Mapping[str, Any] | None) -> Json:
    """Details of a description: how many rivals and trials there were, and why it ended; nothing without a contest."""
    if contest is None:
        return {}
    held = Contest.from_json(contest)
    return {
        "contest": {
            "rivals": len(held.rivals), "left": len(held.alive), "rounds": len(held.rounds),
            "trials": len(held.outcomes), "probes": sum(len(outcome.active) for outcome in held.outcomes),
            "failed": sum(outcome.error is not None for outcome in held.outcomes),
            "passes": held.passes, "stopped": held.stopped,
        }
    }  # fmt: skip


def _weights(contest: Contest) -> list[float]:
    """Posterior weight of each rival in the running; noise takes its share of them."""
    found = posterior([*(rival.log_weight for rival in contest.alive), contest.log_noise])
    return [float(f"{weight:.{_FIGURES}g}") for weight in np.asarray(found)[:-1]]
