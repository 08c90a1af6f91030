"""Tools by name. Adding one means one module that registers it, named in `_MODULES`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from agent.toolbox.base import RESERVED, Arguments, Cost, Finding, Tool, ToolResult
from agent.toolbox.workbench import Workbench
from tools.errors import NeuroglossError

_tools: dict[str, Tool] = {}
_MODULES = (
    "agent.toolbox.activations",
    "agent.toolbox.probe",
    "agent.toolbox.edges",
    "agent.toolbox.edits",
    "agent.toolbox.rearranging",
    "agent.toolbox.examples",
    "agent.toolbox.neighbours",
    "agent.toolbox.writes",
    "agent.toolbox.reading",
    "agent.toolbox.tuned",
    "agent.toolbox.decoder",
    "agent.toolbox.heads",
    "agent.toolbox.direct",
    "agent.toolbox.flow",
    "agent.toolbox.attribute",
    "agent.toolbox.concepts",
    "agent.toolbox.ablation",
    "agent.toolbox.patching",
    "agent.toolbox.decomposition",
    "agent.toolbox.circuit",
    "agent.toolbox.steering",
    "agent.toolbox.head_edges",
    "agent.toolbox.patchscopes",
)
"""Modules that register tools when they are imported, in the order in which tools are offered."""

A = TypeVar("A", bound=Arguments)


class ToolError(NeuroglossError):
    """No such tool."""


def tool(
    name: str, arguments: type[A]
) -> Callable[[Callable[[Workbench, A], Finding]], Callable[[Workbench, A], Finding]]:
    """Function decorator: offers ``function(workbench, arguments) -> Finding`` as a tool.

    The first paragraph of its docstring is what a language model is told of it. It raises `NeuroglossError` for what
    cannot be done.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ValueError(f"'{name}' cannot name a tool: small letters, digits and underscores can")
    if taken := set(arguments.model_fields) & set(RESERVED):
        raise ValueError(f"arguments of the tool '{name}' cannot be called {', '.join(sorted(taken))}")

    def decorate(function: Callable[[Workbench, A], Finding]) -> Callable[[Workbench, A], Finding]:
        if name in _tools:
            raise ValueError(f"a tool named '{name}' is registered already")
        told = re.split(r"\n\s*\n", inspect.getdoc(function) or "")[0]
        if not told:
            raise ValueError(f"the tool '{name}' has no docstring to say what it is for")
        _tools[name] = Tool(name, " ".join(told.split()), arguments, function)
        return function

    return decorate


def names() -> list[str]:
    """Names of all tools, in the order in which they are offered."""
    for module in _MODULES:
        import_module(module)
    return list(_tools)


def get(name: str) -> Tool:
    """A tool by its name.

    Raises:
        ToolError: There is none.
    """
    if name not in names():
        raise ToolError(f"There is no tool '{name}'. There are: {', '.join(names())}.")
    return _tools[name]


def schemas(wanted: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Tools as the field `tools` of a chat request (OpenAI's format); all of them unless some are named.

    Raises:
        ToolError: There is no such tool.
    """
    return [get(name).schema() for name in (names() if wanted is None else wanted)]


def call(workbench: Workbench, name: str, arguments: Mapping[str, Any] | str | Arguments) -> ToolResult:
    """Use a tool once, as `Tool.run` does; a tool that there is not is a failed result, too."""
    try:
        found = get(name)
    except ToolError as error:
        given = {"text": arguments[:2000]} if isinstance(arguments, str) else {}
        return ToolResult(name, given, str(error), None, Cost(), workbench.origin, str(error))
    return found.run(workbench, arguments)
