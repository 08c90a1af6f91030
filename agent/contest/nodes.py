"""The contest's nodes: plan, run, update, revise, round after round.

    plan -> run -> update -> revise -> plan ... -> choose

Each is a function of the state, the desk and the unit's seeds, as all steps are. Tails have contests of their own that
go on side by side; a tail whose contest is over is passed over. What is done to one is in `agent.contest.round`.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.contest import policy as policies
from agent.contest.round import Ring
from agent.contest.types import Contest
from agent.desk import Desk
from agent.ledger import Ledger
from agent.plain import plain
from agent.spec import CampaignSpec
from agent.state import Json, State
from agent.steps import explanations_of, tails_of
from agent.triage import Tail
from explainers.predictors import MakesPredictors


def check_contest(spec: CampaignSpec) -> None:
    """Tells of an unknown policy, or of options that it does not take, before anything is spent.

    Raises:
        PolicyError: There is no such policy, or it asks a language model and none is named.
    """
    if not spec.contest.rounds or spec.contest.policy == "auto":
        return
    policies.get(spec.contest.policy, **spec.contest.options)
    if spec.contest.policy == "llm" and spec.llm is None:
        raise policies.PolicyError(
            "The contest's policy 'llm' asks a language model. Name one: --llm vllm:MODEL, or --llm openai:MODEL@URL."
        )


def held(desk: Desk) -> bool:
    """Whether the unit's rivals have a contest at all."""
    return desk.bench.spec.contest.rounds > 0 and desk.unit.kind != "fn" and _name(desk) is not None


def is_over(state: State) -> bool:
    """Whether no tail has a trial to run."""
    return not any(True for _ in _running(state))


def plan_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """The trials of the next round: those that are expected to tell most for their cost, or why there is none."""
    changed: dict[str, Contest] = {}
    for tail, contest in _running(state):
        ring = _ring(desk, tail)
        begun = contest if contest.rivals else ring.begin(explanations_of(state, tail.polarity))
        changed[tail.polarity] = ring.plan(begun)
    return {"contest": _with(state, changed)}


def run_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Runs the planned trials by the typed tools."""
    return {"contest": _with(state, {tail.polarity: _ring(desk, tail).run(one) for tail, one in _running(state)})}


def update_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Weighs the rivals by what came, drops those that are refuted, and writes the rows of the notebook."""
    changed: dict[str, Contest] = {}
    rows = list(state["experiments"])
    for tail, contest in _running(state):
        changed[tail.polarity], added = _ring(desk, tail).update(contest)
        rows += added
    return {"contest": _with(state, changed), "experiments": rows}


def revise_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """What the policy makes of the answers: rivals refined, split, dropped, new ones; then those alike are merged."""
    changed: dict[str, Contest] = {}
    rivals = dict(state["rivals"])
    for tail, contest in _running(state):
        revised = _ring(desk, tail).revise(contest)
        changed[tail.polarity] = revised
        rivals[tail.polarity] = [plain(rival.explanation) for rival in revised.rivals]
    return {"contest": _with(state, changed), "rivals": rivals}


def _name(desk: Desk) -> str | None:
    """The policy's name; None where none fits."""
    wanted = desk.bench.spec.contest.policy
    if wanted != "auto":
        return wanted
    # The pattern policy tries rules. Descriptions that a language model must read are not its business.
    return None if isinstance(desk.bench.explainer, MakesPredictors) else "pattern"


def _ring(desk: Desk, tail: Tail) -> Ring:
    name = _name(desk)
    assert name is not None, "a contest that is held has a policy"
    return Ring(desk, tail, policies.get(name, **desk.bench.spec.contest.options), name)


def _running(state: State) -> Iterator[tuple[Tail, Contest]]:
    """Tails whose contest goes on, as it stands; before the first round one without rivals."""
    for tail in tails_of(state):
        found = state.get("contest", {}).get(tail.polarity)
        contest = Contest(()) if found is None else Contest.from_json(found)
        if contest.stopped is None:
            yield tail, contest


def _with(state: State, changed: dict[str, Contest]) -> dict[str, Json]:
    return {**state.get("contest", {}), **{polarity: contest.to_json() for polarity, contest in changed.items()}}
