"""A campaign run from the command line: progress while it runs, results at its end, a clean stop on Ctrl-C."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from agent.campaign import run_campaign as run_agent
from agent.progress import Estimate, Summary
from agent.spec import CampaignSpec
from neurogloss.cli.campaign import summary_of
from neurogloss.cli.interrupt import stopping_on_ctrl_c
from neurogloss.cli.options import Call
from neurogloss.cli.watch import Watcher, estimate_line
from neurogloss.errors import ExitCode
from neurogloss.render.console import print_message
from neurogloss.render.progress import make_display
from neurogloss.render.text import clean
from neurogloss.settings import sqlite_file

#: From this many seconds on, a campaign is not begun from a terminal without asking.
_LONG = 30 * 60
#: Best-supported descriptions shown at the end.
_SHOWN = 15


def run_campaign(call: Call, spec: CampaignSpec, *, dry_run: bool, yes: bool, retry_failed: bool = False) -> None:
    """Runs or continues a campaign and prints how it ended.

    Raises:
        typer.Exit: It was interrupted (status 130).
        NeuroglossError, StoreError: As `agent.campaign.run_campaign` raises them.
    """
    estimates: list[Estimate] = []
    with make_display(call.err) as display, stopping_on_ctrl_c(display) as stop, _database(call, dry_run) as database:
        watcher = Watcher(display, tell_estimate=not dry_run)

        def confirm(estimate: Estimate) -> bool:
            estimates.append(estimate)
            if dry_run:
                return False
            return yes or estimate.seconds < _LONG or display.ask("Begin?")

        summary = run_agent(
            spec, db=database, home=call.settings.home.expanduser(), observer=watcher, stop=stop,
            confirm=confirm, retry_failed=retry_failed,
        )  # fmt: skip
    if dry_run:
        # A campaign that is done already has nothing to estimate.
        lines = [Text(estimate_line(e)) for e in estimates] or [Text("There is nothing left to do.")]
        call.emit({"estimate": estimates[0] if estimates else None, "summary": summary}, *lines)
    elif summary is None:
        call.emit({"estimate": estimates[0], "summary": None}, Text("Nothing was begun."))
    else:
        _finish(call, summary, watcher.limit)


@contextmanager
def _database(call: Call, dry_run: bool) -> Iterator[str]:
    """The database to use; for a dry run where there is none yet, one that is thrown away."""
    database = call.settings.database
    file = sqlite_file(database)
    if dry_run and file is not None and not file.is_file():
        with tempfile.TemporaryDirectory(prefix="neurogloss-") as folder:
            yield str(Path(folder) / "dry-run.db")
    else:
        yield database


def _finish(call: Call, summary: Summary, limit: str | None) -> None:
    """Prints what came of it, and what is left to do."""
    told, *page = summary_of(call, summary.campaign, _SHOWN)
    value: dict[str, Any] = {"run": summary.to_json(), **told}
    call.emit(value, *page)
    print_message(call.err, _ending(summary, limit))
    if summary.status == "interrupted":
        raise typer.Exit(int(ExitCode.INTERRUPTED))


def _ending(summary: Summary, limit: str | None) -> Text:
    """What is to be said after the results: why it stopped and how to go on."""
    again = f"neurogloss campaign resume {clean(summary.campaign)}"
    left = summary.tally.pending + summary.tally.leased
    if summary.already_done:
        return Text("This campaign was done already; nothing was run.", "green")
    if summary.status == "done":
        return Text("Done.", "green")
    if summary.status == "interrupted":
        return Text(f"Stopped; {left} units are left and nothing is lost. Go on with:\n  {again}", "yellow")
    if summary.status == "running":
        return Text(f"Another process is still at work on {left} units of this campaign.", "yellow")
    return Text(
        f"Not done: {clean(summary.reason or summary.status)}; {left} units are left. Go on with a larger limit:\n"
        f"  {again} --budget-{(limit or 'units').replace('_', '-')} N",
        "yellow",
    )
