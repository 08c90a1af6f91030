"""The tools `write_lens` and `token_change`: what a unit does to the output, by weights and by setting it."""

from __future__ import annotations

from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Texts, TopK, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools import lenses
from tools import token_change as changes
from tools.errors import UnitError
from tools.lenses import Promotion
from tools.types import UnitId


class WriteLensArguments(Arguments):
    """Arguments of `write_lens`."""

    unit: Unit
    k: TopK = 10


class TokenChangeArguments(Arguments):
    """Arguments of `token_change`."""

    unit: Unit
    texts: Texts
    value: float = Field(ge=-1e4, le=1e4, description="What its activation is set to; a head's: the norm of its write.")
    k: TopK = 10


@tool("write_lens", WriteLensArguments)
def write_lens(workbench: Workbench, arguments: WriteLensArguments) -> Finding:
    """Reads off the weights which tokens a unit makes more and less likely when it is on, seen through the final norm
    and the unembedding. It costs no forward pass, and leaves out what later layers make of the write.
    """
    unit = UnitId.parse(arguments.unit)
    found = lenses.write_lens(workbench.subject, unit, arguments.k)
    if found is None:
        raise UnitError(f"'{unit}' has no single direction that leads to the logits. Use token_change, which measures.")
    return Finding(_summary(unit, found), _rows(found))


@tool("token_change", TokenChangeArguments)
def token_change(workbench: Workbench, arguments: TokenChangeArguments) -> Finding:
    """Sets a unit's activation to a value at every position of some texts but the first, and measures which tokens'
    logits rise and fall most, as a mean over the positions. Use it to find out what a unit does when it is on.
    """
    unit = UnitId.parse(arguments.unit)
    sequences, _ = encoded(workbench.subject, arguments.texts)
    found = changes.token_change(workbench.subject, unit, sequences, arguments.value, arguments.k)
    if found is None:
        raise UnitError(f"The activation of '{unit}' cannot be set in '{workbench.subject.name}'.")
    return Finding(_summary(unit, found), _rows(found))


def _rows(found: Promotion) -> dict[str, list[dict[str, object]]]:
    def rows(pairs: tuple[tuple[str, float], ...]) -> list[dict[str, object]]:
        return [{"token": piece, "score": float(f"{score:.4g}")} for piece, score in pairs]

    return {"promoted": rows(found.promoted), "suppressed": rows(found.suppressed)}


def _summary(unit: UnitId, found: Promotion) -> str:
    def told(pairs: tuple[tuple[str, float], ...]) -> str:
        return ", ".join(repr(piece) for piece, _ in pairs[:6])

    return f"{unit} promotes {told(found.promoted)} and suppresses {told(found.suppressed)}"
