"""``neurogloss evidence``: the lab notebook of a unit; rows of evidence withdrawn and put back; verdicts checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text
from typer.core import TyperGroup

from neurogloss.cli.options import Call, unwrapped, verb
from neurogloss.errors import ExitCode
from neurogloss.render.text import clean, count, probability

if TYPE_CHECKING:
    from agent.judging import Checked
    from store.invalidations import Amended

_DEFAULT = "of"


class _UnitFirst(TyperGroup):
    """A group whose first word may be a unit instead of a verb (unit ids have colons, verbs have none)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


HELP = """The evidence of a unit: what was supposed, tried, seen, claimed, tested and judged.

    [bold]neurogloss evidence UNIT[/bold] prints the lab notebook of a unit, in the order in which things were done:
    rivals, experiments with their arguments, seed and cost, what each brought back for and against which rival, the
    claim, the opening of sealed text, scores with intervals, verdicts with reasons, and what was withdrawn since. Every
    row has a name (E12, O31, S7, D4 ...), by which it can be cited in a chat (as experiment:12) and withdrawn here.

    Nothing is ever deleted. A row that is withdrawn stays where it is and does not count any more, and the verdicts
    that rested on it are set anew at once.

    [bold]Examples[/bold]

      neurogloss evidence mlp:2:17
      neurogloss evidence mlp:2:17 --campaign demo --full
      neurogloss evidence invalidate S7 --reason "scored on the wrong corpus"
      neurogloss evidence reinstate S7 --reason "it was the right one"
      neurogloss evidence check demo
"""

app = typer.Typer(cls=_UnitFirst, no_args_is_help=True, help=unwrapped(HELP), subcommand_metavar="UNIT | COMMAND")


def of(
    call: Call,
    *,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="mlp:LAYER:NEURON, head:LAYER:HEAD, sae:NAME:LATENT …")],
    campaign: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this campaign did.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where several subjects have such a unit: name or fingerprint.")
    ] = None,
    polarity: Annotated[str | None, typer.Option(metavar="+|-", help="Only what is about this side of zero.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Arguments and observations in full, all scores, all rivals.")
    ] = False,
) -> None:
    """Print the lab notebook of a unit.

    In the order in which it was done: what the unit's activations are, rival descriptions, experiments with what they
    brought back (✔ for, ✘ against, ~ undecided, – no bearing on a rival), the claim as it stood before sealed text was
    opened for it, its scores there, the verdicts and why, error control over the campaign, and what became of it later.

    [bold]Examples[/bold]

      neurogloss evidence mlp:2:17
      neurogloss evidence head:1:3 --polarity + --full
      neurogloss evidence sae:res:40 --campaign demo --json
    """
    import store.queries
    from neurogloss.errors import UsageError
    from neurogloss.render.notebook import notebook_page

    if polarity not in (None, "+", "-"):
        raise UsageError(f"--polarity is + or -, not '{polarity}'.")
    with call.database() as database:
        found = store.queries.notebook(database, unit, subject=subject, campaign=campaign)
    call.emit(found, *notebook_page(found, polarity=polarity, full=full, width=call.out.width))


def invalidate(
    call: Call,
    *,
    row: Annotated[
        str, typer.Argument(metavar="ROW", help="A score, experiment or observation: S7 (or score:7), E12, O31.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; shown wherever the row is.")],
) -> None:
    """Withdraw a score, an experiment or an observation.

    The row stays in the database and does not count any more; with an experiment, all that was observed in it. Verdicts
    that rested on it are set anew at once, from what is left, and so are the q-values of a closed campaign: that can
    change verdicts on other units too. What was withdrawn can be put back with reinstate.

    [bold]Examples[/bold]

      neurogloss evidence invalidate S7 --reason "scored on the wrong corpus"
      neurogloss evidence invalidate experiment:12 --reason "its prompts were cut off"
    """
    _amended(call, "withdraw", row, reason)


