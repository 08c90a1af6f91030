"""The tool `probe`: a unit's activation at one place of each of many texts."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Position, Text, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.errors import UnitError
from tools.types import UnitId
from tools.units import unit_activations

#: Texts of one use.
MOST = 512


class ProbeArguments(Arguments):
    """Arguments of `probe`."""

    unit: Unit
    texts: Annotated[
        list[Text], Field(min_length=1, max_length=MOST, description="Texts that the model reads, one a question.")
    ]
    positions: Annotated[list[Position], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="Where the activation is read, one for each text; left out: at the last token."
    )


@tool("probe", ProbeArguments)
def probe(workbench: Workbench, arguments: ProbeArguments) -> Finding:
    """Reads one unit's activation at one place of each of many texts. Use it to ask many short questions at once: does
    the unit fire with another word here, that word gone, this place moved?
    """
    subject, unit = workbench.subject, UnitId.parse(arguments.unit)
    sequences, _ = encoded(subject, arguments.texts)
    positions = arguments.positions or [len(ids) - 1 for ids in sequences]
    if len(positions) != len(sequences):
        raise UnitError(f"There are {len(positions)} positions for {len(sequences)} texts; give one for each.")
    for text, ids, position in zip(arguments.texts, sequences, positions, strict=True):
        if position >= len(ids):
            raise UnitError(f"There is no token {position} in {text[:60]!r}, which the model reads as {len(ids)}.")
    values = unit_activations(subject, [unit], sequences)
    read = [float(f"{line[0, at]:.6g}") for line, at in zip(values, positions, strict=True)]
    return Finding(
        f"{unit} at one place of each of {len(read)} texts: {min(read):.4g} to {max(read):.4g}, "
        f"{float(np.median(read)):.4g} in the middle",
        {"values": read},
    )
