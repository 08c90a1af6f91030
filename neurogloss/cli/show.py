"""``neurogloss show``: everything that is known of one unit, on one page."""

from __future__ import annotations

from typing import Annotated

import typer

from neurogloss.cli.options import Call, verb
from neurogloss.render.console import has_colour
from neurogloss.render.page import unit_page


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb(app, "show")(show)


def show(
    call: Call,
    *,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="mlp:LAYER:NEURON, head:LAYER:HEAD, sae:NAME:LATENT …")],
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where several subjects have such a unit: name or fingerprint.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this campaign found.")] = None,
    examples: Annotated[int, typer.Option(min=0, max=48, help="Strongest examples to show of each side.")] = 8,
) -> None:
    """Show everything that is known of one unit.

    What it is said to fire on and to do, the verdicts, the score with its interval against the null, how its
    activations are spread, its strongest examples with the activating tokens marked, and how all that was found.
    Spaces in token text are shown as ·, line ends as ⏎.

    [bold]Examples[/bold]

      neurogloss show mlp:2:17
      neurogloss show sae:res:40 --campaign demo --json
    """
    import store.queries

    with call.database() as database:
        page = store.queries.unit_page(database, unit, subject=subject, campaign=campaign)
    call.emit(page, *unit_page(page, colour=has_colour(call.out), width=call.out.width, examples=examples))
