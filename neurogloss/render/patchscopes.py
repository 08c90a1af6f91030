"""Pages and pictures of patchscopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurogloss.render.effects import tokens_line
from neurogloss.render.heatmap import HeatMap
from neurogloss.render.tables import Side, simple_table
from neurogloss.render.text import clean, fit, number, probability, score, visible

if TYPE_CHECKING:
    from tools.patchscopes import Cell, Inspected

#: Cells of the column of likeliest tokens, with and without a column of layers put into.
_TOP, _TOP_GRID = 36, 30
_TEXT = 62


def patchscope_page(found: Inspected, subject: str) -> list[RenderableType]:
    """A line a cell, and what was written."""
    token, at = visible(found.source[found.position]), found.position
    head = Text.assemble(
        ("Patchscope", "bold"), f" of {clean(subject)}: the state of ", (f"“{fit(token, 24)}”", "bold"),
        f" {at}, put at “{fit(visible(found.target[found.target_position]), 16)}” {found.target_position}",
    )  # fmt: skip
    same = all(cell.layer == cell.target_layer for cell in found.cells)
    columns: list[tuple[str, Side]] = [("layer", "right")] if same else [("from", "right"), ("into", "right")]
    table = simple_table(*columns, ("", "left"), ("predicts", "left"), ("p", "right"), ("own", "left"),
                         ("surprisal", "right"), ("p random", "right"))  # fmt: skip
    for cell in found.cells:
        layers = [str(cell.layer)] if same else [str(cell.layer), str(cell.target_layer)]
        style = "" if cell.signal or cell.signal is None else "dim"
        mark = Text("●", "green") if cell.signal else Text("")
        line = fit(" ".join(visible(piece) for piece, _ in cell.top), _TOP if same else _TOP_GRID)
        table.add_row(
            *layers, mark, Text(line, style), score(cell.top[0][1]), "=" if cell.precise else "",
            number(cell.surprisal), probability(cell.p_value),
        )  # fmt: skip
    notes = (
        f"●: more than {found.controls} random vectors as long make the model say. p: of the likeliest. own '=' and "
        f"surprisal: whether it is, and how unlikely it is (nats), what the model itself predicts after "
        f"“{fit(token, 16)}”:"
    )
    page: list[RenderableType] = [
        head, Text(), table, Text(), Text(f"{notes} {tokens_line(found.own, 3)}", "dim"),
        Text(f"Unpatched, the other text is continued with {tokens_line(found.plain, 3)}", "dim"),
    ]  # fmt: skip
    if found.plain_text is not None:
        page += [Text(), _texts(found, same=same)]
    if found.cells[0].gold is not None:
        held, random = ([getattr(cell, name) for cell in found.cells] for name in ("gold", "control_gold"))
        page.append(Text(
            f"What was looked for is in {sum(map(bool, held))} of {len(held)} texts, in {sum(map(bool, random))} with "
            f"random vectors, and unpatched it is {'' if found.plain_gold else 'not '}there."
        ))  # fmt: skip
    return page


def _texts(found: Inspected, *, same: bool) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row("unpatched", Text(fit(visible(found.plain_text or ""), _TEXT), "dim"))
    for cell in found.cells:
        name = f"layer {cell.layer}" if same else f"{cell.layer} → {cell.target_layer}"
        mark = "✔ " if cell.gold else ""
        table.add_row(name, Text(mark + fit(visible(cell.text or ""), _TEXT), "" if cell.signal else "dim"))
    first: Cell = found.cells[0]
    if first.control_text is not None:
        table.add_row("random", Text(fit(visible(first.control_text), _TEXT), "dim"))
    return table


def patchscope_maps(found: Inspected) -> list[HeatMap]:
    """Layers read by layers put into: how likely the model's own next token is, and how far a cell stands out."""
    rows = sorted({cell.layer for cell in found.cells})
    columns = sorted({cell.target_layer for cell in found.cells})
    shape = (len(rows), len(columns))
    surprisal, signal = np.full(shape, np.nan), np.full(shape, np.nan)
    for cell in found.cells:
        at = rows.index(cell.layer), columns.index(cell.target_layer)
        surprisal[at] = cell.surprisal
        signal[at] = np.nan if cell.p_value is None else -np.log10(cell.p_value)
    names = [str(row) for row in rows], [str(column) for column in columns]
    token = visible(found.source[found.position])
    return [
        HeatMap(surprisal, *names, "read behind layer", "put behind layer", "surprisal, nats", f"State of “{token}”"),
        HeatMap(signal, *names, "read behind layer", "put behind layer", "-log10 p", "Against random vectors as long"),
    ]
