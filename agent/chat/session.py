"""A conversation with the explainer: kept message by message, gone on with later, checked before anything is said.

    with Session.begin(db, shelf, talker) as chat:
        for event in chat.turn("what does mlp:2:17 fire on?"):
            ...                                  # the last one is an `Answer`, or a `Confirm` that asks for a decision
        for event in chat.decide(True): ...      # after a `Confirm`

Without a language model a question is answered by search, and commands work as they do with one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from langgraph.types import Command as Resume

from agent.accounts import StoreAccounts
from agent.chat import events, slash
from agent.chat.asking import Asker
from agent.chat.checker import Problem, Verdict, check, cited, without
from agent.chat.costs import Thresholds
from agent.chat.graph import TurnState, build_graph
from agent.chat.numbers import UNIT
from agent.chat.telling import tell, tell_search
from agent.chat.tools import ToolShelf, Use
from explainers.llm.types import LlmError, Talker
from store import Database
from store.chats import add_message, start_chat
from store.queries.chats import MessageRow, chat_messages
from store.queries.citations import cited_rows
from tools.errors import NeuroglossError

Json = dict[str, Any]

_NO_MODEL = "No language model is configured, so that nobody reads the question."


#: Words of questions that say nothing of what is looked for.
_STOP = frozenset(
    {"a", "about", "an", "and", "any", "are", "at", "by", "can", "do", "does", "find", "fire", "fires", "firing", "for",
     "have", "head", "heads", "how", "i", "in", "is", "it", "latent", "latents", "me", "neuron", "neurons", "of", "on",
     "or", "show", "tell", "that", "the", "there", "these", "they", "this", "those", "to", "unit", "units", "what",
     "when", "where", "which", "who", "why", "with", "?", ".", ",", "!"}
)  # fmt: skip


class TurnOpenError(RuntimeError):
    """A turn waits for a decision, or none does: a mistake in the program that uses the session."""


@dataclass(frozen=True)
class ChatLimits:
    """How far a turn goes."""

    rounds: int = 8
    """Times that the language model may ask for tools; then it has to answer."""
    tools: int = 16
    """Uses of tools."""
    history: int = 60_000
    """Characters of the conversation that the language model is shown."""
    answer_tokens: int = 1200
    thresholds: Thresholds = field(default_factory=Thresholds)
    never_ask: bool = False
    """Whether tools are used unasked whatever they cost."""


class Session:
    """One conversation, for one person at a time.

    Args:
        db: Where it is kept.
        shelf: The tools.
        chat: Its id there; None: it begins with the first question.
        talker: The language model; None: there is none.
        limits: How far a turn goes.
        price: USD for a token of a prompt, where that is known.
    """

    def __init__(
        self, db: Database, shelf: ToolShelf, talker: Talker | None = None, *, chat: int | None = None,
        limits: ChatLimits | None = None, price: float | None = None, subject_id: int | None = None,
    ) -> None:  # fmt: skip
        self.db, self.shelf, self.chat = db, shelf, chat
        self.limits = limits or ChatLimits()
        self._price, self._subject_id = price, subject_id
        self._asker = None if talker is None else Asker(talker, StoreAccounts(db, None).of(None, asker="chat"))
        self._graph = build_graph()
        self._turns = 0
        self._told: list[events.Event] = []
        self._waiting: Json | None = None
        self._began = 0.0
        self._rows: list[MessageRow] = []
        """Messages that were read already: they never change."""
        if chat is not None:
            chat_messages(db, chat)  # says so when there is none

    @property
    def model(self) -> str | None:
        """Name of the language model; None where there is none."""
        return None if self._asker is None else self._asker.model

    @property
    def waiting(self) -> bool:
        """Whether a turn waits for `decide`."""
        return self._waiting is not None

    def messages(self) -> list[MessageRow]:
        """What was said and done so far."""
        if self.chat is not None:
            last = self._rows[-1].position if self._rows else 0
            self._rows += chat_messages(self.db, self.chat, after=last)
        return self._rows

    def turn(self, text: str) -> Iterator[events.Event]:
        """One turn: what a person says, until it is answered or a decision is asked for.

        Raises:
            SlashError: It is a command that cannot be understood; nothing is on record.
            TurnOpenError: The last turn waits for a decision.
        """
        if self.waiting:
            raise TurnOpenError("a turn waits for a decision: call decide()")
        command = slash.parse(text, self.shelf) if text.lstrip().startswith("/") else None
        if command is not None and command.tool is None:
            yield self._own(command)
            return
        self._began = time.perf_counter()
        if self.chat is None:
            self.chat = start_chat(self.db, text, subject_id=self._subject_id)
        add_message(self.db, self.chat, "user", text)
        state: TurnState = {"question": text, "by_hand": command is not None or self._asker is None, "results": []}
        if command is not None:
            state["pending"] = [{"tool": command.tool, "arguments": command.arguments}]
        elif self._asker is None:
            state["pending"] = [self._found_by(text)]
        else:
            self._asker.begin()
        self._turns += 1
        yield from self._run(state)

    def decide(self, yes: bool) -> Iterator[events.Event]:
        """Goes on with a turn that asked for a decision.

        Raises:
            TurnOpenError: No turn waits.
        """
        if not self.waiting:
            raise TurnOpenError("no turn waits for a decision")
        self._waiting = None
        yield from self._run(Resume(resume=yes))

    def stop(self) -> events.Answer:
        """Gives up the turn in hand, after an interrupt; what was done in it stays on record."""
        self._waiting, self._told = None, []
        self._turns += 1
        return self._say("Stopped.", Verdict((), 0, 0, ()), (), "stopped")

    def close(self) -> None:
        """Lets go of the subject."""
        self.shelf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, begin: Any) -> Iterator[events.Event]:
        config = {"configurable": {"thread_id": f"turn-{self._turns}"}, "recursion_limit": 200}
        for update in self._graph.stream(begin, config, context=self, stream_mode="updates"):
            told, self._told = self._told, []
            yield from told
            for stopped in update.get("__interrupt__", ()):
                self._waiting = stopped.value
                yield self._confirm(stopped.value)

    def _confirm(self, asked: Json) -> events.Confirm:
        return events.Confirm(
            asked["tool"], asked["arguments"], self.shelf.estimate(asked["tool"], asked["arguments"], self._price)
        )

    # The steps of a turn; see `agent.chat.graph`.

    def ask(self, state: TurnState) -> TurnState:
        """Asks the language model, which answers or asks for tools."""
        assert self._asker is not None
        rounds = state.get("rounds", 0) + 1
        enough = rounds > self.limits.rounds or len(state["results"]) >= self.limits.tools
        self._told.append(events.Asking(self._asker.model, rounds))
        try:
            reply = self._asker.reply(
                self.messages(), self.shelf.schemas(), about=self._about(), limits=(self.limits.history,
                self.limits.answer_tokens), enough=enough,
            )  # fmt: skip
        except LlmError as error:
            return {"rounds": rounds, "draft": "", "error": str(error), "pending": []}
        pending = [] if enough else [{"tool": call.name, "arguments": call.arguments} for call in reply.calls]
        left = self.limits.tools - len(state["results"])
        return {"rounds": rounds, "pending": pending[:left], "draft": reply.text}

    def weigh(self, state: TurnState) -> Json | None:
        """What to ask before the next tool is used; None where it is simply used."""
        asked = state["pending"][0]
        if self.limits.never_ask or asked["tool"] not in self.shelf.names:
            return None
        if self.shelf.needs_subject(asked["tool"]) and not self.shelf.loaded and self.shelf.subject is not None:
            self._told.append(events.Loading(self.shelf.subject))
        try:
            estimate = self.shelf.estimate(asked["tool"], asked["arguments"], self._price)
        except NeuroglossError:  # what keeps the model from being loaded is told when the tool is used
            return None
        return dict(asked) if self.limits.thresholds.exceeded(estimate) else None

    def use(self, state: TurnState) -> TurnState:
        """Uses the next tool, and puts the result on record."""
        asked, *rest = state["pending"]
        name, arguments = asked["tool"], asked["arguments"]
        self._told.append(events.Using(name, arguments if isinstance(arguments, dict) else _read(arguments)))
        if state.get("refused"):
            told = "The person did not want that to be run."
            given = arguments if isinstance(arguments, dict) else _read(arguments)
            record = {"tool": name, "arguments": given, "summary": told, "data": None, "error": told, "cost": {}}
            use = Use(name, given, told, None, told, {}, record)
        else:
            use = self.shelf.use(name, arguments)
        assert self.chat is not None
        position = add_message(self.db, self.chat, "tool", use.summary, use.payload())
        self._told.append(events.Used(name, f"[result:{position}]", use.summary, use.error, use.cost))
        return {"pending": rest, "results": [*state["results"], position], "refused": False}

    def tell(self, state: TurnState) -> TurnState:
        """The result of a command, or of a search, in words."""
        position = state["results"][-1]
        use = Use.of(next(row.payload for row in self.messages() if row.position == position))
        if state["question"].lstrip().startswith("/"):
            return {"draft": tell(use, f"[result:{position}]")}
        if use.tool == "search":
            return {"draft": tell_search(use, f"[result:{position}]", state["question"], _NO_MODEL)}
        return {"draft": f"{_NO_MODEL} This is what is known of the unit that it names.\n\n"
                f"{tell(use, f'[result:{position}]')}"}  # fmt: skip

    def check(self, state: TurnState) -> TurnState:
        """Looks for what no cited row backs."""
        verdict = self._checked(state.get("draft") or "", state["question"])
        return {"problems": [asdict(problem) for problem in verdict.problems]}

    def mend(self, state: TurnState) -> TurnState:
        """Asks the language model once to mend its answer."""
        assert self._asker is not None
        problems = [Problem(**one) for one in state["problems"]]
        self._told.append(events.Repairing(tuple(map(str, problems))))
        try:
            text = self._asker.mended(
                self.messages(), self.shelf.schemas(), state["draft"], problems, about=self._about(),
                limits=(self.limits.history, self.limits.answer_tokens),
            )  # fmt: skip
        except LlmError as error:
            return {"mended": True, "error": str(error)}
        return {"mended": True, "draft": text or state["draft"]}

    def finish(self, state: TurnState) -> TurnState:
        """Takes out what is still not backed, and answers."""
        draft = state.get("draft") or ""
        removed: tuple[str, ...] = ()
        problems = [Problem(**one) for one in state.get("problems", [])]
        if problems:
            draft, removed = without(draft, problems), tuple(problem.text for problem in problems)
        error = state.get("error")
        if error is not None and not draft:
            draft = f"The language model did not answer. {error}\nSlash commands work without it: /help lists them."
            self._told.append(self._say(draft, Verdict((), 0, 0, ()), removed, error))
            return {}
        text = draft or "The language model gave no answer. Ask again, or use a slash command: /help lists them."
        self._told.append(self._say(text, self._checked(text, state["question"]), removed, error))
        return {}

    def _checked(self, text: str, question: str) -> Verdict:
        rows = cited_rows(self.db, cited(text), chat=self.chat)
        return check(text, rows, known_units=self._named(question))

    def _named(self, question: str) -> set[str]:
        """Units that the person has named."""
        said = [row.content for row in self.messages() if row.role == "user"]
        return {match[0].rstrip("+-") for text in (*said, question) for match in UNIT.finditer(text)}

    def _say(self, text: str, verdict: Verdict, removed: tuple[str, ...], error: str | None) -> events.Answer:
        rows = cited_rows(self.db, verdict.cites, chat=self.chat)
        cites = tuple({"ref": str(ref), "table": rows[ref].table, "id": rows[ref].key} for ref in verdict.cites)
        llm = {} if self._asker is None else self._asker.spent()
        seconds = time.perf_counter() - self._began
        payload = {
            "cites": list(cites), "numbers": verdict.numbers, "removed": list(removed), "error": error, "llm": llm,
            "calls": [] if self._asker is None else self._asker.hashes(), "seconds": seconds,
        }  # fmt: skip
        position = 0
        if self.chat is not None:
            position = add_message(self.db, self.chat, "assistant", text, payload)
        return events.Answer(text, cites, verdict.numbers, removed, self.chat or 0, position, error, llm, seconds)

    def _own(self, command: slash.Command) -> events.Answer:
        """The answer to a command that is no tool; it is no part of the conversation."""
        if command.name == "help":
            return events.Answer(slash.help_text(self.shelf, command.rest))
        if command.name == "cost":
            return events.Answer(self._cost())
        if command.name == "history":
            return events.Answer(self._history())
        return events.Answer("")

    def _cost(self) -> str:
        rows = self.messages()
        tools = [row.payload.get("cost") or {} for row in rows if row.role == "tool"]
        llm = [row.payload.get("llm") or {} for row in rows if row.role == "assistant"]
        dollars = [one["dollars"] for one in llm if one.get("dollars") is not None]
        lines = [
            f"{len(tools)} uses of tools, {sum(int(one.get('forward_passes', 0)) for one in tools)} forward passes, "
            f"{sum(float(one.get('seconds', 0.0)) for one in tools):.1f} s",
            f"{sum(one.get('calls', 0) for one in llm)} calls to language models "
            f"({sum(one.get('known', 0) for one in llm)} more were known already), "
            f"{sum(one.get('tokens', 0) for one in llm)} tokens, "
            + (f"{sum(dollars):.4f} dollars" if dollars else "no price known"),
        ]
        return "\n".join(lines)

    def _history(self) -> str:
        names = {"user": "you", "assistant": "explainer", "tool": "tool"}
        lines = []
        for row in self.messages():
            text = " ".join(row.content.split())
            text = text if len(text) <= 64 else text[:63] + "…"
            lines.append(f"{row.position:>4} {names[row.role]:<9} {text}")
        return "\n".join(lines) or "Nothing was said yet."

    def _found_by(self, question: str) -> Json:
        """What answers a question best without a language model: the page of the unit that it names, else a search."""
        unit = next((m[0] for m in UNIT.finditer(question) if "*" not in m[0] and "-" not in m[0].rstrip("+-")), None)
        if unit is not None:
            return {"tool": "unit", "arguments": {"unit": unit}}
        words = [word for word in re.findall(r"\w+|[^\w\s]+", question) if word.lower() not in _STOP]
        return {"tool": "search", "arguments": {"text": (" ".join(words) or question.strip())[:400] or "?"}}

    def _about(self) -> str:
        library = self.shelf.library
        of = f" of the subject '{library.subject}'" if library.subject else ""
        within = f", as the campaign '{library.campaign}' found it" if library.campaign else ""
        model = f" The model at hand is '{self.shelf.subject}'." if self.shelf.subject else " No model is at hand."
        return f"The database has what is known of units{of}{within}.{model}"


def _read(arguments: str) -> Json:
    """What a language model asked for, as far as it can be read, for a line that says so."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return {"text": arguments[:200]}
    return found if isinstance(found, dict) else {"text": arguments[:200]}
