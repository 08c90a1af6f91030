"""The tools of a conversation: questions to the database, and everything that can be done to the subject.

Whatever is used leaves a message on record, by which it is cited.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.chat.costs import Estimate, estimate
from agent.chat.lookups import Library, lookups
from agent.plain import plain
from agent.toolbox import Workbench, call, get, names
from agent.toolbox.base import MOST_SHOWN
from explainers.llm.show import defused
from tools.errors import NeuroglossError

Json = dict[str, Any]
#: Characters of a result that are charged for when its cost is estimated.
_READ = 6_000
#: Tokens a second before any was run.
_GUESS = 2_000.0


@dataclass(frozen=True)
class Use:
    """One use of a tool, as it is put on record."""

    tool: str
    arguments: Json
    summary: str
    data: Any
    error: str | None
    cost: Json
    record: Json
    """Everything that is kept of it: for a tool of the subject its provenance too."""

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Use:
        """The use that a message on record holds."""
        return cls(
            payload["tool"], payload["arguments"], payload["summary"], payload["data"], payload["error"],
            payload["cost"], dict(payload),
        )  # fmt: skip

    @property
    def unit(self) -> str | None:
        """The one unit that it is about, where it is about one."""
        named = self.arguments.get("unit")
        return named.rstrip("+-") if isinstance(named, str) else None

    def payload(self) -> Json:
        """What the message holds."""
        return {**self.record, "unit": self.unit}

    def message(self, cite: str) -> str:
        """What a language model is told of it, as one JSON object."""
        if self.error is not None:
            return defused(json.dumps({"cite": cite, "error": self.error}, ensure_ascii=False))
        told = json.dumps({"cite": cite, "summary": self.summary, "data": self.data}, ensure_ascii=False)
        if len(told) > MOST_SHOWN:
            note = f"The data are on record but too long to show ({len(told):,} characters). Ask for less to see them."
            told = json.dumps({"cite": cite, "summary": self.summary, "note": note}, ensure_ascii=False)
        return defused(told)


class ToolShelf:
    """All tools that a conversation may use.

    Args:
        library: The database.
        open_workbench: Loads the subject when a tool first needs it; None: there is no subject here.
        loading: Is told the subject's name before it is loaded.
    """

    def __init__(
        self, library: Library, open_workbench: Callable[[ExitStack], Workbench] | None, subject: str | None = None
    ) -> None:
        self.library = library
        self.subject = subject
        """Name of the model that would be loaded."""
        self._open = open_workbench
        self._stack = ExitStack()
        self._workbench: Workbench | None = None
        self._tokens, self._seconds = 0, 0.0
        self._more: dict[str, float] = {}
        """Tool -> how many times more tokens it took than was thought."""

    @property
    def names(self) -> list[str]:
        """Of all tools, those of the database first."""
        return [*lookups(), *(names() if self._open is not None else [])]

    @property
    def loaded(self) -> bool:
        """Whether the subject is there already."""
        return self._workbench is not None

    def needs_subject(self, name: str) -> bool:
        """Whether a tool runs the model."""
        return name not in lookups()

    def schemas(self) -> list[Json]:
        """All tools, as a chat request offers them."""
        asked = [lookup.schema() for lookup in lookups().values()]
        return asked + ([get(name).schema() for name in names()] if self._open is not None else [])

    def arguments_of(self, name: str) -> Any:
        """The pydantic model of a tool's arguments.

        Raises:
            ToolError: There is no such tool.
        """
        found = lookups().get(name)
        return found.arguments if found is not None else get(name).arguments

    def description_of(self, name: str) -> str:
        """What a tool is for.

        Raises:
            ToolError: There is no such tool.
        """
        found = lookups().get(name)
        return found.description if found is not None else get(name).description

    def estimate(self, name: str, arguments: Mapping[str, Any] | str, price: float | None = None) -> Estimate:
        """What one use is likely to cost; nothing for a question to the database, or for arguments that do not fit.

        Args:
            name: Of the tool.
            arguments: As they were asked for.
            price: USD for a token of a prompt of the language model that reads the result.
        """
        if name not in self.names or not self.needs_subject(name):
            return Estimate()
        model = self.arguments_of(name)
        try:
            checked = (
                model.model_validate_json(arguments or "{}")
                if isinstance(arguments, str)
                else model.model_validate(dict(arguments))
            )
        except ValueError:
            return Estimate()
        self.workbench()
        rate = self._tokens / self._seconds if self._seconds > 0.5 else _GUESS
        dollars = None if price is None else price * _READ / 3
        given = checked.model_dump(mode="json")
        thought = estimate(name, given, tokens_per_second=rate, dollars=dollars)
        more = self._more.get(name, 1.0)
        return replace(
            thought, forward_passes=round(thought.forward_passes * more), tokens=round(thought.tokens * more),
            seconds=thought.seconds * more,
        )  # fmt: skip

    def workbench(self) -> Workbench:
        """The subject; loaded when it is first asked for.

        Raises:
            NeuroglossError: It cannot be loaded.
        """
        if self._workbench is None:
            if self._open is None:
                raise NeuroglossError("No model is at hand here, only the database.")
            self._workbench = self._open(self._stack)
        return self._workbench

    def use(self, name: str, arguments: Mapping[str, Any] | str) -> Use:
        """Use a tool once. Whatever is wrong comes back as an error of the use; nothing is raised for it.

        Raises:
            EndpointError, SpentError: The conversation's own conditions.
        """
        asked = lookups().get(name)
        if asked is not None:
            looked = asked.run(self.library, arguments)
            cost: Json = {"forward_passes": 0, "tokens": 0, "seconds": looked.seconds}
            record = {
                "tool": name, "arguments": looked.arguments, "summary": looked.summary, "data": looked.data,
                "error": looked.error, "cost": cost,
            }  # fmt: skip
            return Use(name, looked.arguments, looked.summary, looked.data, looked.error, cost, record)
        began = time.perf_counter()
        try:
            bench = self.workbench()
        except NeuroglossError as error:
            return _failed(name, arguments, str(error), time.perf_counter() - began)
        result = call(bench, name, arguments)
        if result.cost.forward_passes:
            self._tokens += result.cost.tokens
            self._seconds += result.cost.seconds
            thought = estimate(name, result.arguments, tokens_per_second=_GUESS)
            self._more[name] = max(self._more.get(name, 1.0), result.cost.tokens / max(1, thought.tokens))
        record = plain(result.to_json())
        return Use(name, result.arguments, result.summary, result.data, result.error, asdict(result.cost), record)

    def close(self) -> None:
        """Lets go of the subject."""
        self._stack.close()
        self._workbench = None


def _failed(name: str, arguments: Mapping[str, Any] | str, error: str, seconds: float) -> Use:
    given: Json = {"text": arguments[:2000]} if isinstance(arguments, str) else dict(arguments)
    cost: Json = {"forward_passes": 0, "tokens": 0, "seconds": seconds}
    record = {"tool": name, "arguments": given, "summary": error, "data": None, "error": error, "cost": cost}
    return Use(name, given, error, None, error, cost, record)
