"""The language model of a conversation: asked with tools where the endpoint knows them, else for one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.accounts import StoreAccount
from agent.chat.checker import Problem
from agent.chat.prompt import ENOUGH, REPAIR, Step, history, system, without_tools
from explainers.llm.accounts import charged_to
from explainers.llm.types import Call, Message, RejectedError, Reply, Request, Talker, ToolCall
from store.queries.chats import MessageRow

Json = dict[str, Any]


@dataclass
class _Noting:
    """The account of a turn: keeps its calls in the database, and what they were for the message."""

    account: StoreAccount
    calls: list[Call] = field(default_factory=list)

    @property
    def salt(self) -> int:
        return self.account.salt

    def known(self, request_hash: str) -> Call | None:
        """The answer to the same request, from any conversation."""
        return self.account.known(request_hash)

    def record(self, call: Call) -> None:
        """Keeps a call for good."""
        self.account.record(call)
        self.calls.append(call)


class Asker:
    """Asks a language model on behalf of a conversation.

    Args:
        talker: The language model.
        account: Where its calls are kept.
    """

    def __init__(self, talker: Talker, account: StoreAccount) -> None:
        self._talker = talker
        self._noting = _Noting(account)
        self._native: bool | None = None
        """Whether the endpoint takes tools; None: not tried yet."""

    @property
    def model(self) -> str:
        """Its name."""
        return self._talker.model

    def begin(self) -> None:
        """A turn begins."""
        self._noting.calls.clear()

    def spent(self) -> Json:
        """What the turn's calls used so far; empty where none was made."""
        calls = self._noting.calls
        if not calls:
            return {}
        costs = [call.cost_usd for call in calls if not call.cached and call.cost_usd is not None]
        return {
            "model": self.model, "calls": sum(not call.cached for call in calls),
            "known": sum(call.cached for call in calls),
            "tokens": sum(call.usage.prompt_tokens + call.usage.completion_tokens for call in calls),
            "dollars": sum(costs) if costs else None,
        }  # fmt: skip

    def hashes(self) -> list[str]:
        """The turn's calls, as the ledger knows them."""
        return [call.request_hash for call in self._noting.calls]

    def reply(
        self, rows: Sequence[MessageRow], tools: Sequence[Json], *, about: str, limits: tuple[int, int], enough: bool
    ) -> Reply:
        """What the language model says next.

        Args:
            rows: The conversation.
            tools: That it may ask for.
            about: What they reach, in a sentence.
            limits: Characters of history, tokens of an answer.
            enough: Whether it has to answer now.

        Raises:
            LlmError: It says nothing.
        """
        more = (Message("user", ENOUGH),) if enough else ()
        return self._said((*history(rows, limits[0]), *more), tools, about, limits[1], final=enough)

    def mended(
        self, rows: Sequence[MessageRow], tools: Sequence[Json], draft: str, problems: Sequence[Problem], *,
        about: str, limits: tuple[int, int],
    ) -> str:  # fmt: skip
        """An answer anew, where something in it was not backed; empty where it is none.

        Raises:
            LlmError: It says nothing.
        """
        listed = "\n".join(dict.fromkeys(f"- {problem}" for problem in problems))
        messages = (
            *history(rows, limits[0]), Message("assistant", draft), Message("user", REPAIR.format(problems=listed))
        )  # fmt: skip
        return self._said(messages, tools, about, limits[1], final=True).text

    def _said(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], about: str, most: int, *, final: bool
    ) -> Reply:
        with charged_to(self._noting):
            if self._native is not False:
                whole = (system(tools, native=True, about=about), *messages)
                try:
                    reply = self._talker.talk(Request("chat", whole, max_tokens=most), () if final else tools)
                except RejectedError:
                    if self._native:
                        raise
                    self._native = False  # it may know no tools: from now on it is asked for steps
                else:
                    self._native = self._native or not final
                    return reply
            whole = without_tools((system(tools, native=False, about=about), *messages))
            step = self._talker.ask(Request("chat", whole, max_tokens=most), Step)
        if step.tool and not final:
            return Reply("", (ToolCall("call", step.tool, step.arguments),))
        return Reply(step.answer)
