"""Pictures of results in files of their own: one look for all, readable when shown 800 pixels wide.

Values above zero are orange, those below blue, in two hues that the colour-blind can tell apart; zero is white.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurogloss.render.text import clean, fit, visible

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

#: From Okabe and Ito's palette.
ABOVE, BELOW = "#d55e00", "#0072b2"
#: Further lines of a plot, in the order in which they are used.
LINES = (BELOW, ABOVE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
#: Inches of a picture's width, so that 10 points are 14 pixels when it is shown 800 pixels wide.
WIDTH = 8.0
_DPI = 200
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "neurogloss", "font.family": "sans-serif", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "legend.frameon": False,
    "axes.titlesize": 10, "figure.facecolor": "white", "text.parse_math": False,
}  # fmt: skip


@contextmanager
def drawing() -> Iterator[None]:
    """Figures that are made within have the look of all; matplotlib's own settings are left as they were."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        yield


@functools.cache
def diverging() -> Colormap:
    """Blue below zero, white at it, orange above."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = ["#053a5f", BELOW, "#8fc1e3", "#ffffff", "#f6b78a", ABOVE, "#7a3300"]
    found: Colormap = LinearSegmentedColormap.from_list("neurogloss", stops).with_extremes(bad="#e4e4e4")
    return found


def save(figure: Figure, file: Path) -> None:
    """Writes a figure as PNG or SVG, by the file's ending; the same figure gives the same file."""
    kind = file.suffix.lower().removeprefix(".")
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata)


def label(text: str, width: int = 24, *, token: bool = False) -> str:
    """Untrusted text as a label: control characters shown, characters that the font lacks spelled out, and cut."""
    shown = visible(text) if token else clean(text)
    return fit("".join(c if _has_glyph(c) else _spelled(c) for c in shown), width)


def _spelled(c: str) -> str:
    code = ord(c)
    if 0x2400 <= code < 0x2420:  # the picture of a control character: the character itself says more
        return f"\\x{code - 0x2400:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@functools.cache
def _has_glyph(character: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return bool(get_font(findfont(FontProperties(family=["sans-serif"]))).get_char_index(ord(character)))
