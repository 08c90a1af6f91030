"""The typed tools that an agent uses on a subject: named, with bounded arguments, measured costs and provenance.

    with Workbench.open(subject) as workbench:
        schemas()                                            # what a language model is told of them
        result = call(workbench, "activations", '{"texts": ["def f(x):"], "units": ["mlp:1:3"]}')
        result.message()                                     # what it is told came of it
        result.experiment()                                  # the row of the notebook

A tool never raises through the agent: what is wrong with the arguments, or what the subject cannot do, comes back as a
failed result that says so. Adding a tool means one module that registers it, named in `agent.toolbox.registry`.
"""

from __future__ import annotations

from agent.toolbox.base import Arguments, Cost, Finding, Tool, ToolResult
from agent.toolbox.registry import ToolError, call, get, names, schemas, tool
from agent.toolbox.workbench import Origin, Workbench

__all__ = [
    "Arguments",
    "Cost",
    "Finding",
    "Origin",
    "Tool",
    "ToolError",
    "ToolResult",
    "Workbench",
    "call",
    "get",
    "names",
    "schemas",
    "tool",
]
