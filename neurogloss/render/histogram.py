"""A histogram in block characters, on a logarithmic scale of counts, since activations are rare and strong."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from neurogloss.render.text import number

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    width: int = 64,
    height: int = 3,
    threshold: float | None = None,
    colour: bool = True,
) -> Text:
    """Bars over a line of labels: the two ends, zero (`0`) and the activation above which the unit counts as active.

    `counts[i]` belongs to ``edges[i] .. edges[i + 1]``. With fewer edges than counts + 1 the first and the last count
    are what lay outside of the edges. Any non-empty bin is at least an eighth of a cell high: rare is not never.
    """
    edges, counts = _finite(edges, counts)
    if not counts or sum(counts) == 0:
        return Text("(no activations counted)", "dim")
    width = min(width, max(len(counts), 24))
    low, high = edges[0], edges[-1]
    columns = _columns(edges, counts, width)
    top = math.log1p(max(columns))
    levels = [max(1, round(8 * height * math.log1p(c) / top)) if c > 0 else 0 for c in columns]
    active = _place(threshold, low, high, width)
    out = Text(no_wrap=True)
    for row in reversed(range(height)):
        for column, level in enumerate(levels):
            style = "" if active is None or not colour else "yellow" if _beyond(column, active, threshold) else ""
            out.append(_EIGHTHS[min(8, max(0, level - 8 * row))], style)
        out.append("\n")
    out.append_text(_axis(low, high, width, threshold))
    return out


def _finite(edges: Sequence[float], counts: Sequence[int]) -> tuple[list[float], list[int]]:
    """Edges and counts with finite ends: what lay outside is counted in the outermost bins."""
    if len(edges) == len(counts) - 1:
        edges = [-math.inf, *edges, math.inf]
    kept_edges, kept = list(edges), list(counts)
    if len(kept) > 1 and not math.isfinite(kept_edges[0]):
        kept_edges, kept = kept_edges[1:], [kept[0] + kept[1], *kept[2:]]
    if len(kept) > 1 and not math.isfinite(kept_edges[-1]):
        kept_edges, kept = kept_edges[:-1], [*kept[:-2], kept[-2] + kept[-1]]
    if not all(math.isfinite(e) for e in kept_edges) or len(kept_edges) != len(kept) + 1:
        return [], []
    return kept_edges, kept


def _columns(edges: Sequence[float], counts: Sequence[int], width: int) -> list[float]:
    """Counts spread over columns of equal width, each bin shared out among the columns that it overlaps."""
    low, span = edges[0], (edges[-1] - edges[0]) or 1.0
    columns = [0.0] * width
    for left, right, n in zip(edges, edges[1:], counts, strict=False):
        if n == 0:
            continue
        a, b = (left - low) / span * width, (right - low) / span * width
        first, last = min(width - 1, int(a)), min(width - 1, max(int(a), math.ceil(b) - 1))
        for column in range(first, last + 1):
            overlap = min(b, column + 1) - max(a, column)
            columns[column] += n * (overlap / (b - a) if b > a else 1.0)
    return columns


def _place(value: float | None, low: float, high: float, width: int) -> int | None:
    if value is None or not low <= value <= high or high <= low:
        return None
    return min(width - 1, int((value - low) / (high - low) * width))


def _beyond(column: int, active: int, threshold: float | None) -> bool:
    return column >= active if threshold is not None and threshold > 0 else column <= active


def _axis(low: float, high: float, width: int, threshold: float | None) -> Text:
    """The line of labels; a label that would run into another one is left out, the threshold's last of all."""
    line = [" "] * width
    ends = ((number(low), 0), (number(high), width - len(number(high))))
    for label, start in ends:
        line[start : start + len(label)] = label
    zero = _place(0.0, low, high, width)
    for label, column in (("▲" + number(threshold), _place(threshold, low, high, width)), ("0", zero)):
        if column is None:
            continue
        for start in (column, column - len(label) + 1) if len(label) > 1 else (column,):
            cells = line[max(0, start - 1) : start + len(label) + 1]
            if start >= 0 and start + len(label) <= width and all(c == " " for c in cells):
                shown = label if start == column else label[1:] + label[0]
                line[start : start + len(label)] = shown
                break
    return Text("".join(line).rstrip(), "dim")
