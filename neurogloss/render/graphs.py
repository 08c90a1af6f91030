"""Graphs in a picture: what flows from where to where, layers upwards and positions (or nothing) sideways.

Circuits and information flow are shown alike: a box is a part of the model, an arrow what it passes on; orange adds,
blue takes away, and the stronger it is the thicker its arrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from neurogloss.render import plots
from neurogloss.render.effects import Effect, ranked_table
from neurogloss.render.text import fit, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Arrows of a picture, the strongest.
_MOST_ARROWS = 150
#: Inches of a row of boxes.
_ROW = 0.62


@dataclass(frozen=True)
class Node:
    """A box."""

    name: str
    row: int
    """From 0 at the bottom: inputs, then layers, then outputs."""
    column: int | None = None
    """From 0 at the left, such as a position; None: wherever there is room."""
    value: float | None = None
    """Colours the box; None: grey."""
    label: str | None = None
    """What is written in it; None: its name."""


@dataclass(frozen=True)
class Arrow:
    """What one box passes on to another."""

    source: str
    target: str
    weight: float


@dataclass(frozen=True)
class Graph:
    """Boxes and arrows, and the names of their rows and columns."""

    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    rows: Sequence[str]
    """Names, from the bottom."""
    columns: Sequence[str] = ()
    """Names from the left, such as the tokens of a text; empty where boxes have no column."""
    title: str = ""
    scale: str = ""
    """What the weights are."""

    def __post_init__(self) -> None:
        known = {node.name for node in self.nodes}
        if len(known) < len(self.nodes):
            raise ValueError("two boxes have the same name")
        missing = [name for arrow in self.arrows for name in (arrow.source, arrow.target) if name not in known]
        if missing:
            raise ValueError(f"arrows go from or to '{missing[0]}', which is no box")


def save_graph(file: Path, graph: Graph) -> None:
    """Draws a graph into a .png or .svg file; of very many arrows the strongest."""
    from matplotlib.figure import Figure

    with plots.drawing():
        height = 0.8 + _ROW * len(graph.rows) + (0.5 if graph.columns else 0.0)
        figure = Figure(figsize=(plots.WIDTH, max(2.5, height)), layout="constrained")
        axes = figure.subplots()
        _draw(graph, axes)
        plots.save(figure, file)


def arrows_table(graph: Graph, most: int = 20) -> Table:
    """The strongest arrows, for a terminal."""
    strongest = sorted(graph.arrows, key=lambda arrow: -abs(arrow.weight))[:most]
    rows = [Effect(f"{_short(arrow.source)}→{_short(arrow.target)}", arrow.weight) for arrow in strongest]
    return ranked_table(rows, name="from→to", value=graph.scale or "weight")


def _short(name: str) -> str:
    return fit(visible(name), 14)


def _places(graph: Graph) -> Mapping[str, tuple[float, float]]:
    """Where each box is: those that share a cell stand beside each other in it."""
    wide = max(1, len(graph.columns))
    cells: dict[tuple[int, int | None], list[Node]] = {}
    for node in graph.nodes:
        cells.setdefault((node.row, node.column), []).append(node)
    places = {}
    for (row, column), nodes in cells.items():
        left, room = (0.0, float(wide)) if column is None else (float(column), 1.0)
        for place, node in enumerate(nodes):
            places[node.name] = (left + room * (place + 0.5) / len(nodes), float(row))
    return places


def _draw(graph: Graph, axes: Axes) -> None:
    places = _places(graph)
    wide = max(1, len(graph.columns))
    arrows = sorted(graph.arrows, key=lambda arrow: abs(arrow.weight))[-_MOST_ARROWS:]
    strongest = max((abs(arrow.weight) for arrow in arrows), default=1.0) or 1.0
    for arrow in arrows:
        (x, y), (to_x, to_y) = places[arrow.source], places[arrow.target]
        share = abs(arrow.weight) / strongest
        # Arrows within a row and along a column are bent, lest they run through the boxes between.
        bend = 0.25 if y == to_y else 0.12 if x == to_x and abs(to_y - y) > 1 else 0.0
        axes.annotate("", xy=(to_x, to_y), xytext=(x, y), zorder=1 + share, arrowprops={
            "arrowstyle": "-|>,head_width=0.18,head_length=0.35", "shrinkA": 9, "shrinkB": 10,
            "color": plots.ABOVE if arrow.weight >= 0 else plots.BELOW, "alpha": 0.25 + 0.65 * share,
            "linewidth": 0.5 + 3.0 * share, "connectionstyle": f"arc3,rad={bend}",
        })  # fmt: skip
    limit = max((abs(node.value) for node in graph.nodes if node.value is not None), default=1.0) or 1.0
    busiest = _busiest(graph)
    for node in graph.nodes:
        lit = 0.0 if node.value is None else node.value / limit
        face = "#eeeeee" if node.value is None else plots.diverging()(0.5 + 0.5 * lit)
        ink = "white" if abs(lit) > 0.62 else "black"
        axes.text(*places[node.name], plots.label(node.label or node.name, 16), ha="center", va="center", color=ink,
                  fontsize=9 if busiest <= 8 else 7, zorder=3,
                  bbox={"boxstyle": "round,pad=0.3", "facecolor": face, "edgecolor": "#666666", "linewidth": 0.6},
                  )  # fmt: skip
    axes.set_xlim(0, wide)
    axes.set_ylim(-0.6, len(graph.rows) - 0.4)
    axes.set_yticks(range(len(graph.rows)), [plots.label(name, 16) for name in graph.rows])
    each = max(1, -(-wide // 64))
    named = range(0, len(graph.columns), each)
    axes.set_xticks([i + 0.5 for i in named], [f"{plots.label(graph.columns[i], 12, token=True)}  {i}" for i in named],
                    rotation=90, fontsize=8)  # fmt: skip
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(plots.label(graph.title, 90), loc="left")
    if graph.scale:
        # Where columns are named below, above the picture; else below, lest it runs into the title.
        height, align = (1.01, "bottom") if graph.columns else (0.0, "top")
        told = f"{graph.scale}, at most {strongest:.3g}; orange above zero, blue below"
        axes.text(1.0, height, plots.label(told, 80),
                  transform=axes.transAxes, ha="right", va=align, fontsize=8)  # fmt: skip


def _busiest(graph: Graph) -> int:
    """The most boxes in a row."""
    counts: dict[int, int] = {}
    for node in graph.nodes:
        counts[node.row] = counts.get(node.row, 0) + 1
    return max(counts.values(), default=0)
