"""The tool `edit_tokens`: which tokens a unit's activation depends on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import numpy as np
from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Position, Seed, Text, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.edits import edit_effects
from tools.errors import UnitError
from tools.types import UnitId
from tools.units import unit_activations


class EditArguments(Arguments):
    """Arguments of `edit_tokens`."""

    unit: Unit
    texts: Annotated[list[Text], Field(min_length=1, max_length=16, description="Texts on which the unit is active.")]
    positions: Annotated[list[Position], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="Where the activation is read, one for each text; left out: where it is strongest."
    )
    window: int = Field(default=8, ge=1, le=64, description="How many tokens up to the position are edited.")
    replacements: int = Field(default=4, ge=1, le=32, description="Random replacements that are tried of each token.")
    seed: Seed = 0


@tool("edit_tokens", EditArguments)
def edit_tokens(workbench: Workbench, arguments: EditArguments) -> Finding:
    """Replaces and deletes each token before a position, one at a time, and reads the unit's activation there again.
    Use it to tell the tokens that cause an activation from those that only accompany it. Replacements are drawn from
    the tokens of all the texts.
    """
    subject, unit = workbench.subject, UnitId.parse(arguments.unit)
    sequences, _ = encoded(subject, arguments.texts)
    positions = arguments.positions
    if positions is None:
        values = unit_activations(subject, [unit], sequences)
        positions = [1 + int(np.abs(line[0, 1:]).argmax()) if len(line[0]) > 1 else 0 for line in values]
    elif len(positions) != len(sequences):
        raise UnitError(f"There are {len(positions)} positions for {len(sequences)} texts; give one for each.")
    effects = edit_effects(
        subject, unit, sequences, positions, window=arguments.window, replacements=arguments.replacements,
        seed=arguments.seed,
    )  # fmt: skip
    rows = [
        {
            "position": position,
            "edits": [asdict(one) for one in found],
        }
        for position, found in zip(positions, effects, strict=True)
    ]
    silenced = [
        f"{one.piece!r} at {one.offset}"
        for found in effects
        for one in found
        if abs(one.replaced) < 0.5 * abs(one.original)
    ]
    halved = ", ".join(silenced[:8]) + (f" and {len(silenced) - 8} more" if len(silenced) > 8 else "")
    summary = f"replacing {halved or 'no single token'} takes away more than half of {unit}'s activation"
    return Finding(summary, {"texts": rows})
