"""Curves in a picture: what becomes of a number as a strength grows (dose and response), with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurogloss.render import plots


@dataclass(frozen=True)
class Curve:
    """One line of a picture; parallel lists."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    """NaN where nothing was measured."""
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    """An interval about each point, drawn as a band."""
    reference: bool = False
    """Drawn thin and grey: what the others are to be compared with."""


def save_curves(file: Path, *panels: Sequence[Curve], x_title: str, y_titles: Sequence[str], title: str = "") -> None:
    """Draws panels of curves over the same axis below each other into a .png or .svg file.

    Args:
        file: Where to.
        panels: The curves of each panel.
        x_title: What is below the last panel.
        y_titles: What the numbers of each panel are.
        title: Above the first panel.
    """
    from matplotlib.figure import Figure

    with plots.drawing():
        figure = Figure(figsize=(plots.WIDTH, 0.5 + 2.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for curves, y_title, place in zip(panels, y_titles, axes, strict=True):
            place.axhline(0, color="#999999", linewidth=0.8)
            colours = iter(plots.LINES)
            for curve in curves:
                colour = "#999999" if curve.reference else next(colours, "#000000")
                place.plot(curve.x, curve.y, color=colour, linewidth=1.0 if curve.reference else 1.8, marker="o",
                           markersize=2.5 if curve.reference else 4, label=plots.label(curve.name, 40))  # fmt: skip
                if curve.low is not None and curve.high is not None:
                    place.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            place.set_ylabel(plots.label(y_title, 40))
            if 1 < len(curves) <= len(plots.LINES) + 1:
                place.legend(loc="best", fontsize=9)
        if title:
            axes[0].set_title(plots.label(title, 90), loc="left")
        axes[-1].set_xlabel(plots.label(x_title, 60))
        plots.save(figure, file)
