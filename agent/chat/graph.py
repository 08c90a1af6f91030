"""One turn of a conversation, as a LangGraph graph.

    (question) -> ask -> weigh -> use -> (more tools: weigh) -> ask ... -> check -> (once: mend -> check) -> end
    (command)  -> weigh -> use -> tell -> check -> end

`weigh` stops the graph where a tool would cost more than is done unasked; it goes on with the person's decision. The
state holds plain values; the conversation itself is in the database, one row a message, and is read from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

Json = dict[str, Any]


class TurnState(TypedDict, total=False):
    """What the steps of a turn hand on; JSON values only."""

    question: str
    by_hand: bool
    """Whether the tools were asked for by a command, and are told of without a language model."""
    pending: list[Json]
    """Tools that are asked for: 'tool' and 'arguments'."""
    refused: bool
    """Whether the person has refused the first of them."""
    results: list[int]
    """Positions of the messages that hold the results of this turn."""
    rounds: int
    draft: str
    error: str | None
    """Why the language model has no answer."""
    problems: list[Json]
    mended: bool


class Steps(Protocol):
    """What does the work of a turn; see `agent.chat.session`."""

    def ask(self, state: TurnState) -> TurnState: ...

    def weigh(self, state: TurnState) -> Json | None: ...

    def use(self, state: TurnState) -> TurnState: ...

    def tell(self, state: TurnState) -> TurnState: ...

    def check(self, state: TurnState) -> TurnState: ...

    def mend(self, state: TurnState) -> TurnState: ...

    def finish(self, state: TurnState) -> TurnState: ...


def _step(name: str) -> Callable[[TurnState, Runtime[Steps]], TurnState]:
    def node(state: TurnState, runtime: Runtime[Steps]) -> TurnState:
        done: TurnState = getattr(runtime.context, name)(state)
        return done

    node.__name__ = name
    return node


def _weigh(state: TurnState, runtime: Runtime[Steps]) -> TurnState:
    asked = runtime.context.weigh(state)
    return {"refused": False if asked is None else not interrupt(asked)}


def _begin(state: TurnState) -> str:
    return "weigh" if state.get("pending") else "ask"


def _after_ask(state: TurnState) -> str:
    return "weigh" if state.get("pending") else "check"


def _after_use(state: TurnState) -> str:
    if state.get("pending"):
        return "weigh"
    return "tell" if state.get("by_hand") else "ask"


def _after_check(state: TurnState) -> str:
    may = state.get("problems") and not state.get("mended") and not state.get("by_hand")
    return "mend" if may else "finish"


def build_graph() -> Any:
    """The compiled graph; checkpoints are in memory, for a turn that waits for a decision."""
    graph = StateGraph(TurnState, context_schema=Steps)
    for name in ("ask", "use", "tell", "check", "mend", "finish"):
        graph.add_node(name, _step(name))
    graph.add_node("weigh", _weigh)
    graph.add_conditional_edges(START, _begin, ["weigh", "ask"])
    graph.add_conditional_edges("ask", _after_ask, ["weigh", "check"])
    graph.add_edge("weigh", "use")
    graph.add_conditional_edges("use", _after_use, ["weigh", "tell", "ask"])
    graph.add_edge("tell", "check")
    graph.add_conditional_edges("check", _after_check, ["mend", "finish"])
    graph.add_edge("mend", "check")
    graph.add_edge("finish", END)
    return graph.compile(checkpointer=InMemorySaver())
