"""``neurogloss units``: which units there are and what is said of them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from neurogloss.cli.options import Call, verb
from neurogloss.errors import UsageError
from neurogloss.render.described import described_table
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, share

if TYPE_CHECKING:
    from store.rows import FoundUnit


class Kind(enum.StrEnum):
    """Kinds of units."""

    MLP = "mlp"
    HEAD = "head"
    SAE = "sae"
    FN = "fn"
    DIR = "dir"


class Verdict(enum.StrEnum):
    """Verdicts on a half."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    UNTESTED = "untested"


class Does(enum.StrEnum):
    """What an output half claims."""

    CHANGES = "changes"
    VARIES = "varies"
    LATER = "later"
    NOTHING = "nothing"
    UNTESTED = "untested"


class Order(enum.StrEnum):
    """What comes first."""

    SUPPORT = "support"
    F1 = "f1"
    DENSITY = "density"
    NEWEST = "newest"
    UNIT = "unit"


class State(enum.StrEnum):
    """What triage found."""

    ALIVE = "alive"
    DEAD = "dead"
    DENSE = "dense"
    DUPLICATE = "duplicate"


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb(app, "units")(units)


def units(
    call: Call,
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Which units: 'mlp:2:*', 'head:*:*', 'mlp:0:0-99;sae:res:*'.")
    ] = "*",
    campaign: Annotated[str | None, typer.Option(metavar="NAME", help="Descriptions of this campaign.")] = None,
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="Name or fingerprint of a subject.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Units of one kind.")] = None,
    layer: Annotated[int | None, typer.Option(min=0, help="Units of one layer.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="By the verdict on what a unit fires on.")] = None,
    verdict_output: Annotated[Verdict | None, typer.Option(help="By the verdict on what a unit does.")] = None,
    does: Annotated[
        Does | None, typer.Option(help="By what is said of its effect: tokens change, nothing does, …")
    ] = None,
    min_f1: Annotated[float | None, typer.Option("--min-f1", min=0, max=1, help="Least F1 on sealed text.")] = None,
    state: Annotated[
        State | None, typer.Option(help="Units that triage found to be so, described or not; no other filter.")
    ] = None,
    sort: Annotated[
        Order, typer.Option(help="'support': supported first, by the interval's lower end.")
    ] = Order.SUPPORT,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 40,
) -> None:
    """List units with the best description of each of their sides.

    F1 is weighted by importance, on text that the explainer never saw, with its 95 % interval.

    [bold]Examples[/bold]

      neurogloss units
      neurogloss units 'mlp:2:*' --min-f1 0.5 --sort f1
      neurogloss units --campaign demo --verdict refuted --json
      neurogloss units --does nothing --verdict-output supported
      neurogloss units --state dead
    """
    from neurogloss.results import described_units
    from store.queries import find_units

    with call.database() as database:
        if state is not None:
            if any(value is not None for value in (campaign, kind, layer, verdict, verdict_output, does, min_f1)):
                raise UsageError(
                    "--state goes with PATTERN, --subject and --limit only: it lists units by triage alone."
                )
            found = find_units(database, pattern, subject=subject, state=state.value, limit=limit)
            nothing = Text(f"No unit of '{clean(pattern)}' is {state.value}.")
            call.emit(found, _found_table(found) if found else nothing)
            return
        rows = described_units(
            database, pattern, campaign=campaign, subject=subject, kind=None if kind is None else kind.value,
            layer=layer, verdict=None if verdict is None else verdict.value,
            verdict_output=None if verdict_output is None else verdict_output.value,
            does=None if does is None else does.value, min_f1=min_f1, order=sort.value, limit=limit,
        )  # fmt: skip
    if rows:
        more = f"Shown: the first {limit}; --limit shows more. " if len(rows) == limit else ""
        call.emit(rows, described_table(rows), Text(), Text(f"{more}More of one: neurogloss show UNIT", "dim"))
    else:
        call.emit(rows, Text("No described unit fits. 'neurogloss campaign list' says what there is."))


def _found_table(found: Sequence[FoundUnit]) -> Table:
    table = simple_table(("unit", "left"), ("state", "left"), ("active", "right"), ("about", "left"), grow="about")
    for one in found:
        unit = one.unit
        told = "; ".join(f"{row.polarity} {clean(row.label)}" for row in one.descriptions)
        if not told and unit.duplicate_of:
            told = f"duplicates {unit.duplicate_of}"
        table.add_row(clean(unit.unit), unit.state, share(unit.density), told)
    return table
