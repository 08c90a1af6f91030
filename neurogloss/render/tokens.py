"""Tokens with their activations: coloured by strength where there is colour, marked where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from neurogloss.render.text import visible

#: Backgrounds from weak to strong, for positive (amber) and negative (blue) activations, with a readable foreground.
_POSITIVE = (("#4a3300", "#ffffff"), ("#7a5200", "#ffffff"), ("#b87900", "#000000"), ("#ffb000", "#000000"))
_NEGATIVE = (("#0b2545", "#ffffff"), ("#134b8a", "#ffffff"), ("#2f7bd1", "#ffffff"), ("#7cb8ff", "#000000"))


def intensity(value: float, scale: float) -> Style:
    """Background for an activation, in four steps of `scale` (the strongest one shown); none below an eighth."""
    relative = abs(value) / scale if scale > 0 else 0.0
    if relative < 0.125:
        return Style()
    background, colour = (_POSITIVE if value > 0 else _NEGATIVE)[min(3, int(relative * 4))]
    return Style(bgcolor=background, color=colour)


def marked(tokens: Sequence[str], values: Sequence[float], peak: int, scale: float, *, colour: bool) -> list[Text]:
    """The tokens with their strengths: backgrounds, or without colour ``«peak»`` and ``‹runs above half›``."""
    shown = [visible(token) for token in tokens]
    if colour:
        styles = [intensity(value, scale) for value in values]
        return [
            Text(text, style + Style(bold=True, underline=True) if i == peak else style)
            for i, (text, style) in enumerate(zip(shown, styles, strict=True))
        ]
    strong = [i != peak and scale > 0 and abs(value) >= 0.5 * scale for i, value in enumerate(values)]
    pieces = []
    for i, text in enumerate(shown):
        before = "‹" if strong[i] and not (i > 0 and strong[i - 1]) else ""
        after = "›" if strong[i] and not (i + 1 < len(strong) and strong[i + 1]) else ""
        pieces.append(Text(f"«{text}»" if i == peak else f"{before}{text}{after}"))
    return pieces


def keyword_line(
    tokens: Sequence[str],
    activations: Sequence[float],
    peak: int,
    *,
    width: int,
    sign: int = 1,
    scale: float | None = None,
    colour: bool = True,
) -> Text:
    """One line of at most `width` cells with the peak at the same column in every line (keyword in context).

    Most room goes to the left of the peak, since a causal model has seen nothing else. `sign` is -1 on the negative
    tail: activations of the other sign are then left unmarked. `scale` is the activation of full intensity.
    """
    signed = [a if a * sign > 0 else 0.0 for a in activations]
    full = scale if scale is not None else max((abs(a) for a in signed), default=0.0)
    pieces = marked(tokens, signed, peak, full, colour=colour)
    column = width * 5 // 8
    middle = pieces[peak] if pieces else Text("")
    left = _take(list(reversed(pieces[:peak])), column, from_left=False)
    middle = _cut(middle, width - column)
    right = _take(pieces[peak + 1 :], width - column - middle.cell_len, from_left=True)
    return Text.assemble(" " * (column - left.cell_len), left, middle, right, no_wrap=True, overflow="crop")


def _take(pieces: Sequence[Text], room: int, *, from_left: bool) -> Text:
    """As many pieces as fit into `room` cells, nearest first; the last one that does not fit is cut with '…'."""
    kept: list[Text] = []
    for number, part in enumerate(pieces):
        last = number == len(pieces) - 1
        if part.cell_len <= room - (0 if last else 1):
            kept.append(part)
            room -= part.cell_len
            continue
        if room > 0:
            kept.append(_cut(part, room) if from_left else _cut_left(part, room))
        break
    return Text.assemble(*(kept if from_left else reversed(kept)))


def _cut(part: Text, room: int) -> Text:
    if part.cell_len <= room:
        return part
    cut = part.copy()
    cut.truncate(room, overflow="ellipsis")
    return cut


def _cut_left(part: Text, room: int) -> Text:
    """The end of a piece behind an ellipsis, in at most `room` cells."""
    plain, kept, used = part.plain, 0, 1
    for c in reversed(plain):
        used += cell_len(c)
        if used > room:
            break
        kept += 1
    return Text.assemble("…", part[len(plain) - kept :]) if kept else Text("…")


def heat_text(tokens: Sequence[str], activations: Sequence[float], *, colour: bool) -> Text:
    """Running text with every token's strength; lines break where the text has line ends."""
    scale = max((abs(a) for a in activations), default=0.0)
    strongest = max(range(len(tokens)), key=lambda i: abs(activations[i]), default=-1) if scale > 0 else -1
    out = Text()
    for token, part in zip(tokens, marked(tokens, activations, strongest, scale, colour=colour), strict=True):
        out.append_text(part)
        if token.endswith("\n"):
            out.append("\n")
    return out
