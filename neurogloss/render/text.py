"""Untrusted text made safe to print, and numbers made short.

Token text and descriptions come from corpora and models. Control characters (among them the escape that starts
terminal sequences), invisible and direction-changing characters are shown, never sent. Results go into
`rich.text.Text`, never through rich's markup, so brackets mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.cells import cell_len
from rich.text import Text

SPACE, NEWLINE, TAB = "·", "⏎", "⇥"
#: Verdict -> (mark, style).
VERDICTS: Mapping[str, tuple[str, str]] = {
    "supported": ("✔", "green"),
    "refuted": ("✘", "red"),
    "inconclusive": ("~", "yellow"),
    "untested": ("?", "dim"),
}


def visible(text: str) -> str:
    """Token text with every space and control character visible: ``' a\\n'`` becomes ``'·a⏎'``."""
    return "".join(_visible_character(c) for c in text)


def clean(text: str) -> str:
    """Prose with control characters shown; runs of white space, line ends among them, become one space."""
    return "".join(c if c == " " else _visible_character(c) for c in " ".join(text.split()))


def verbatim(line: str) -> str:
    """One line with its spaces as they are and control characters shown."""
    return "".join(c if c == " " else _visible_character(c) for c in line)


def _visible_character(c: str) -> str:
    if c == " ":
        return SPACE
    if c == "\n":
        return NEWLINE
    if c == "\t":
        return TAB
    code = ord(c)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if c.isprintable():
        return c
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def fit(text: str, width: int) -> str:
    """Text cut to a number of terminal cells, with an ellipsis where something was cut."""
    if cell_len(text) <= width:
        return text
    kept, used = [], 0
    for c in text:
        used += cell_len(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def verdict(word: str | None, *, long: bool = False) -> Text:
    """A verdict as a mark, or as mark and word."""
    if word is None:
        return Text("–", "dim")
    mark, style = VERDICTS.get(word, ("·", ""))
    return Text(f"{mark} {clean(word)}" if long else mark, style)


def number(value: float | None, digits: int = 3) -> str:
    """A number in few characters; a dash for one that is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 10 ** (digits + 3):
        shown = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in shown else shown
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def share(value: float | None) -> str:
    """A share of a whole as a percentage with enough digits to tell rare from never."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or value >= 0.0995:
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2g} %" if value >= 1e-5 else f"{100 * value:.0e} %"


def score(value: float | None) -> str:
    """A score with two decimals."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}".replace("-0.00", "0.00")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A score with its 95 % interval: ``0.71 [0.64, 0.78]``."""
    if value is None or low is None or high is None:
        return score(value)
    return f"{score(value)} [{score(low)}, {score(high)}]"


def probability(value: float | None) -> str:
    """A p- or q-value."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}".replace("e-0", "e-")


def count(value: int | float) -> str:
    """A whole number with thousands set apart."""
    return f"{round(value):,}"


def thousands(value: int | float) -> str:
    """A whole number in at most six characters: ``940``, ``12.3k``, ``4.56M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size * (1 if unit != "k" else 10):
            return f"{value / size:.3g}{unit}" if abs(value) < 999.5 * size else f"{value / size:,.0f}{unit}"
    return count(value)


def money(dollars: float | None) -> str:
    """US dollars, to the cent, or to two digits where that is less."""
    if dollars is None or not math.isfinite(dollars):
        return "–"
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 0.095 else f"${dollars:.2g}"


def duration(seconds: float | None) -> str:
    """A time span: ``4.2 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(n_bytes: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"
