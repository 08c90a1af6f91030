"""The tool `examples`: where in the corpus a unit fires."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Unit
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.types import Split, UnitId
from tools.units import check_unit


class ExamplesArguments(Arguments):
    """Arguments of `examples`."""

    unit: Unit
    kind: Literal["top", "bottom", "quantile", "random"] = Field(
        default="top",
        description="The strongest positive or negative activations, ones spread over all, or ones drawn at random.",
    )
    n: int = Field(default=10, ge=1, le=50, description="How many at most.")
    window: int = Field(default=24, ge=1, le=128, description="Tokens to show of each.")
    split: Literal["explore", "refine"] = Field(default="explore", description="Which part of the corpus.")


@tool("examples", ExamplesArguments)
def examples(workbench: Workbench, arguments: ExamplesArguments) -> Finding:
    """Shows windows of the corpus with a unit's activation at every token. Use it to see what a unit fires on, and with
    kind 'random' or 'quantile' what it does not fire on.
    """
    view, unit = workbench.view(Split(arguments.split)), UnitId.parse(arguments.unit)
    check_unit(workbench.subject, unit)
    found = view.examples(unit, arguments.kind, arguments.n, arguments.window)
    rows = [
        {
            "document": one.document,
            "peak": one.peak,
            "tokens": one.tokens,
            "activations": [float(f"{value:.4g}") for value in one.activations],
            "stands_for": one.weight,
        }
        for one in found
    ]
    if not found:
        return Finding(f"{unit} has no {arguments.kind} examples in {arguments.split}", {"examples": rows})
    peaks = [one.activations[one.peak] for one in found]
    tokens = ", ".join(dict.fromkeys(repr(one.tokens[one.peak]) for one in found[:6]))
    summary = f"{len(found)} {arguments.kind} examples of {unit}, {min(peaks):.4g} to {max(peaks):.4g}, at {tokens}"
    return Finding(summary, {"examples": rows})
