"""Consoles: results go to standard output, progress and errors to standard error; JSON is one plain document."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.text import Text

#: Width where standard output is not a terminal and COLUMNS is not set.
_WIDTH = 80


def make_console(stream: IO[str] | None = None, *, colour: bool = True) -> Console:
    """A console on a stream that reads no markup, replaces no emoji names and colours no numbers by itself."""
    stream = stream if stream is not None else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH
    return Console(
        file=stream, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False,
        no_color=None if colour else True,
    )  # fmt: skip


def has_colour(console: Console) -> bool:
    """Whether colours will be seen; where not, strength has to be shown by marks."""
    return console.color_system is not None and not console.no_color


def to_plain(value: Any) -> Any:
    """A value made of what JSON knows. Numbers that are not finite become null: JSON has no word for them."""
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [to_plain(item) for item in value]
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_json(value: Any, stream: IO[str] | None = None) -> None:
    """Writes one JSON document, in ASCII: whatever token text holds, no terminal acts on it."""
    stream = stream if stream is not None else sys.stdout
    json.dump(to_plain(value), stream, indent=2, allow_nan=False)
    stream.write("\n")


def print_message(console: Console, message: Text) -> None:
    """Prints a message: broken at words on a terminal, with its own lines alone elsewhere, for logs and searches."""
    console.print(message, soft_wrap=not console.is_terminal)


def print_to(console: Console, *renderables: RenderableType) -> None:
    """Prints renderables one after another, without trailing spaces where the console writes to a file."""
    if console.is_terminal:
        for renderable in renderables:
            console.print(renderable)
        return
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    console.file.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))
