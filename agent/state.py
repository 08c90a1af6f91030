"""The state of an investigation: JSON values only, checkpointed after every step."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from agent.ledger import add_costs

Json = dict[str, Any]


class State(TypedDict, total=False):
    """What the graph's steps hand on; '+' and '-' are keys of the inner dicts. Each key is written by one step, but
    that the contest's steps write 'contest' by turns, and add to 'rivals' and 'experiments'."""

    triage: Json
    """`agent.triage.Triage` and the unit's statistics over explore."""
    profile: Json
    """What its weights say ('promotion') and, for a head, its attention ('edges')."""
    rivals: dict[str, list[Json]]
    """By polarity: explanations, the explainer's best first, then those that a contest brought up."""
    events: dict[str, list[Json]]
    """By polarity: what the explainer reported while it worked."""
    experiments: list[Json]
    """Fields of `store.records.ExperimentRecord`."""
    contest: dict[str, Json]
    """By polarity: `agent.contest.types.Contest`. Only where rivals had a contest."""
    marks: dict[str, list[Json]]
    """By polarity: how each rival did on refine, in the order of `rivals`."""
    chosen: dict[str, int]
    """By polarity: which rival is asserted."""
    standing: dict[str, list[Json]]
    """By polarity: what is asserted and the runners-up (`agent.disagreement.Standing`)."""
    expected: dict[str, Json | None]
    """By polarity: what the claim's scores on sealed text will be (`agent.predictions.expected_scores`)."""
    claims: dict[str, Json]
    """By polarity: what is asserted, with the digest that it is known by."""
    predictions: dict[str, Json]
    """By polarity: what the claim predicts, with a digest (`agent.predictions.filed`); empty where it is off."""
    scores: dict[str, list[Json]]
    """By polarity: scores on sealed examples."""
    tests: dict[str, Json]
    """By polarity: the 'experiment' on the output half that was done on sealed text, or the 'reason' for none; and
    'density', the share of sealed text at which the tail is active."""
    settled: dict[str, Json]
    """By polarity: how predictions came out (`agent.predictions.settled`)."""
    verdicts: dict[str, Json]
    """By polarity: 'input' and 'output', and why."""
    cost: Annotated[dict[str, float], add_costs]
    """Summed over steps; see `agent.ledger.COSTS`."""


def hypothesis_key(polarity: str, number: int) -> str:
    """Name of a rival within its investigation: '+1' is the explainer's first for the positive tail."""
    return f"{polarity}{number + 1}"
