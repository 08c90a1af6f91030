"""What verbs that run a model share: which model it is, the texts that it reads, where a picture of the result goes.

A verb that is registered with `model_verb` gets a `ModelCall`, and the options ``--subject --dictionary --device
--dtype`` without naming them.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurogloss.cli.options import Call, Shared, pairs, verb
from neurogloss.errors import UsageError

if TYPE_CHECKING:
    from agent.toolbox.fields import Pair
    from tools.subject import Subject

_PANEL = "Model"
#: Where the list of commands has these verbs.
_VERBS = "Run the model"
#: Endings of pictures.
PICTURES = (".png", ".svg")

Subject_ = Annotated[
    str | None,
    typer.Option("--subject", metavar="MODEL", rich_help_panel=_PANEL,
                 help="Built-in name, folder or hub id. (that of the database, else pycode)"),
]  # fmt: skip
Dictionary = Annotated[
    list[str] | None,
    typer.Option("--dictionary", metavar="NAME=FOLDER", rich_help_panel=_PANEL,
                 help="Sparse dictionary to attach; may be repeated."),
]  # fmt: skip
Device = Annotated[str, typer.Option("--device", rich_help_panel=_PANEL, help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", rich_help_panel=_PANEL, help="auto, float32, bfloat16, float16.")]

Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="A text to run; may be repeated. '-' reads standard input."),
]
TextsFile = Annotated[
    Path | None,
    typer.Option("--texts", metavar="FILE", help="More texts: a .jsonl file with a field 'text', or one plain text."),
]
Clean = Annotated[str | None, typer.Option("--clean", metavar="TEXT", help="The prompt that shows the behaviour.")]
Corrupt = Annotated[
    str | None,
    typer.Option("--corrupt", metavar="TEXT", help="Its twin that does not, with as many tokens."),
]
Answer = Annotated[
    str | None,
    typer.Option("--answer", metavar="TOKEN", help="What follows the clean prompt, with its leading space if any."),
]
Wrong = Annotated[
    str | None,
    typer.Option("--wrong", metavar="TOKEN", help="What follows the corrupted one; the answer is compared with it."),
]
TaskFile = Annotated[
    Path | None,
    typer.Option("--task", metavar="FILE", help="Many pairs: .jsonl with the fields clean, corrupt, answer, wrong."),
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Also draw it, into a .png or .svg file.")]


@dataclass(frozen=True)
class Choice:
    """The model as it was chosen."""

    subject: str | None
    dictionaries: Mapping[str, str]
    device: str
    dtype: str


class ModelCall(Call):
    """One call of a verb that runs a model."""

    def __init__(self, shared: Shared, choice: Choice) -> None:
        super().__init__(shared)
        self.choice = choice

    def load(self, unit: str | None = None) -> Subject:
        """Loads the model: as chosen, else as the campaign that last studied the unit, else as the newest campaign.

        Args:
            unit: A unit or a pattern of units that the verb is about.

        Raises:
            SubjectError, DictionaryError: It cannot be loaded, or does not fit.
        """
        name, dictionaries = self._which(unit)
        self.load_libraries()
        from neurogloss.probe import load

        return load(name, dictionaries=dictionaries, device=self.choice.device, dtype=self.choice.dtype)

    def _which(self, unit: str | None) -> tuple[str, dict[str, str]]:
        given = self.choice.dictionaries
        if self.choice.subject is not None:
            return self.choice.subject, dict(given)
        from neurogloss.settings import sqlite_file

        file = sqlite_file(self.settings.database)
        if file is not None and not file.is_file():
            return "pycode", dict(given)
        import store
        from store.queries import list_campaigns, unit_page

        with self.database() as database:
            specs: list[Mapping[str, Any]] = []
            with contextlib.suppress(store.StoreError):  # a unit that nobody has studied yet: as the newest campaign
                specs = [job.spec for job in unit_page(database, unit).investigations] if unit else []
            if not specs:
                specs = [store.get_campaign(database, row.campaign).spec for row in list_campaigns(database)[:1]]
        if not specs:
            return "pycode", dict(given)
        return specs[0]["subject"], {**specs[0].get("dictionaries", {}), **given}


def model_verb(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], None]:
    """Registers ``function(call: ModelCall, ...)`` as `verb` does, with the options that choose a model added."""

    def register(function: Callable[..., None]) -> None:
        def run(call: Call, **given: Any) -> None:
            choice = Choice(
                given.pop("subject"), pairs(given.pop("dictionary"), "--dictionary"), given.pop("device"),
                given.pop("dtype"),
            )  # fmt: skip
            function(ModelCall(call.shared, choice), **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())
        choosing = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for n, annotation, default in (
                ("subject", Subject_, None), ("dictionary", Dictionary, None), ("device", Device, "auto"),
                ("dtype", Dtype, "auto"),
            )
        ]  # fmt: skip
        run.__signature__ = inspect.Signature([*own, *choosing])  # type: ignore[attr-defined]
        run.__doc__ = function.__doc__
        verb(app, name, panel=_VERBS)(run)

    return register


def texts_of(given: Sequence[str] | None, file: Path | None = None) -> list[str]:
    """Texts as they were given: with ``--text`` ('-' reads standard input) and in a file.

    Raises:
        UsageError: One of them is empty, or the file holds none.
    """
    found = [sys.stdin.read() if text == "-" else text for text in given or []]
    if file is not None:
        found += _texts_in(file)
    if any(not text.strip() for text in found):
        raise UsageError("A text is empty. Give each something to run, or pipe it in with '-'.")
    return found


def _texts_in(file: Path) -> list[str]:
    if file.suffix not in (".jsonl", ".json"):
        return [_read(file)]
    texts = []
    for number, row in rows_of(file):
        text = row.get("text")
        if not isinstance(text, str):
            raise UsageError(f"Line {number} of {file} has no field 'text' with text in it.")
        texts.append(text)
    return texts


def pairs_of(
    call: Call,
    file: Path | None,
    *,
    clean: str | None = None,
    corrupt: str | None = None,
    answer: str | None = None,
    wrong: str | None = None,
) -> list[Pair]:
    """Clean and corrupted prompts as they were given: one pair by options, or many in a JSONL file.

    Raises:
        UsageError: There is none, or both ways were used, or a line of the file is not a pair.
        ValidationError: A prompt is empty or too long.
    """
    call.load_libraries()
    from pydantic import ValidationError

    from agent.toolbox.fields import Pair
    from explainers.llm.wire import problems_of

    one = {"clean": clean, "corrupt": corrupt, "answer": answer, "wrong": wrong}
    given = {name: value for name, value in one.items() if value is not None}
    if file is None:
        if clean is None:
            raise UsageError("There is no prompt. Give --clean TEXT (and --corrupt TEXT), or many with --task FILE.")
        return [Pair.model_validate(given)]
    if given:
        raise UsageError(
            f"--task already has prompts and answers; leave out {', '.join(f'--{name}' for name in given)}."
        )
    found = []
    for number, row in rows_of(file):
        try:
            found.append(Pair.model_validate(row))
        except ValidationError as error:
            raise UsageError(f"Line {number} of {file} is not a pair: {problems_of(error)}.") from error
    return found


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSONL file with their lines' numbers; there is at least one."""
    empty = True
    for number, line in enumerate(_read(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"Line {number} of {file} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise UsageError(f"Line {number} of {file} is not a JSON object.")
        empty = False
        yield number, row
    if empty:
        raise UsageError(f"{file} holds nothing to run.")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8.") from error


def only(what: str, **options: Any) -> None:
    """Refuses options that mean nothing here, rather than passing over them.

    Args:
        what: What they are for: 'a --text'.
        options: As they were given, by their names; None and False are not given.

    Raises:
        UsageError: One of them was given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False, [])]
    if given:
        raise UsageError(f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for {what}.")


def picture(file: Path | None) -> Path | None:
    """Where a picture goes, checked before anything is run for it.

    Raises:
        UsageError: It has another ending, or there is no such folder.
    """
    if file is None:
        return None
    if file.suffix.lower() not in PICTURES:
        raise UsageError(f"--plot wants a file that ends in {' or '.join(PICTURES)}, not '{file}'.")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {file.absolute().parent} to draw into.")
    return file
