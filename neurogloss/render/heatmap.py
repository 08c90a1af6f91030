"""Heat maps: a sweep over layers, positions or heads as a picture, and as digits for the terminal.

The scale always has zero in its middle, so that colours mean the same in every map: what is orange adds, what is blue
takes away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.text import Text

from neurogloss.render import plots
from neurogloss.render.text import fit, number, visible
from neurogloss.render.tokens import intensity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Cells up to which a picture has the numbers written in them.
_WRITTEN = 150
#: Characters in all labels of a picture's columns that fit side by side; longer ones are stood on end.
_SIDE_BY_SIDE = 90
#: Labels that fit along a side of a picture.
_MOST_COLUMNS, _MOST_ROWS = 64, 48
#: Rows of a map in the terminal.
_MOST_LINES = 48


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers with names along its sides."""

    values: npt.NDArray[np.floating[Any]]
    """[row, column]; NaN where nothing was measured."""
    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str
    """What the rows are: 'layer'."""
    column_title: str
    """What the columns are: 'head', 'position'."""
    scale: str
    """What the values are: 'logit difference restored'."""
    title: str = ""
    tokens: bool = False
    """Whether the columns are the tokens of a text, in order; their labels then are numbered, and may be anything."""
    limit: float | None = None
    """Value at which the colours end, on both sides of zero; None: the largest there is."""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)):
            raise ValueError(
                f"values are {self.values.shape}, for {len(self.rows)} rows and {len(self.columns)} columns"
            )

    @property
    def largest(self) -> float:
        """Where the colours end; 1 when all values are zero."""
        known = np.abs(self.values[np.isfinite(self.values)])
        limit = self.limit if self.limit is not None else float(known.max(initial=0.0))
        return limit if limit > 0 else 1.0


def save_heatmaps(file: Path, *maps: HeatMap) -> None:
    """Draws one or several maps below each other into a .png or .svg file."""
    from matplotlib.figure import Figure

    with plots.drawing():
        heights = [_height(one) for one in maps]
        figure = Figure(figsize=(plots.WIDTH, sum(heights)), layout="constrained")
        axes = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)
        for one, place in zip(maps, axes[:, 0], strict=True):
            _draw(one, place)
        plots.save(figure, file)


def _height(one: HeatMap) -> float:
    """Inches: rows, and room for labels that stand on end."""
    longest = _longest(one)
    return min(9.0, max(1.2, 0.24 * len(one.rows))) + (0.085 * longest if _upright(one) else 0.2) + 0.7


def _longest(one: HeatMap) -> int:
    return max((cell_len(_column_label(one, i)) for i in range(len(one.columns))), default=1)


def _upright(one: HeatMap) -> bool:
    return one.tokens or (_longest(one) + 1) * len(one.columns) > _SIDE_BY_SIDE


def _draw(one: HeatMap, axes: Axes) -> None:
    limit = one.largest
    image = axes.imshow(one.values, cmap=plots.diverging(), vmin=-limit, vmax=limit, aspect="auto",
                        interpolation="nearest")  # fmt: skip
    columns = range(0, len(one.columns), max(1, math.ceil(len(one.columns) / _MOST_COLUMNS)))
    rows = range(0, len(one.rows), max(1, math.ceil(len(one.rows) / _MOST_ROWS)))
    axes.set_xticks(list(columns), [_column_label(one, i) for i in columns], rotation=90 if _upright(one) else 0,
                    fontsize=8 if len(one.columns) > 40 else 9)  # fmt: skip
    axes.set_yticks(list(rows), [plots.label(one.rows[i], 18) for i in rows], fontsize=8 if len(one.rows) > 30 else 9)
    axes.set_xlabel(plots.label(one.column_title, 60))
    axes.set_ylabel(plots.label(one.row_title, 30))
    if one.title:
        axes.set_title(plots.label(one.title, 90), loc="left")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if one.values.size <= _WRITTEN and len(one.columns) <= 16:
        for (row, column), value in np.ndenumerate(one.values):
            if np.isfinite(value):
                ink = "white" if abs(value) > 0.62 * limit else "black"
                axes.text(column, row, _written(float(value), limit), ha="center", va="center", fontsize=8, color=ink)
    _bar(one, image, axes)


