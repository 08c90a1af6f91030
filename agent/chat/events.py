"""What a turn of a conversation tells while it goes on: plain values, for a terminal and a web page alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from agent.chat.costs import Estimate

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    def to_json(self) -> Json:
        """Plain values, with the kind of event as 'event'."""
        return {"event": type(self).__name__.lower(), **asdict(self)}


@dataclass(frozen=True)
class Asking(Event):
    """The language model is asked."""

    model: str
    round: int
    """Counted from 1 within the turn."""


@dataclass(frozen=True)
class Loading(Event):
    """The model under study is loaded, which takes a while."""

    subject: str


@dataclass(frozen=True)
class Using(Event):
    """A tool begins."""

    tool: str
    arguments: Json


@dataclass(frozen=True)
class Used(Event):
    """A tool has ended, and its result is on record."""

    tool: str
    cite: str
    """How the result is cited: '[result:4]'."""
    summary: str
    error: str | None
    cost: Json


@dataclass(frozen=True)
class Confirm(Event):
    """The turn waits for a decision (`Session.decide`): the tool would cost more than is done unasked."""

    tool: str
    arguments: Json
    estimate: Estimate


@dataclass(frozen=True)
class Repairing(Event):
    """The answer says what no cited row does; the model is asked once to mend it."""

    problems: tuple[str, ...]


@dataclass(frozen=True)
class Answer(Event):
    """What is answered; the last event of a turn that comes to its end."""

    text: str
    cites: tuple[Json, ...] = ()
    """The rows that it cites: 'ref', 'table', 'id'."""
    numbers: int = 0
    """That were looked for in the rows; all that are left are backed."""
    removed: tuple[str, ...] = ()
    """What was left out since no row backs it."""
    chat: int = 0
    position: int = 0
    """Of the message, in the chat."""
    error: str | None = None
    """Why there is no answer of the language model's, where one was asked."""
    llm: Json = field(default_factory=dict)
    """Calls, tokens and dollars of the turn; empty where none was asked."""
    seconds: float = 0.0
