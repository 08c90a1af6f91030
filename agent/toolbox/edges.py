"""The tool `edges`: how much a head attends from one place to others, in each of many texts."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Position, Text, Unit
from agent.toolbox.probe import MOST
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.edge_kinds import masses_at
from tools.errors import UnitError
from tools.types import UnitId

Sources = Annotated[list[Position], Field(min_length=1, max_length=64)]


class EdgesArguments(Arguments):
    """Arguments of `edges`."""

    unit: Unit = Field(description="A head.")
    texts: Annotated[
        list[Text],
        Field(min_length=1, max_length=MOST, description="Texts that the model reads, one a question; the same text "
              "may be asked about more than once, and is run once."),
    ]  # fmt: skip
    positions: Annotated[list[Position], Field(min_length=1, max_length=MOST)] = Field(
        description="Where the head attends from, one for each text."
    )
    sources: Annotated[list[Sources], Field(min_length=1, max_length=MOST)] = Field(
        description="To which positions, for each text; their weights are added up."
    )


@tool("edges", EdgesArguments)
def edges(workbench: Workbench, arguments: EdgesArguments) -> Finding:
    """Reads how much of one head's attention goes from a place to some others, in each of many texts. Use it to tell
    apart what a head might attend to: make texts in which the token before, an earlier occurrence, what followed it and
    so on stand at different places, and see where it looks.
    """
    subject, unit = workbench.subject, UnitId.parse(arguments.unit)
    if not len(arguments.texts) == len(arguments.positions) == len(arguments.sources):
        raise UnitError(
            f"There are {len(arguments.positions)} positions and {len(arguments.sources)} lists of sources for "
            f"{len(arguments.texts)} texts; give one of each for each."
        )
    texts = list(dict.fromkeys(arguments.texts))
    sequences, _ = encoded(subject, texts)
    number = {text: i for i, text in enumerate(texts)}
    asked = [
        (number[text], position, sources)
        for text, position, sources in zip(arguments.texts, arguments.positions, arguments.sources, strict=True)
    ]
    values = [short(value) for value in masses_at(subject, unit, sequences, asked)]
    return Finding(
        f"{unit} at {len(values)} places of {len(texts)} texts: {min(values):.3g} to {max(values):.3g} of its "
        f"attention, {float(np.median(values)):.3g} in the middle",
        {"values": values},
    )
