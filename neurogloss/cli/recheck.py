"""``neurogloss recheck``: do a campaign's descriptions hold of another version of the subject?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from neurogloss.cli.options import Call, pairs, verb
from neurogloss.render.text import clean, count, score

if TYPE_CHECKING:
    from agent.recheck import Recheck, Rechecked

_MARKS = {"stable": ("✔", "green"), "weakened": ("~", "yellow"), "moved": ("→", "cyan"), "gone": ("✘", "red")}


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb(app, "recheck")(recheck)


def recheck(
    call: Call,
    *,
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="A finished campaign of the database.")],
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The other version: a folder, a hub id. (the campaign's own, with another --dtype)"
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16: of the other version.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dictionary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Dictionary of the other version; may be repeated. (the campaign's)"),
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(metavar="VERDICT", help="Only descriptions with this verdict, such as supported.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, metavar="N", help="Rows to show; --json has all.")] = 20,
) -> None:
    """Test a campaign's descriptions on another checkpoint, fine-tune or quantisation of its subject.

    The tests are the campaign's own: the same sealed texts, thresholds and rules, at a fraction of its cost and without
    a language model. Each description comes out stable, weakened, moved (to the unit that does it now) or gone, with
    the F1 of its rule before and after.

    [bold]Examples[/bold]

      neurogloss recheck demo --dtype bfloat16
      neurogloss recheck layer-five --subject ./my-finetune
      neurogloss recheck layer-five --subject ./step-2000 --verdict supported --json
    """
    import store

    with call.database() as database:
        known = store.get_campaign(database, campaign)
        name = subject or str(known.spec["subject"])
    call.load_libraries()
    from agent import recheck as again

    with call.database() as database, _bar(call) as bar:
        task = bar.add_task("both models on sealed text", total=None)
        found = again.recheck(
            database, campaign, name, device=device, dtype=dtype, only=verdict,
            dictionaries=pairs(dictionary, "--dictionary") or None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    call.emit(found.to_json(), *_page(found, show))


def _bar(call: Call) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=call.err, transient=True
    )


def _page(found: Recheck, show: int) -> list[RenderableType]:
    head = Text.assemble((f"campaign {clean(found.campaign)}", "bold"), f" on {clean(found.subject)}")
    counts = Table.grid(padding=(0, 2))
    for _ in range(3):
        counts.add_column()
    for status, number in found.counts.items():
        mark, style = _MARKS[status]
        share = number / len(found.rows)
        counts.add_row(Text(f"{mark} {status}", style), str(number), f"{share:.0%}")
    apart = ", ".join(f"{group} {value:.2f}" for group, value in list(found.neuron_wise.items())[:6])
    more = ", …" if len(found.neuron_wise) > 6 else ""
    notes = [
        Text(
            f"The models: neuron-wise correlation {apart}{more}; delta activations {found.delta:.2g} of the old ones."
        ),
        Text(
            f"{count(found.positions)} sealed positions, {found.seconds:.0f} s; the campaign's investigations took "
            f"{found.campaign_seconds:.0f} s.",
            "dim",
        ),
    ]
    changed = [row for row in found.rows if row.status != "stable"]
    rest = [row for row in found.rows if row.status == "stable"]
    shown = (changed + rest)[:show]
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("unit", no_wrap=True)
    table.add_column("F1", justify="right", no_wrap=True)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("what became of it", overflow="ellipsis", no_wrap=True)
    for row in shown:
        table.add_row(*_line(row))
    left = len(found.rows) - len(shown)
    tail = [Text(f"and {left} more: --show {len(found.rows)}, or --json", "dim")] if left and show else []
    return [head, Text(), counts, Text(), *notes, Text(), *([table] if shown else []), *tail]


def _line(row: Rechecked) -> list[RenderableType]:
    mark, style = _MARKS[row.status]
    f1 = "" if row.f1_old is None else score(row.f1_old)
    now = "" if row.f1_new is None else score(row.f1_new)
    also = f"; also {', '.join(row.also[:2])}" if row.also else ""
    target = f"{row.moved_to}: " if row.moved_to else ""
    return [Text(mark, style), f"{row.unit}{row.polarity}", f1, now, Text(f"{target}{row.why}{also}")]
