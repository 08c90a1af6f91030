"""Which rival is asserted, after a contest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.claims import Tried, best_first
from agent.contest.types import ALIVE, MERGED
from scorers.metrics import Comparison

#: F1 on refine that a rival may lack of the best one, to be chosen for what trials say.
TOLERANCE = 0.02


def out_of(contest: Mapping[str, Any] | None) -> list[int]:
    """Numbers of the rivals that are no longer in the running; none without a contest."""
    if contest is None:
        return []
    return [i for i, rival in enumerate(contest["rivals"].values()) if rival["status"] != ALIVE]


def best_first_of(tried: Tried, contest: Mapping[str, Any] | None) -> tuple[list[int], list[Comparison | None]]:
    """Numbers of the rivals, the one that is asserted first; and their comparisons with the unit.

    Without a contest by what they do on refine (`agent.claims.best_first`). After one, only those in the running count:
    the first is, of those that do on refine about as well as the best of them, the one that trials gave most weight.
    For texts say how well a rule fits what happens to be written, trials what happens where it is not. Rivals that are
    out come last, and are not compared; those that were merged are, with the one that they say the same as.

    Args:
        tried: The rivals on refine, in their order.
        contest: `agent.contest.types.Contest.to_json`; None where there was none.
    """
    order = best_first(tried.marks)
    if contest is None:
        return order, tried.comparisons
    rivals = list(contest["rivals"].values())
    running = [i for i in order if rivals[i]["status"] == ALIVE]
    fits = {i: -1.0 if tried.marks[i]["f1"] is None else float(tried.marks[i]["f1"]) for i in running}
    good = [i for i in running if fits[i] >= max(fits.values()) - TOLERANCE]
    first = max(good, key=lambda i: (rivals[i]["log_weight"], -order.index(i)))
    out = [i for i in order if i not in fits]
    return (
        [first, *(i for i in running if i != first), *out],
        [one if rivals[i]["status"] in (ALIVE, MERGED) else None for i, one in enumerate(tried.comparisons)],
    )
