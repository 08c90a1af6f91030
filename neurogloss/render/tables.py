"""Tables without boxes, that fit 80 columns and can be cut with ordinary tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from neurogloss.render.text import clean

Side = Literal["left", "right"]


def simple_table(*columns: tuple[str, Side], grow: str | None = None) -> Table:
    """A table with a dim header line; the column called `grow` takes the room that is left and is cut to it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim", expand=grow is not None)
    for name, side in columns:
        table.add_column(name, justify=side, no_wrap=True, overflow="ellipsis", ratio=1 if name == grow else None)
    return table


def facts(*rows: tuple[str, str | Text | None]) -> Table:
    """Names and values, one a line; those without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, Text(clean(value)) if isinstance(value, str) else value)
    return table


def bullet_lines(lines: Sequence[str]) -> Text:
    """Commands or hints, one a line, indented."""
    return Text("\n".join(f"  {line}" for line in lines))
