"""Effects of interventions as tables: ranked, with a bar that shows sign and size, and within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from neurogloss.render.tables import Side, simple_table
from neurogloss.render.text import fit, number, verbatim, visible

#: Cells of a bar, half of them on each side of zero.
_BAR = 17
_ABOVE, _BELOW = "yellow", "blue"


@dataclass(frozen=True)
class Effect:
    """One line of a ranked table."""

    name: str
    value: float | None
    """What is ranked and drawn; None where it could not be computed."""
    more: Sequence[str | Text] = ()
    """Cells of further columns."""


def ranked_table(
    effects: Sequence[Effect], *, name: str, value: str, more: Sequence[tuple[str, Side]] = (), grow: str | None = None
) -> Table:
    """Effects in the order given, each with its number and a bar about zero.

    Args:
        effects: The lines.
        name: What the lines are: 'unit'.
        value: What the numbers are: 'KL'.
        more: Names and sides of further columns.
        grow: Which of them takes the room that is left.
    """
    table = simple_table((name, "left"), (value, "right"), ("", "left"), *more, grow=grow)
    scale = max((abs(effect.value) for effect in effects if effect.value is not None), default=0.0)
    both = any((effect.value or 0.0) < 0 for effect in effects)
    for effect in effects:
        bar = Text() if effect.value is None else signed_bar(effect.value, scale, both_sides=both)
        table.add_row(fit(verbatim(effect.name), 32), number(effect.value), bar, *effect.more)
    return table


def signed_bar(value: float, scale: float, *, both_sides: bool = True) -> Text:
    """A bar from zero: to the right and yellow above it, to the left and blue below."""
    half = _BAR // 2
    share = min(1.0, abs(value) / scale) if scale > 0 else 0.0
    if not both_sides:
        return Text(_blocks(share * half), _ABOVE)
    if value >= 0:
        return Text(" " * half + "│", "dim").append(_blocks(share * half), _ABOVE)
    # Blocks are filled from the left, so a bar to the left ends at a whole cell.
    cells = max(1, round(share * half)) if share > 0 else 0
    return Text(" " * (half - cells)).append("█" * cells, _BELOW).append("│", "dim")


def _blocks(cells: float) -> str:
    eighths = round(cells * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def tokens_table(
    promoted: Sequence[tuple[str, float]], suppressed: Sequence[tuple[str, float]], *, score: str = "logit"
) -> Table:
    """Tokens that become more likely beside those that become less likely, strongest first."""
    table = simple_table(("promoted", "left"), (score, "right"), ("suppressed", "left"), (score, "right"))
    for i in range(max(len(promoted), len(suppressed))):
        cells: list[str | Text] = []
        for tokens, style in ((promoted, _ABOVE), (suppressed, _BELOW)):
            if i < len(tokens):
                piece, value = tokens[i]
                cells += [Text(fit(visible(piece), 24), style), number(value)]
            else:
                cells += ["", ""]
        table.add_row(*cells)
    return table


def tokens_line(tokens: Sequence[tuple[str, float]], most: int = 6) -> str:
    """Tokens in one line, their spaces visible."""
    return " ".join(f"“{fit(visible(piece), 16)}”" for piece, _ in tokens[:most])
