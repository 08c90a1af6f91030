"""``neurogloss activate``: what a unit does on a text of your own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurogloss.cli.model import ModelCall, model_verb
from neurogloss.errors import UsageError
from neurogloss.render.console import has_colour
from neurogloss.render.text import clean, number, score, visible
from neurogloss.render.tokens import heat_text

if TYPE_CHECKING:
    from neurogloss.probe import Probe

_BAR = 24


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "activate")(activate)


def activate(
    call: ModelCall,
    *,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="The unit, such as mlp:3:17 or head:1:0.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to run; '-' reads standard input.")],
) -> None:
    """Run the model on a text and show the unit's activation at every token.

    The first position of a text is left out of the scale: models use it as a sink, and its activations mean little.

    [bold]Examples[/bold]

      neurogloss activate mlp:2:17 "def f(x): return x"
      neurogloss activate head:1:0 "Once upon a time" --subject ./stories260k --json
      cat file.py | neurogloss activate sae:res:40 -
    """
    if text == "-":
        text = sys.stdin.read()
    if not text:
        raise UsageError("There is no text to run. Give some after the unit, or pipe it in with '-'.")
    subject = call.load(unit)
    from neurogloss.probe import probe

    found = probe(subject, unit, text)
    call.emit(found, *_page(found, has_colour(call.out)))


def _page(found: Probe, colour: bool) -> list[RenderableType]:
    # Position 0 is a sink: it is shown, but not on the scale.
    scale = max((abs(v) for v in found.activations[1:]), default=0.0)
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim")
    table.add_column(justify="right")
    table.add_column(width=_BAR)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for position, (token, value) in enumerate(zip(found.tokens, found.activations, strict=True)):
        style = "dim" if position == 0 else "yellow" if value > 0 else "blue"
        looked = ""
        if found.attended is not None:
            source = found.attended[position]
            looked = f"← {source.position} {visible(source.token)} ({score(source.weight)})"
        table.add_row(str(position), number(value), Text(_bar(value, scale), style), visible(token), looked)
    head = Text.assemble((found.unit, "bold"), f" of {clean(found.subject)}, {len(found.tokens)} tokens")
    if len(found.tokens) > 1:
        strongest = max(range(1, len(found.tokens)), key=lambda i: abs(found.activations[i]))
        head.append(f", strongest {number(found.activations[strongest])} at {strongest}")
    notes = [Text("The text was longer than the model's context; its end was left out.", "yellow")]
    running = heat_text(found.tokens, [0.0, *found.activations[1:]], colour=colour)
    return [head, *(notes if found.truncated else []), Text(), running, Text(), table]


def _bar(value: float, scale: float) -> str:
    eighths = round(min(1.0, abs(value) / scale) * _BAR * 8) if scale else 0
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
