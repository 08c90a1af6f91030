"""Questions to the database, as tools: with bounded arguments, and answers whose rows can be cited.

A look-up hands back plain data in which each row has the name under which it is cited (``"cite": "[score:12]"``). The
numbers in it are those of the rows, rounded to six digits.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from agent.plain import plain
from agent.toolbox.base import Arguments, Finding, function_schema
from explainers.llm.wire import problems_of
from store import Database, StoreError

Json = dict[str, Any]
A = TypeVar("A", bound=Arguments)

UnitName = Annotated[
    str, Field(min_length=3, max_length=200, description="A unit: mlp:LAYER:NEURON, head:LAYER:HEAD, sae:NAME:LATENT.")
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Campaign = Annotated[Name | None, Field(description="Only what this campaign found; left out: what any has found.")]
Limit = Annotated[int, Field(ge=1, le=50, description="How many at most.")]


@dataclass(frozen=True)
class Library:
    """The database, and what of it a conversation is about."""

    db: Database
    subject: str | None = None
    """Name or fingerprint of a subject; None: any."""
    campaign: str | None = None
    """Name of a campaign; None: any."""


@dataclass(frozen=True)
class Looked:
    """What came of a look-up: data, or an error that says what was wrong."""

    arguments: Json
    summary: str
    data: Any
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Lookup:
    """A question that can be put to the database."""

    name: str
    description: str
    """What it answers, as a language model is told."""
    arguments: type[Arguments]
    function: Callable[[Library, Any], Finding]

    def schema(self) -> Json:
        """As a chat request offers it (OpenAI's format)."""
        return function_schema(self.name, self.description, self.arguments)

    def run(self, library: Library, arguments: Mapping[str, Any] | str) -> Looked:
        """Look once; what is wrong with the arguments, or not there, comes back as an error."""
        began = time.perf_counter()
        given: Json = {"text": arguments[:2000]} if isinstance(arguments, str) else dict(arguments)
        try:
            if isinstance(arguments, str):
                checked = self.arguments.model_validate_json(arguments or "{}")
            else:
                checked = self.arguments.model_validate(dict(arguments))
            given = checked.model_dump(mode="json")
            found = self.function(library, checked)
        except ValidationError as error:
            told = f"The arguments of {self.name} do not fit: {problems_of(error)}."
            return Looked(given, told, None, time.perf_counter() - began, told)
        except StoreError as error:
            return Looked(given, str(error), None, time.perf_counter() - began, str(error))
        return Looked(given, found.summary, plain(found.data), time.perf_counter() - began)


_lookups: dict[str, Lookup] = {}
_MODULES = ("agent.chat.unit_lookups", "agent.chat.list_lookups")
"""Modules that register look-ups when they are imported, in the order in which they are offered."""


def lookup(
    name: str, arguments: type[A]
) -> Callable[[Callable[[Library, A], Finding]], Callable[[Library, A], Finding]]:
    """Function decorator: offers ``function(library, arguments) -> Finding`` as a question to the database.

    Its docstring is what a language model is told of it. It raises `StoreError` for what is not there.
    """

    def decorate(function: Callable[[Library, A], Finding]) -> Callable[[Library, A], Finding]:
        _lookups[name] = Lookup(name, " ".join((inspect.getdoc(function) or "").split()), arguments, function)
        return function

    return decorate


def lookups() -> dict[str, Lookup]:
    """All look-ups by their names, in the order in which they are offered."""
    from importlib import import_module

    for module in _MODULES:
        import_module(module)
    return dict(_lookups)


def cite(kind: str, number: int | None) -> str | None:
    """How a row is cited."""
    return None if number is None else f"[{kind}:{number}]"


def short(value: float | None) -> float | int | None:
    """A number to six significant digits; whole ones as they are. To round it again to a few does not go wrong."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.6g}")


def clipped(text: str | None, most: int = 600) -> str | None:
    """Text with its end cut off at a word where it is long; no number is cut through."""
    if text is None or len(text) <= most:
        return text
    kept = text[:most]
    return (kept.rpartition(" ")[0] or re.sub(r"[\d.,]+$", "", kept)) + " …"


Polarity = Literal["+", "-"]