def _written(value: float, limit: float) -> str:
    """A number in a cell, with three digits of the largest."""
    decimals = max(0, 2 - math.floor(math.log10(limit)))
    told = f"{value:.{decimals}f}" if decimals <= 3 else number(value, 2)
    return "0" if float(told) == 0 else told


def _bar(one: HeatMap, image: Any, axes: Axes) -> None:
    """The scale; where all values have one sign, that side of it alone."""
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, aspect=18)
    bar.set_label(plots.label(one.scale, 60), fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    known = one.values[np.isfinite(one.values)]
    if known.size and known.min() >= 0:
        bar.ax.set_ylim(0, one.largest)
    elif known.size and known.max() <= 0:
        bar.ax.set_ylim(-one.largest, 0)


def _column_label(one: HeatMap, column: int) -> str:
    if one.tokens:
        return f"{plots.label(one.columns[column], 12, token=True)}  {column}"
    return plots.label(one.columns[column], 14)


def text_map(one: HeatMap, width: int = 80, *, colour: bool) -> list[Text]:
    """The map for a terminal: numbers where they fit, else each value as a digit from -9 to 9 of the largest.

    A map over the tokens of a text is turned on its side, so that each token has a line. Of more rows than fit those
    with the largest values are shown.
    """
    values = one.values.T if one.tokens else one.values
    rows, columns = (one.columns, one.rows) if one.tokens else (one.rows, one.columns)
    row_title, column_title = (one.column_title, one.row_title) if one.tokens else (one.row_title, one.column_title)
    names = [
        f"{i:>3} {fit(visible(name), 14)}" if one.tokens else fit(visible(name), 18) for i, name in enumerate(rows)
    ]
    shown = _largest_rows(values)
    corner = f"{row_title} \\ {column_title}"
    margin = max([cell_len(corner), *(cell_len(names[i]) for i in shown)]) + 1
    heads = [fit(visible(name), 6) for name in columns]
    roomy = max([5, *(cell_len(head) for head in heads)]) + 1
    written = margin + roomy * len(columns) <= width
    cell = roomy if written else 3
    each = max(1, (width - margin) // cell)
    lines = [Text(f"{one.title}" if one.title else "", "bold")] if one.title else []
    for first in range(0, len(columns), each):
        block = range(first, min(first + each, len(columns)))
        lines.append(Text(f"{corner:<{margin}}{_over(heads, block, cell)}", "dim"))
        for row in shown:
            line = Text(names[row] + " " * (margin - cell_len(names[row])))
            for column in block:
                value = float(values[row, column])
                told = _number(value) if written else _digit(value, one.largest)
                style = intensity(value, one.largest) if colour and math.isfinite(value) else ""
                line.append(" ").append(f"{told:>{cell - 1}}", style)
            lines.append(line)
    notes = [one.scale if written else f"{one.scale}: 9 is {number(one.largest)}, -9 is {number(-one.largest)}"]
    if len(shown) < len(rows):
        notes.append(f"the {len(shown)} of {len(rows)} rows with the largest values")
    lines.append(Text("; ".join(notes), "dim"))
    return lines


def _largest_rows(values: npt.NDArray[np.floating[Any]]) -> list[int]:
    if len(values) <= _MOST_LINES:
        return list(range(len(values)))
    strength = np.nan_to_num(np.abs(values), nan=0.0).max(axis=1)
    return sorted(np.argsort(-strength, kind="stable")[:_MOST_LINES].tolist())


def _over(heads: Sequence[str], block: range, cell: int) -> str:
    """The heads of columns; of narrow ones every n-th, so that they do not run into each other."""
    longest = max(cell_len(heads[i]) for i in block)
    step = max(1, math.ceil((longest + 1) / cell))
    if step == 1:
        return "".join(f"{heads[i]:>{cell}}" for i in block)
    line = ""
    for place, i in enumerate(block):
        if place % step == 0:
            line = line.ljust(place * cell + 1) + heads[i]
    return line


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f}".replace("-0.00", "0.00") if abs(value) < 10 else f"{value:.3g}"


def _digit(value: float, largest: float) -> str:
    if not math.isfinite(value):
        return "?"
    digit = round(9 * max(-1.0, min(1.0, value / largest)))
    return str(digit) if digit else "·"
