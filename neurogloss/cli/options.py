"""What every verb shares: the options --db, --home, --json, --no-color and --debug, errors, and where output goes.

A verb is a function whose first parameter is a `Call`. The `verb` decorator adds the shared options to it, so that
they can be given before or after the verb, and turns exceptions into messages and exit statuses.
"""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from neurogloss.errors import ExitCode, UsageError, failure_of
from neurogloss.render.console import make_console, print_json, print_message, print_to
from neurogloss.render.text import clean

if TYPE_CHECKING:
    from agent.llm_settings import LlmSettings
    from neurogloss.settings import Settings
    from store import Database

_PANEL = "Options of every command"

Db = Annotated[
    str | None,
    typer.Option("--db", metavar="FILE|URL", rich_help_panel=_PANEL,
                 help="Database: a SQLite file or an SQLAlchemy URL. (NEUROGLOSS_DB, else neurogloss.db in HOME)"),
]  # fmt: skip
Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="FOLDER", rich_help_panel=_PANEL,
                 help="Data folder: activation indexes and the default database. (NEUROGLOSS_HOME)"),
]  # fmt: skip
Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_PANEL, help="Print JSON on standard output, and nothing else there."),
]
NoColor = Annotated[bool, typer.Option("--no-color", rich_help_panel=_PANEL, help="No colours. (NO_COLOR)")]
Debug = Annotated[bool, typer.Option("--debug", rich_help_panel=_PANEL, help="Show the whole traceback of an error.")]


@dataclass(frozen=True)
class Shared:
    """The shared options as they were given, before or after the verb."""

    db: str | None = None
    home: Path | None = None
    json: bool = False
    no_color: bool = False
    debug: bool = False

    def over(self, earlier: Shared) -> Shared:
        """These options, and the earlier ones where these are not given."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return Shared(**{name: value or getattr(earlier, name) for name, value in mine.items()})


class Call:
    """One call of the command: its settings and where its output goes."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.json = shared.json
        self.out = make_console(sys.stdout, colour=not shared.no_color)
        self.err = make_console(sys.stderr, colour=not shared.no_color)

    @functools.cached_property
    def settings(self) -> Settings:
        from neurogloss.settings import resolve

        return resolve(db=self.shared.db, home=self.shared.home)

    @property
    def command(self) -> str:
        """How this command was called, up to the verb: what it suggests to type next reaches the same database."""
        script = Path(sys.argv[0])
        called = (
            script.as_posix() if script.name == "neurogloss" and shutil.which("neurogloss") is None else "neurogloss"
        )
        given = [("--home", self.shared.home), ("--db", self.shared.db)]
        return " ".join([called, *(f"{option} {shlex.quote(str(value))}" for option, value in given if value)])

    def database(self, *, create: bool = False) -> Database:
        """Opens the database. Verbs that only read say so when there is none, and leave none behind."""
        import store

        return store.open_database(self.settings.database, create=create)

    def load_libraries(self) -> None:
        """Loads what runs models, which takes seconds the first time; says so, lest it looks stuck."""
        if "torch" not in sys.modules:
            self.err.print("Loading the model libraries …", style="dim")
        import transformers

        # Our own progress is shown; theirs would be drawn over it.
        transformers.utils.logging.disable_progress_bar()

    def emit(self, value: Any, *renderables: RenderableType) -> None:
        """Prints a result: `value` as JSON where that was asked for, else the renderables."""
        if self.json:
            print_json(value)
        else:
            print_to(self.out, *renderables)


def verb(app: typer.Typer, name: str, *, panel: str | None = None) -> Callable[[Callable[..., None]], None]:
    """Registers ``function(call, ...)`` as a command of `app` with the shared options added."""

    def register(function: Callable[..., None]) -> None:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for n, annotation, default in (
                ("db", Db, None), ("home", Home, None), ("as_json", Json, False), ("no_color", NoColor, False),
                ("debug", Debug, False),
            )
        ]  # fmt: skip
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @functools.wraps(function)
        def command(**given: Any) -> None:
            ctx: typer.Context = given.pop("ctx")
            mine = Shared(
                db=given.pop("db"), home=given.pop("home"), json=given.pop("as_json"),
                no_color=given.pop("no_color"), debug=given.pop("debug"),
            )  # fmt: skip
            options = mine.over(ctx.obj if isinstance(ctx.obj, Shared) else Shared())
            guarded(options, lambda: function(Call(options), **given))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        command.__signature__ = inspect.Signature([*parameters, context, *shared])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*parameters, context, *shared)}
        del command.__wrapped__
        app.command(name, help=unwrapped(function.__doc__ or ""), rich_help_panel=panel)(command)

    return register


def unwrapped(text: str) -> str:
    """Help text with each paragraph on one line, for the terminal to wrap; indented lines (examples) stay lines."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(b if b.startswith(" ") else " ".join(b.split()) for b in blocks)


def guarded(options: Shared, run: Callable[[], None]) -> None:
    """Runs a verb; an exception ends the command with its message on standard error and its status."""
    try:
        run()
    except (typer.Exit, BrokenPipeError):
        raise
    except (Exception, KeyboardInterrupt) as error:
        if options.debug and not isinstance(error, KeyboardInterrupt):
            import traceback

            sys.stderr.write(traceback.format_exc())
        failure = failure_of(error)
        message = "\n".join(clean(line) for line in failure.message.splitlines())
        style = "yellow" if failure.code == ExitCode.INTERRUPTED else "red"
        print_message(make_console(sys.stderr, colour=not options.no_color), Text(message, style))
        raise typer.Exit(int(failure.code)) from error


def pairs(given: list[str] | None, option: str, what: str = "FOLDER") -> Mapping[str, str]:
    """``['res=folder']`` as ``{'res': 'folder'}``, for options that are given as NAME=VALUE."""
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise UsageError(f"{option} wants NAME={what}, but was given '{text}'.")
        found[name] = value
    return found


def values(given: list[str] | None, option: str) -> dict[str, Any]:
    """``['n=4']`` as ``{'n': 4}``: values as YAML reads them."""
    import yaml

    try:
        return {name: yaml.safe_load(value) for name, value in pairs(given, option, "VALUE").items()}
    except yaml.YAMLError as error:
        raise UsageError(f"{option} has a value that cannot be read: {' '.join(str(error).split())}.") from error


def llm_settings(endpoint: str | None, price: str | None) -> LlmSettings | None:
    """The language model of a command that can do without; None where none is named."""
    if endpoint is None:
        if price is not None:
            raise UsageError("--llm-price is the price of a language model; name one with --llm.")
        return None
    from agent.llm_settings import LlmSettings

    return LlmSettings.model_validate({"endpoints": endpoint, "price": prices(price)})


def prices(text: str | None) -> dict[str, float] | None:
    """``'0.5,1.5'`` as the price of prompts and answers; a third number is that of cached prompt tokens."""
    if text is None:
        return None
    names = ("prompt", "completion", "cached")
    parts = text.split(",")
    try:
        if not 2 <= len(parts) <= len(names):
            raise ValueError
        return {name: float(part) for name, part in zip(names, parts, strict=False)}
    except ValueError as error:
        raise UsageError(
            f"--llm-price wants dollars for a million tokens, PROMPT,ANSWER or PROMPT,ANSWER,CACHED, not '{text}'."
        ) from error
