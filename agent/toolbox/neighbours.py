"""The tool `neighbours`: what earlier campaigns say of units that write or fire alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.neighbours import CLOSE, TOGETHER
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Unit
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from store import StoreError
from tools.types import Split, UnitId
from tools.units import check_unit


class NeighboursArguments(Arguments):
    """Arguments of `neighbours`."""

    unit: Unit
    polarity: Literal["+", "-"] = Field(default="+", description="Which tail of its activation.")
    n: int = Field(default=3, ge=1, le=20, description="How many descriptions at most.")


@tool("neighbours", NeighboursArguments)
def neighbours(workbench: Workbench, arguments: NeighboursArguments) -> Finding:
    """Reads what finished campaigns hold of a unit's neighbours: of the unit itself, of units that write in nearly the
    same direction, and of units that are active in the same places. Use it for further rivals; what is true of a
    neighbour need not be true of the unit.
    """
    unit = UnitId.parse(arguments.unit)
    check_unit(workbench.subject, unit)
    if workbench.earlier is None:
        raise StoreError(
            "No earlier descriptions are at hand here. A campaign has them with rivals_from: [database]; a "
            "conversation, from its database."
        )
    view = workbench.views.get(Split.EXPLORE)
    found = workbench.earlier.neighbours(
        workbench.subject, view if view is not None and view.holds(unit) else None, unit, arguments.polarity,
        arguments.n,
    )  # fmt: skip
    if not found:
        return Finding(
            f"no finished campaign describes a neighbour of {unit}: none writes at a cosine of {CLOSE:g} or more, or "
            f"fires at a correlation of {TOGETHER:g}", {"neighbours": []},
        )  # fmt: skip
    told = ", ".join(f"{one.row.unit} ({one.by}, {one.likeness:.2g}): {one.row.label}" for one in found[:3])
    return Finding(f"neighbours of {unit}: {told}", {"neighbours": [one.to_json() for one in found]})
