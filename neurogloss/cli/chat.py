"""``neurogloss chat``: a conversation with the explainer, or a single question."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from neurogloss.cli.model import ModelCall, model_verb
from neurogloss.cli.options import llm_settings
from neurogloss.errors import UsageError, failure_of
from neurogloss.render.chat import after_line, answer_text, chats_table, confirm_lines, used_line
from neurogloss.render.console import print_to, to_plain
from neurogloss.render.text import clean

if TYPE_CHECKING:
    from agent.chat import ChatLimits, Session, ToolShelf
    from agent.chat.events import Answer, Confirm, Event
    from agent.llm_settings import LlmSettings
    from agent.toolbox import Workbench
    from explainers.llm.types import Talker
    from store import Database

_LLM, _KEPT = "Language model", "Kept conversations"
_LEAVE = ("/quit", "/exit", "/q")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "chat")(chat)


def chat(
    call: ModelCall,
    *,
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="One question or command; left out: a conversation.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this campaign found.")] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            rich_help_panel=_LLM,
            help="openai:MODEL@URL, vllm:MODEL@URL, or vllm:MODEL to start one. (NEUROGLOSS_LLM)",
        ),
    ] = None,
    llm_price: Annotated[
        str | None,
        typer.Option(metavar="IN,OUT", rich_help_panel=_LLM, help="Dollars for a million tokens of prompts, answers."),
    ] = None,
    budget_llm_calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_LLM, help="Calls at most.")
    ] = None,
    budget_llm_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_LLM, help="Tokens at most.")
    ] = None,
    budget_llm_dollars: Annotated[
        float | None, typer.Option(min=0, metavar="USD", rich_help_panel=_LLM, help="Money; needs --llm-price.")
    ] = None,
    resume: Annotated[
        int | None, typer.Option(metavar="ID", rich_help_panel=_KEPT, help="Go on with a conversation.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", rich_help_panel=_KEPT, help="List the conversations that are kept.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do what is expensive without asking.")] = False,
) -> None:
    """Talk with the explainer about units, and try things on the model.

    With a language model (--llm) questions are asked in plain words; it looks into the database, runs experiments on
    the model, and cites the rows that its answer rests on. Every number is looked for in those rows before it is
    shown; a statement that they do not back is left out. Without one, slash commands do the same by hand, and a
    question is answered by search.

    What takes long or costs money is asked about first. Everything is kept: --list, --resume ID.

    [bold]Examples[/bold]

      neurogloss chat
      neurogloss chat "/unit mlp:0:196"
      neurogloss chat '/activate mlp:0:196 "def f(x): return x"' --json
      neurogloss chat "does mlp:0:196 fire on French?" --llm openai:qwen@http://host:8000
      neurogloss chat --resume 3
    """
    if listing:
        _list(call)
        return
    if question is not None and not question.strip():
        raise UsageError("The question is empty. Give one, or none to begin a conversation.")
    settings = llm_settings(llm or call.settings.llm, llm_price)
    with ExitStack() as stack:
        database = stack.enter_context(call.database())
        call.load_libraries()
        from agent.chat import Session

        talker = _talker(call, settings, stack, (budget_llm_calls, budget_llm_tokens, budget_llm_dollars))
        price = None if settings is None or settings.price is None else settings.price.prompt / 1e6
        session = stack.enter_context(
            Session(database, _shelf(call, database, campaign), talker, chat=resume, limits=_limits(call, yes=yes),
                    price=price)
        )  # fmt: skip
        talk = _Talk(call, session)
        if question is not None:
            talk.once(question)
        elif sys.stdin.isatty():
            talk.interactive(call.settings.home.expanduser() / "chat_history")
        else:
            for line in sys.stdin:
                if line.strip() in _LEAVE:
                    break
                if line.strip():
                    talk.guarded(line.strip())


def _list(call: ModelCall) -> None:
    from store.queries.chats import list_chats

    with call.database() as database:
        rows = list_chats(database)
    hint = Text(f"Go on with one: {call.command} chat --resume ID", "dim")
    call.emit(rows, *([chats_table(rows), Text(), hint] if rows else [Text("No conversation is kept yet.")]))


def _talker(
    call: ModelCall, settings: LlmSettings | None, stack: ExitStack, limits: tuple[int | None, int | None, float | None]
) -> Talker | None:
    if settings is None:
        return None
    from agent.chat.model import open_talker
    from explainers.llm.budget import Limits

    if ":" in settings.endpoints[0] and "@" not in settings.endpoints[0]:
        call.err.print(f"Starting {clean(settings.model)} …", style="dim")
    logs = call.settings.home.expanduser() / "logs"
    return stack.enter_context(open_talker(settings, limits=Limits(*limits), logs=logs))


def _limits(call: ModelCall, *, yes: bool) -> ChatLimits:
    from agent.chat import ChatLimits, Thresholds

    own = call.settings
    return ChatLimits(
        thresholds=Thresholds(own.confirm_passes, own.confirm_seconds, own.confirm_dollars), never_ask=yes
    )


def _shelf(call: ModelCall, database: Database, campaign: str | None) -> ToolShelf:
    """The tools: the database as it was chosen, and the model that would be loaded for the others."""
    import store
    from agent.chat import Library, ToolShelf
    from store.queries import campaign_index, list_campaigns

    rows = list_campaigns(database)
    about = store.get_campaign(database, campaign) if campaign is not None else None
    newest = about or (store.get_campaign(database, rows[0].campaign) if rows else None)
    if call.choice.subject is None and newest is not None:
        spec = newest.spec
        call.choice = replace(
            call.choice, subject=spec["subject"],
            dictionaries={**spec.get("dictionaries", {}), **call.choice.dictionaries},
        )  # fmt: skip
    name = call.choice.subject or "pycode"
    named = {row.subject for row in rows}
    subject = name if len(named) > 1 and name in named else None
    index = None if newest is None else campaign_index(database, newest.id)

    def open_workbench(stack: ExitStack) -> Workbench:
        from agent.neighbours import Earlier
        from agent.toolbox import Workbench
        from store.queries.earlier import finished_shelf
        from tools.errors import NeuroglossError
        from tools.index import open_index

        loaded = call.load()
        kept = None
        if index is not None:
            with suppress(NeuroglossError):  # gone, or moved: the tool that needs it says so
                kept = open_index(Path(index))
        earlier = Earlier.read(database, finished_shelf(database, loaded.fingerprint))
        home = call.settings.home.expanduser()
        return stack.enter_context(Workbench.open(loaded, home=home, index=kept, earlier=earlier))

    return ToolShelf(Library(database, subject, campaign), open_workbench, name)


class _Talk:
    """Puts turns to a session and shows what comes of them."""

    def __init__(self, call: ModelCall, session: Session) -> None:
        self._call = call
        self._session = session

    def once(self, question: str) -> None:
        """One question; what goes wrong ends the command."""
        answer = self._turn(question)
        if answer is not None and answer.error is not None:
            raise UsageError(answer.error)

    def guarded(self, question: str) -> None:
        """One turn of several; what goes wrong is told, and the next one follows."""
        try:
            self._turn(question)
        except Exception as error:
            failure = failure_of(error)
            if self._call.json:
                self._print_json({"question": question, "error": failure.message})
            self._call.err.print(Text("\n".join(clean(line) for line in failure.message.splitlines()), "red"))

    def interactive(self, history: Path) -> None:
        """Until Ctrl-D, or /quit."""
        self._greet()
        with _line_editing(history):
            while True:
                try:
                    line = input("\nyou> ").strip()
                except EOFError:
                    self._call.out.print()
                    break
                except KeyboardInterrupt:
                    self._call.out.print(Text("Ctrl-D or /quit leaves.", "dim"))
                    continue
                if line in _LEAVE:
                    break
                if line:
                    self._interruptible(line)
        if self._session.chat is not None:
            told = f"Kept. Go on with it: {self._call.command} chat --resume {self._session.chat}"
            self._call.out.print(Text(told, "dim"))

    def _interruptible(self, line: str) -> None:
        try:
            self.guarded(line)
        except KeyboardInterrupt:
            answer = self._session.stop()
            self._call.out.print(Text(answer.text, "yellow"))

    def _greet(self) -> None:
        session = self._session
        model = clean(session.model) if session.model else "none (--llm names one): use slash commands"
        lines = [f"language model: {model}", f"model under study: {clean(session.shelf.subject or 'none')}"]
        if session.chat is not None:
            lines.append(f"conversation {session.chat}, {len(session.messages())} messages so far (/history)")
        lines.append("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves")
        self._call.out.print(Text("\n".join(lines), "dim"))

    def _turn(self, question: str) -> Answer | None:
        from agent.chat.events import Answer, Confirm

        seen: list[Event] = []
        answer: Answer | None = None
        events = self._session.turn(question)
        while True:
            asked: Confirm | None = None
            for event in self._watched(events):
                seen.append(event)
                if isinstance(event, Answer):
                    answer = event
                elif isinstance(event, Confirm):
                    asked = event
            if asked is None:
                break
            events = self._session.decide(self._agrees(asked))
        if answer is not None:
            self._show(question, answer, seen)
        return answer

    def _watched(self, events: Iterator[Event]) -> Iterator[Event]:
        """Events as they come, with a sign of life meanwhile on a terminal."""
        from agent.chat import events as kinds

        err = self._call.err
        status = err.status("…") if err.is_terminal and not self._call.json else None
        with status if status is not None else nullcontext():
            for event in events:
                if isinstance(event, kinds.Used):
                    err.print(used_line(event.tool, event.cite, event.summary, err.width))
                elif isinstance(event, kinds.Repairing):
                    told = f"  not backed, asked again: {'; '.join(event.problems)}"
                    err.print(Text(clean(told)[: max(20, err.width - 1)], "dim"))
                elif status is not None and isinstance(event, kinds.Asking):
                    status.update(f"asking {clean(event.model)} …")
                elif status is not None and isinstance(event, kinds.Loading):
                    status.update(f"loading {clean(event.subject)} …")
                yield event

    def _agrees(self, asked: Confirm) -> bool:
        """Asks the person; nobody is there to be asked where standard input is no terminal."""
        err = self._call.err
        err.print(
            confirm_lines(asked.tool, asked.arguments if isinstance(asked.arguments, dict) else {}, asked.estimate)
        )
        if not sys.stdin.isatty():
            err.print(Text("Not done: nobody can be asked here. --yes does it unasked.", "yellow"))
            return False
        return input("Do it? [y/N] ").strip().lower() in ("y", "yes")

    def _show(self, question: str, answer: Answer, seen: list[Event]) -> None:
        if self._call.json:
            self._print_json(self._as_json(question, answer, seen))
            return
        out = self._call.out
        if answer.text:
            print_to(out, answer_text(answer.text, out.width))
        after = after_line(answer)
        if after is not None:
            self._call.err.print(after)

    def _as_json(self, question: str, answer: Answer, seen: list[Event]) -> dict[str, Any]:
        from agent.chat import events as kinds

        used = {event.cite for event in seen if isinstance(event, kinds.Used)}
        tools = [
            {"cite": f"[result:{row.position}]", **{name: row.payload.get(name) for name in (
                "tool", "arguments", "summary", "data", "error", "cost")}}
            for row in self._session.messages()
            if row.role == "tool" and f"[result:{row.position}]" in used
        ]  # fmt: skip
        told = {name: value for name, value in to_plain(answer).items() if name != "text"}
        return {"question": question, "answer": answer.text, **told, "tools": tools}

    def _print_json(self, value: dict[str, Any]) -> None:
        """One object on a line of its own, at once: whoever reads the other end waits for it."""
        sys.stdout.write(json.dumps(to_plain(value), allow_nan=False) + "\n")
        sys.stdout.flush()


class _line_editing:  # noqa: N801 (used like a function)
    """Arrow keys and earlier lines at the prompt, where the platform has them; lines are kept in a file."""

    def __init__(self, history: Path) -> None:
        self._history = history

    def __enter__(self) -> None:
        with suppress(ImportError, OSError):
            import readline

            readline.read_history_file(self._history)

    def __exit__(self, *_: object) -> None:
        with suppress(ImportError, OSError):
            import readline

            self._history.parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(1000)
            readline.write_history_file(self._history)
