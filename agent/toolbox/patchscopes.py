"""The tool `patchscope`: hidden states, put into another text, say what they hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Layers, Position, Seed, Text, TopK
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.errors import InterventionError
from tools.patchscopes import ENTITY_DESCRIPTION, TOKEN_IDENTITY, Inspected, patchscope
from tools.subject import Subject

#: Cells of a grid of layers in one answer.
MOST_CELLS = 256
PROMPTS = {"identity": TOKEN_IDENTITY, "description": ENTITY_DESCRIPTION}


class PatchscopeArguments(Arguments):
    """Arguments of `patchscope`."""

    text: Text = Field(description="The text whose hidden states are looked at.")
    position: Position | None = Field(default=None, description="Of the state; left out: the last token.")
    prompt: Literal["identity", "description"] = Field(
        default="identity",
        description="The text they are put into: 'x -> x' examples, which say what token a state is of, or examples of "
        "descriptions, which are to be continued.",
    )
    target: Text | None = Field(
        default=None, description="Or a text of your own, such as 'The capital of x'; the state takes the place of "
        "its last token.",
    )  # fmt: skip
    target_position: Position | None = Field(default=None, description="Where it is put; left out: the last token.")
    layers: Layers | None = Field(default=None, description="Layers behind which states are read; left out: all.")
    target_layers: Layers | None = Field(
        default=None, description="Layers behind which each is put; left out: behind the layer where it was read."
    )
    write: int = Field(default=0, ge=0, le=100, description="Tokens to write after the text; 0: the next one alone.")
    gold: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="What the written text is looked through for."
    )
    k: TopK = 5
    seed: Seed = 0


def inspected(subject: Subject, arguments: PatchscopeArguments) -> Inspected:
    """What `patchscope` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.patchscopes.patchscope` raises them; the grid is too
            large; or something is looked for in a text that is not written.
    """
    layers = arguments.layers if arguments.layers is not None else list(range(subject.n_layers))
    cells = len(layers) * (1 if arguments.target_layers is None else len(arguments.target_layers))
    if cells > MOST_CELLS:
        raise InterventionError(f"{cells} pairs of layers are more than the {MOST_CELLS} of one answer. Name fewer.")
    if arguments.gold is not None and not arguments.write:
        raise InterventionError("To look for something in the text that is written, have some written.")
    ((source,), _) = encoded(subject, [arguments.text])
    ((target,), _) = encoded(subject, [arguments.target or PROMPTS[arguments.prompt]])
    return patchscope(
        subject, source, arguments.position, target=target, target_position=arguments.target_position, layers=layers,
        target_layers=arguments.target_layers, write=arguments.write, gold=arguments.gold, k=arguments.k,
        seed=arguments.seed,
    )  # fmt: skip


@tool("patchscope", PatchscopeArguments)
def patchscope_tool(workbench: Workbench, arguments: PatchscopeArguments) -> Finding:
    """Puts the hidden state of a token into another text and reads what the model then predicts or writes: what the
    state means to the model itself, layer by layer. A cell without signal says no more than random vectors as long do.
    Use it to see in which layer a token's meaning is there, or what an entity's state holds.
    """
    found = inspected(workbench.subject, arguments)
    rows = [
        {
            "layer": cell.layer,
            "target_layer": cell.target_layer,
            "top": [[piece, short(probability)] for piece, probability in cell.top],
            "precise": cell.precise,
            "surprisal": short(cell.surprisal),
            "p_value": None if cell.p_value is None else short(cell.p_value),
            "signal": cell.signal,
            **({"text": cell.text, "random_text": cell.control_text} if arguments.write else {}),
            **({"gold": cell.gold, "random_gold": cell.control_gold} if arguments.gold is not None else {}),
        }
        for cell in found.cells
    ]
    data = {
        "source": list(found.source),
        "position": found.position,
        "own_next": [[piece, short(probability)] for piece, probability in found.own],
        "unpatched": [[piece, short(probability)] for piece, probability in found.plain],
        "unpatched_text": found.plain_text,
        "cells": rows,
    }
    return Finding(patchscope_summary(found), data)


def patchscope_summary(found: Inspected) -> str:
    """A table of cells in a sentence."""
    signals = sum(bool(cell.signal) for cell in found.cells)
    precise = sum(cell.precise for cell in found.cells)
    told = (
        f"of {len(found.cells)} states of {found.source[found.position]!r} {signals} say more than random vectors, and "
        f"{precise} predict {found.own[0][0]!r}, as the model does there"
    )
    if found.cells[0].gold is not None:
        held, random = (sum(bool(one) for one in column) for column in (
            [cell.gold for cell in found.cells], [cell.control_gold for cell in found.cells]))  # fmt: skip
        told += f"; what was looked for is in {held} texts, and in {random} with random vectors"
    return told
