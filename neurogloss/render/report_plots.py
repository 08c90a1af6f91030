"""The plots of a campaign's report, as SVG to stand inside a page: no scripts, no links, colours from the page.

Lines and letters are drawn in the page's own text colour and the rest in hues that are readable on light and on dark.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurogloss.render import report_words as words
from neurogloss.render.text import clean, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from agent.reporting import CampaignReport

#: Stands for the page's text colour while matplotlib draws; replaced in the SVG.
_INK = "#010203"
#: Real units, then kinds of controls; from Okabe and Ito's palette, which the colour-blind can tell apart.
_REAL, _CONTROLS = "#0072b2", ("#e69f00", "#cc79a7", "#009e73", "#d55e00", "#7a8a99")
#: Points from which on a cloud is drawn as pixels, lest the page becomes heavy.
_MANY = 3_000
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "neurogloss", "font.family": "sans-serif", "font.size": 10,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "axes.linewidth": 0.8,
}  # fmt: skip


def _styled(draw: Callable[[CampaignReport], str]) -> Callable[[CampaignReport], str]:
    """Draws with the page's settings; matplotlib's own are left as they were."""

    @functools.wraps(draw)
    def styled(report: CampaignReport) -> str:
        import matplotlib as mpl

        with mpl.rc_context(_SETTINGS):
            return draw(report)

    return styled


@_styled
def scores_plot(report: CampaignReport) -> str:
    """Scores of real units and controls: a histogram of both, and below it every score by kind."""
    populations = [one for one in report.scores.populations if one.values]
    if not populations:
        return ""
    figure, (top, strips) = _axes(2, height=2.2 + 0.42 * len(populations), ratios=[4, 1 + len(populations)])
    bins = np.linspace(0, 1, len(populations[0].counts) + 1).tolist()
    real = [value for one in populations if one.kind == "real" for value in one.values]
    controls = [value for one in populations if one.kind != "real" for value in one.values]
    for values, colour, name in ((real, _REAL, "real units"), (controls, _CONTROLS[0], "controls")):
        if values:
            weights = np.full(len(values), 100 / len(values))
            top.hist(np.clip(values, 0, 1), bins=bins, weights=weights, color=colour, alpha=0.45,
                     label=f"{name} ({len(values)})")  # fmt: skip
            top.hist(np.clip(values, 0, 1), bins=bins, weights=weights, color=colour, histtype="step", linewidth=1.4)
    top.set_ylabel("% of scores")
    top.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.22), borderaxespad=0)
    top.tick_params(labelbottom=False)
    for row, one in enumerate(populations):
        colour = _REAL if one.kind == "real" else _CONTROLS[(row - 1) % len(_CONTROLS)]
        spread = np.random.default_rng(row).uniform(-0.28, 0.28, len(one.values))
        size = 3.0 if len(one.values) > 300 else 4.5
        strips.plot(one.values, row + spread, "o", markersize=size, alpha=0.6, color=colour, markeredgewidth=0,
                    rasterized=len(one.values) > _MANY)  # fmt: skip
        if one.median is not None:
            strips.plot([one.median] * 2, [row - 0.4, row + 0.4], color=_INK, linewidth=1.6)
    strips.set_yticks(range(len(populations)), [_name(one.kind) for one in populations])
    strips.set_ylim(len(populations) - 0.4, -0.6)
    strips.set_xlim(-0.02, 1.02)
    strips.set_xlabel("F1 on sealed text (line: median)")
    return _svg(figure, "Scores of real units and of controls")


@_styled
def calibration_plot(report: CampaignReport) -> str:
    """Refine against sealed score, a point a description."""
    pairs = [
        (claim.refine, claim.value, claim.accepted)
        for claim in report.claims
        if claim.control is None and claim.refine is not None and claim.value is not None
    ]
    if not pairs:
        return ""
    figure, (axes,) = _axes(1, height=3.4, width=3.8)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for accepted, colour, name in ((False, _CONTROLS[-1], "not accepted"), (True, _REAL, "accepted")):
        points = np.array([(refine, score) for refine, score, taken in pairs if taken == accepted]).reshape(-1, 2)
        axes.plot(points[:, 0], points[:, 1], ".", markersize=5, alpha=0.6, color=colour, markeredgewidth=0,
                  label=f"{name} ({len(points)})", rasterized=len(points) > _MANY)  # fmt: skip
    axes.set(xlabel="F1 on the refine split", ylabel="F1 on sealed text", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.12), borderaxespad=0, handletextpad=0.1)
    return _svg(figure, "Refine score against sealed score")


@_styled
def predictions_plot(report: CampaignReport) -> str:
    """The calibration curve of probabilities at made-up inputs, with how many fell into each bin."""
    use = report.predictions
    if use is None or use.curve is None:
        return ""
    from matplotlib.ticker import NullFormatter

    figure, (axes, below) = _axes(2, height=4.2, width=3.8, ratios=[3, 1])
    bins = use.curve.bins
    said, came = [one.predicted for one in bins], [one.observed for one in bins]
    ends = [[one.observed - one.observed_low for one in bins], [one.observed_high - one.observed for one in bins]]
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.errorbar(said, came, yerr=np.maximum(ends, 0), fmt="o-", color=_REAL, markersize=4.5, linewidth=1.2)
    axes.set(ylabel="share that came", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.tick_params(labelbottom=False)
    below.bar([one.low for one in bins], [one.n for one in bins], width=[one.high - one.low for one in bins],
              align="edge", color=_REAL, alpha=0.45)  # fmt: skip
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    below.set(xlabel="probability said", ylabel="inputs")
    return _svg(figure, "Calibration of predictions")


@_styled
def p_values_plot(report: CampaignReport) -> str:
    """p-values of the controls, stacked by kind, with the level line of an even spread."""
    known = [one for one in report.calibration.p_values if one.n]
    if not known:
        return ""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _axes(1, height=3.4, width=3.8)
    bins = len(known[0].counts)
    edges, below = np.arange(bins) / bins, np.zeros(bins)
    for number, one in enumerate(known):
        axes.bar(edges, one.counts, width=1 / bins, bottom=below, align="edge", label=_name(one.kind),
                 color=_CONTROLS[number % len(_CONTROLS)], alpha=0.75)  # fmt: skip
        below += one.counts
    axes.axhline(sum(one.n for one in known) / bins, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel="p-value against chance", ylabel="controls", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=1, fontsize=9)
    return _svg(figure, "p-values of the controls")


def _name(kind: str) -> str:
    return fit(clean(words.kind_name(kind)), 24).replace("$", "\\$")


def _axes(
    rows: int, *, height: float, width: float = 7.6, ratios: list[int] | None = None
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    found = figure.subplots(rows, 1, squeeze=False, sharex=rows > 1, height_ratios=ratios)
    return figure, list(found[:, 0])


def _svg(figure: Figure, title: str) -> str:
    """The figure as an `svg` element that scales with the page; the same figure gives the same text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Each figure has its ids to itself: several stand in one page.
    mark = "".join(c for c in title if c.isalnum())
    text = re.sub(r'\bid="', f'id="{mark}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{mark}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
