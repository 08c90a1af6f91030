"""``neurogloss campaign replay``: does a finished campaign, run again from what was recorded, say the same?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from neurogloss.cli.options import Call, verb
from neurogloss.errors import ExitCode
from neurogloss.render.text import clean, count, fit

if TYPE_CHECKING:
    from agent.replay import Replayed

#: Cells of a difference that is shown; --json has all of it.
_SHOWN = 240


def register(app: typer.Typer) -> None:
    """Adds the verb to the group of campaign verbs."""
    verb(app, "replay")(replay)


def replay(
    call: Call,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A finished campaign of the database.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the replay in this new database. (thrown away)")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Investigations at once.")] = None,
) -> None:
    """Run a finished campaign again from what was recorded, and compare.

    The model under study runs as before; language models are not asked, their answers are those of the database. What
    both runs found is then compared, but for moments, costs and numbers of attempts. The status is 0 when they say the
    same and 1 when they do not.

    [bold]Examples[/bold]

      neurogloss campaign replay demo
      neurogloss campaign replay demo --out again.db
    """
    import store

    with call.database() as database:
        store.get_campaign(database, name)  # before the libraries are loaded: names those that there are

    call.load_libraries()
    from agent.replay import replay_campaign
    from neurogloss.cli.interrupt import stopping_on_ctrl_c
    from neurogloss.cli.watch import Watcher
    from neurogloss.render.progress import make_display

    with make_display(call.err) as display, stopping_on_ctrl_c(display) as stop, call.database() as database:
        found = replay_campaign(
            database, name, home=call.settings.home.expanduser(), out=out, workers=workers,
            observer=Watcher(display, tell_estimate=False), stop=stop,
        )  # fmt: skip
    if found is None:
        raise KeyboardInterrupt
    call.emit(found.to_json(), *_told(found))
    if not found.same:
        raise typer.Exit(int(ExitCode.FAULT))


def _told(found: Replayed) -> list[RenderableType]:
    answers = f", {count(found.answers)} answers of language models from the record" if found.answers else ""
    did = f"{count(found.investigations)} investigations{answers}"
    kept = [Text(f"The replay is kept in {clean(found.out)}.")] if found.out is not None else []
    if found.same:
        return [Text(f"The same: campaign '{clean(found.campaign)}', {did}.", "green"), *kept]
    lines = [Text(f"  {fit(clean(line), _SHOWN)}") for line in found.differences]
    return [
        Text(f"Different: campaign '{clean(found.campaign)}', {did}. In the database ≠ in the replay:", "bold red"),
        *lines, *kept,
    ]  # fmt: skip
