"""Slash commands: the tools by hand. ``/activate mlp:2:17 "def f(x):"`` is the tool `activations` with its arguments.

Arguments are given by name (``limit=5``), or without: what looks like a unit goes to the unit, the rest to the first
arguments that are still missing. Values of lists are given one after another.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.chat.numbers import UNIT
from agent.chat.tools import ToolShelf
from tools.errors import NeuroglossError

Json = dict[str, Any]

#: Command -> tool, where they are not called alike.
ALIASES = {
    "activate": "activations", "examples": "kept_examples", "edit": "edit_tokens", "corpus": "examples",
    "lens": "logit_lens", "heads": "head_patterns", "flow": "information_flow", "show": "unit",
}  # fmt: skip
#: Commands that are no tools -> what they do.
OWN = {
    "cost": "what this conversation has cost so far",
    "history": "what was said so far",
    "help": "this list; /help COMMAND for one of them",
    "quit": "leave (so does Ctrl-D); the conversation is kept",
}


class SlashError(NeuroglossError):
    """A slash command cannot be understood."""


@dataclass(frozen=True)
class Command:
    """A slash command, understood."""

    name: str
    """As it was typed, without the slash."""
    tool: str | None
    """The tool that it stands for; None for one of `OWN`."""
    arguments: Json
    rest: str
    """What was typed after the name."""


def parse(text: str, shelf: ToolShelf) -> Command:
    """What a line that begins with a slash asks for.

    Raises:
        SlashError: There is no such command, or its arguments do not fit.
    """
    name, _, rest = text.strip()[1:].partition(" ")
    name, rest = name.lower().replace("-", "_"), rest.strip()
    if name in OWN:
        return Command(name, None, {}, rest)
    tool = tool_of(name, shelf)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise SlashError(f"/{name}: {error}. Put texts with spaces in double quotes.") from error
    return Command(name, tool, _arguments(name, shelf.arguments_of(tool), words), rest)


def tool_of(name: str, shelf: ToolShelf) -> str:
    """The tool that a command stands for: of its name, by an alias, or the one whose name begins or ends with it.

    Raises:
        SlashError: There is none.
    """
    known = shelf.names
    if ALIASES.get(name) in known:
        return ALIASES[name]
    if name in known:
        return name
    like = [tool for tool in known if tool.startswith(f"{name}_")] or [t for t in known if t.endswith(f"_{name}")]
    if like:
        return like[0]
    raise SlashError(f"There is no command /{name}. /help lists those there are.")


def _arguments(name: str, model: type[BaseModel], words: Sequence[str]) -> Json:
    fields = model.model_fields
    given: Json = {}
    loose: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in fields:
            given[key] = _read(value, fields[key])
        elif equals and difflib.get_close_matches(key, fields, 1, 0.75):
            raise SlashError(f"/{name} has no argument '{key}'. It has: {', '.join(fields)}.")
        else:
            loose.append(word)
    units = next((field for field in ("unit", "units") if field in fields and field not in given), None)
    if units is not None:
        found = [word for word in loose if UNIT.fullmatch(word)]
        if units == "unit":
            found = found[:1]
        if found:
            given[units] = found if _is_list(fields[units]) else ";".join(found)
            for word in found:
                loose.remove(word)
    waiting = [field for field in fields if field not in given and fields[field].is_required()]
    waiting += [field for field in fields if field not in given and not fields[field].is_required()]
    for field in waiting:
        if not loose:
            break
        if _is_list(fields[field]) and "str" not in str(fields[field].annotation) and loose[0][:1] not in "[{":
            continue  # pairs and the like are given by name, as JSON
        if _is_list(fields[field]):
            later = sum(fields[other].is_required() for other in waiting[waiting.index(field) + 1 :])
            kept = max(1, len(loose) - later)
            given[field], loose = [_scalar(word) for word in loose[:kept]], loose[kept:]
        elif _is_text(fields[field]) and not any(
            f.is_required() for f in map(fields.get, waiting[waiting.index(field) + 1 :]) if f
        ):
            given[field], loose = " ".join(loose), []
        else:
            given[field] = _read(loose.pop(0), fields[field])
    if loose:
        raise SlashError(f"/{name}: what is '{loose[0]}'? It has the arguments {', '.join(fields)}; /help {name}.")
    return given


def _is_list(field: FieldInfo) -> bool:
    return "list[" in str(field.annotation)


def _is_text(field: FieldInfo) -> bool:
    return field.annotation is str


def _read(word: str, field: FieldInfo) -> Any:
    if word[:1] in "[{":
        try:
            return json.loads(word)
        except ValueError as error:
            raise SlashError(f"'{word}' is not JSON: {error}.") from error
    if _is_list(field):
        return [_scalar(part) for part in (word.split(";") if ";" in word else [word])]
    return word if _is_text(field) else _scalar(word)


def _scalar(word: str) -> Any:
    """A number or a truth value where it is written like one; pydantic has the last word."""
    if word in ("true", "false"):
        return word == "true"
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return word


def help_text(shelf: ToolShelf, name: str = "") -> str:
    """What there is, or how one command is used; 80 columns.

    Raises:
        SlashError: There is no such command.
    """
    if name:
        return _help_of(name.lstrip("/").replace("-", "_"), shelf)
    shown = {tool: command for command, tool in ALIASES.items() if command != "show"}
    lines = ["Ask in plain words where a language model is configured, or use the tools:", ""]
    for database in (True, False):
        tools = [tool for tool in shelf.names if shelf.needs_subject(tool) != database]
        if tools:
            lines.append("of the database" if database else "of the model (loaded when first used)")
            lines += [_entry(f"/{shown.get(tool, tool)}", shelf.description_of(tool)) for tool in tools]
            lines.append("")
    lines.append("of the conversation")
    lines += [_entry(f"/{command}", told) for command, told in OWN.items()]
    return "\n".join(lines)


def _entry(command: str, told: str) -> str:
    first = re.split(r"(?<=[.:]) ", told)[0].rstrip(".:")
    head = f"  {command:<16}" if len(command) < 16 else f"  {command} "
    return head + textwrap.shorten(first, 79 - len(head), placeholder=" …")


def _help_of(name: str, shelf: ToolShelf) -> str:
    if name in OWN:
        return f"/{name}: {OWN[name]}"
    tool = tool_of(name, shelf)
    model = shelf.arguments_of(tool)
    lines = [*textwrap.wrap(f"/{name}: {shelf.description_of(tool)}", 79), ""]
    properties = model.model_json_schema().get("properties", {})
    for field, info in model.model_fields.items():
        told = properties.get(field, {}).get("description") or info.description or ""
        default = "needed"
        if not info.is_required():
            default = f"default {json.dumps(info.get_default(call_default_factory=True), default=str)}"
        lines += textwrap.wrap(f"{field}: {told} ({default})", 77, initial_indent="  ", subsequent_indent="      ")
    return "\n".join([*lines, "", f"  {_example(name, model)}"])


def _example(name: str, model: type[BaseModel]) -> str:
    parts = []
    for field, info in model.model_fields.items():
        if info.is_required():
            one = "mlp:2:17" if field in ("unit", "units") else '"a text"' if "text" in field else field.upper()
            if _is_list(info) and "str" not in (kind := str(info.annotation)) and "int" in kind:
                deep = kind.count("list[")  # lists of numbers are given by name, as JSON
                one = f"{field}={'[' * deep}1{']' * deep}"
            parts.append((0 if field in ("unit", "units") else 1, one))
    return f"/{name} " + " ".join(part for _, part in sorted(parts, key=lambda part: part[0]))
