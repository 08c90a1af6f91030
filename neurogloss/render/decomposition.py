"""The page and the picture of a decomposition: what heads and MLPs contribute to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from neurogloss.render.heatmap import HeatMap, text_map
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, number

if TYPE_CHECKING:
    from tools.patching import Decomposition

_LISTED = 10


def decomposition_maps(found: Decomposition) -> list[HeatMap]:
    """Layers by heads, the MLP in the last column."""
    from tools.patching import Node

    nodes = [Node.parse(name) for name in found.sources]
    layers = sorted({node.layer for node in nodes})
    columns = sorted({node.index for node in nodes if node.kind == "head"})
    names = [*map(str, columns), *(["mlp"] if any(node.kind == "mlp" for node in nodes) else [])]
    values = np.full((len(layers), len(names)), np.nan)
    for node, effect in zip(nodes, found.effects, strict=True):
        column = len(names) - 1 if node.kind == "mlp" else columns.index(node.index)
        values[layers.index(node.layer), column] = effect
    title = "Contributions, followed through one pass"
    return [HeatMap(values, [str(i) for i in layers], names, "layer", "head", "share of logit difference", title)]


def decomposition_page(found: Decomposition, subject: str, width: int, *, colour: bool) -> list[RenderableType]:
    """Contributions as a map, and the strongest."""
    pairs = len(found.totals)
    many = f"{pairs} pair{'s' if pairs != 1 else ''} of prompts"
    head = Text.assemble(
        ("Decomposition", "bold"), f" of the answers of {clean(subject)}, {many}: logit difference "
        f"{number(float(found.totals.mean()))} clean",
    )  # fmt: skip
    table = simple_table(("part", "left"), ("effect", "right"), ("±", "right"))
    for i in np.argsort(-np.abs(found.effects), kind="stable")[:_LISTED]:
        error = "" if np.isnan(found.errors[i]) else number(float(found.errors[i]), 2)
        table.add_row(found.sources[i], number(float(found.effects[i])), error)
    over = "the corrupted run" if found.baseline == "corrupt" else "nothing"
    through = (
        "through what later heads move and where they look" if found.attention == "all"
        else "through what later heads move, attention patterns held"
    )  # fmt: skip
    note = (
        f"A part is what its output has over {over}; what of it reaches the answer, {through}, as a share of the clean "
        f"less the corrupted logit difference. Parts' shares overlap. Sums are off by {number(found.off, 2)} at most."
    )
    page: list[RenderableType] = [head, Text()]
    (shown,) = decomposition_maps(found)
    if shown.values.size <= 400:
        page += [*text_map(shown, width, colour=colour), Text()]
    return [*page, table, Text(note, "dim")]