def reinstate(
    call: Call,
    *,
    row: Annotated[str, typer.Argument(metavar="ROW", help="A row that was withdrawn: S7, E12, O31.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept beside the reason before.")],
) -> None:
    """Put a withdrawn row back. Verdicts are set anew, to what they were if nothing else changed.

    [bold]Examples[/bold]

      neurogloss evidence reinstate S7 --reason "it was the right corpus after all"
    """
    _amended(call, "reinstate", row, reason)


def check(
    call: Call,
    *,
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its name.")],
    write: Annotated[
        bool, typer.Option("--write", help="Store the verdicts that follow from the rows, where they differ.")
    ] = False,
) -> None:
    """Work every verdict of a campaign out anew from its rows, and compare with what is stored.

    Scores, the claim, withdrawn rows and error control decide; nothing is run and no language model is asked. It finds
    what was changed behind the back of the program: a deleted score, a verdict that was edited. The status is 0 when
    everything follows from the rows and 1 when something does not.

    [bold]Examples[/bold]

      neurogloss evidence check demo
      neurogloss evidence check demo --write
    """
    import store

    with call.database() as database:
        store.get_campaign(database, campaign)  # before the libraries are loaded: names those that there are
        call.load_libraries()
        from agent import judging

        found = judging.check(database, campaign, write=write)
    call.emit(found.to_json(), *_checked(found))
    if found.differences:
        raise typer.Exit(int(ExitCode.FAULT))


verb(app, _DEFAULT)(of)
verb(app, "invalidate")(invalidate)
verb(app, "reinstate")(reinstate)
verb(app, "check")(check)


def _amended(call: Call, action: str, row: str, reason: str) -> None:
    import store
    from store.queries.citations import parse_ref

    ref = parse_ref(row)
    with call.database() as database:
        call.load_libraries()
        from agent.judging import judge

        found: Amended = getattr(store, action)(database, ref, reason, judge)
    call.emit(found, *_change(found))


def _change(found: Amended) -> list[RenderableType]:
    done = "withdrawn" if found.action == "invalidated" else "put back"
    head = Text(f"{found.row} of {clean(found.unit)} ({clean(found.campaign)}) is {done}: {clean(found.reason)}")
    lines: list[RenderableType] = [head]
    for change in found.changes:
        half = "fires on" if change.half == "input" else "when on"
        lines.append(Text(f"  {clean(change.unit)}{change.polarity} {half}: {change.before} → {change.after}", "bold"))
        lines += [Text(f"    {clean(reason)}", "dim") for reason in change.reasons[-2:]]
    lines += [
        Text(f"  {clean(found.unit)} rival {clean(one.key)}: {one.before} → {one.after}", "bold")
        for one in found.rivals
    ]
    if not found.changes and not found.rivals:
        lines.append(Text("  No verdict is another for it.", "dim"))
    return lines


def _checked(found: Checked) -> list[RenderableType]:
    gone = f", {count(found.withdrawn)} rows withdrawn" if found.withdrawn else ""
    claims = f"{count(found.claims)} claims of campaign '{clean(found.campaign)}'{gone}"
    if not found.differences:
        return [Text(f"Everything follows from the rows: {claims}.", "green")]
    lines: list[RenderableType] = [
        Text(f"{count(len(found.differences))} values do not follow from the rows: {claims}.", "bold red")
    ]
    lines += [
        Text(
            f"  {clean(one.unit)}{one.polarity} {one.row} {clean(one.what)}: stored {_value(one.stored)}, follows "
            f"{_value(one.derived)}"
        )
        for one in found.differences
    ]
    after = "The values that follow are stored now." if found.written else "--write stores what follows from the rows."
    return [*lines, Text(after, "dim")]


def _value(value: str | float | None) -> str:
    if value is None:
        return "none"
    return clean(value) if isinstance(value, str) else probability(value)
