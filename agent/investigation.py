"""The investigation of one unit, as a LangGraph graph.

    triage -> gather -> propose -> experiment -> [plan -> run -> update -> revise]* -> choose
       |                                            -> write -> preregister -> score -> settle -> verdict
       `-> (dead, dense or duplicate: nothing more to do)

What stands in brackets is the contest of the rivals, round after round until it is over (`agent.contest`); a campaign
without one goes from `experiment` to `choose`.

The state holds plain values and is checkpointed after every step; the heavy things come through `Desk`. A run that was
killed goes on at the step in which it was killed, and since each step depends on the state, the index and the unit's
seeds alone, it ends as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agent import steps
from agent.contest import nodes
from agent.desk import Desk
from agent.ledger import Ledger
from agent.state import State

Step = Callable[[State, Desk, Ledger], State]

#: One round of the contest.
ROUND: dict[str, Step] = {
    "plan": nodes.plan_step,
    "run": nodes.run_step,
    "update": nodes.update_step,
    "revise": nodes.revise_step,
}
#: Steps of one investigation at most; each round has four, and no contest so many rounds.
MOST_STEPS = 1000
#: The others, in the order in which they run.
STEPS: dict[str, Step] = {
    "triage": steps.triage_step,
    "gather": steps.gather_step,
    "propose": steps.propose_step,
    "experiment": steps.experiment_step,
    "choose": steps.choose_step,
    "write": steps.write_step,
    "preregister": steps.preregister_step,
    "score": steps.score_step,
    "settle": steps.settle_step,
    "verdict": steps.verdict_step,
}


def _node(name: str, step: Step) -> Callable[[State, Runtime[Desk]], State]:
    """A step as a node: stops here if it must, and counts what the step costs."""

    def node(state: State, runtime: Runtime[Desk]) -> State:
        desk = runtime.context
        ledger = desk.enter(name)

        def do() -> State:
            added = step(state, desk, ledger)
            return {**added, "cost": ledger.cost}

        return do() if desk.tape is None else desk.tape.through(name, state, do)

    node.__name__ = name
    return node


def _after_triage(state: State) -> str:
    return END if state["triage"]["reason"] is not None else "gather"


def _after_experiment(state: State, runtime: Runtime[Desk]) -> str:
    return "plan" if nodes.held(runtime.context) else "choose"


def _after_plan(state: State) -> str:
    return "choose" if nodes.is_over(state) else "run"


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None) -> Any:
    """The compiled graph."""
    graph = StateGraph(State, context_schema=Desk)
    for name, step in {**STEPS, **ROUND}.items():
        graph.add_node(name, _node(name, step))
    names = list(STEPS)
    graph.add_edge(START, names[0])
    graph.add_conditional_edges("triage", _after_triage, ["gather", END])
    graph.add_conditional_edges("experiment", _after_experiment, ["plan", "choose"])
    graph.add_conditional_edges("plan", _after_plan, ["run", "choose"])
    for earlier, later in zip(ROUND, [*list(ROUND)[1:], "plan"], strict=True):
        if earlier != "plan":
            graph.add_edge(earlier, later)
    for earlier, later in zip(names[1:], [*names[2:], END], strict=True):
        if earlier != "experiment":
            graph.add_edge(earlier, later)
    return graph.compile(checkpointer=checkpointer)


def investigate(graph: Any, desk: Desk, thread: str) -> State:
    """Runs an investigation to its end, from its last checkpoint if it has one.

    Args:
        graph: From `build_graph`, with a checkpointer.
        desk: This attempt's.
        thread: The checkpoint thread of the investigation.

    Raises:
        StoppedError: The campaign is to stop; the checkpoint stays.
    """
    config = {"configurable": {"thread_id": thread}, "recursion_limit": MOST_STEPS}
    saved = graph.get_state(config)
    if saved.values and not saved.next:
        final: State = saved.values
        return final
    # None goes on from the checkpoint; a checkpoint without values is one whose first step was cut off.
    begin: State | None = None if saved.next else {"cost": {}}
    final = graph.invoke(begin, config, context=desk, durability="sync")
    return final
