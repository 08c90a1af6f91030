"""``neurogloss campaign report``: what came of a campaign, and whether to believe it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from neurogloss.cli.options import Call, verb
from neurogloss.errors import UsageError
from neurogloss.render.console import print_message, to_plain

if TYPE_CHECKING:
    from agent.reporting import CampaignReport

FORMATS = ("md", "html", "json")
_ENDINGS = {".md": "md", ".markdown": "md", ".html": "html", ".htm": "html", ".json": "json"}


def register(app: typer.Typer) -> None:
    """Adds the verb to the group of campaign verbs."""
    verb(app, "report")(report)


def report(
    call: Call,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A campaign of the database; see campaign list.")],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="md|html|json", help="(the ending of --out, or md)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there instead of to standard output.")
    ] = None,
) -> None:
    """Report on a campaign: green or red, and why.

    Scores against those of blind controls, how many accepted descriptions are expected to be false, whether scores and
    p-values are what they say, cost, failures. HTML is one file with plots inside, and loads nothing from anywhere.

    [bold]Examples[/bold]

      neurogloss campaign report demo
      neurogloss campaign report demo --out report.html
      neurogloss campaign report demo --format json
    """
    wanted = _format(call, form, out)
    from agent.reporting import campaign_report

    with call.database() as database:
        found = campaign_report(database, name)
    text = _written(found, wanted)
    if out is None:
        call.out.file.write(text)
        return
    _write(out, text)
    print_message(call.err, Text(f"Campaign {name} is {found.colour}; its report is in {out}."))


def _format(call: Call, form: str | None, out: Path | None) -> str:
    """The format that was asked for, by --format, --json, or the ending of --out."""
    if form is not None:
        if form not in FORMATS:
            raise UsageError(f"There is no report format '{form}'. Choose one of: {', '.join(FORMATS)}.")
        return form
    if call.json:
        return "json"
    if out is None:
        return "md"
    if out.suffix.lower() not in _ENDINGS:
        raise UsageError(f"Which format is '{out}' to have? Name it .md, .html or .json, or say --format.")
    return _ENDINGS[out.suffix.lower()]


def _written(found: CampaignReport, form: str) -> str:
    if form == "json":
        return json.dumps(to_plain(found.to_json()), indent=2, allow_nan=False) + "\n"
    if form == "html":
        from neurogloss.render.report_html import report_html

        return report_html(found)
    from neurogloss.render.report_markdown import report_markdown

    return report_markdown(found)


def _write(path: Path, text: str) -> None:
    """Writes the whole file or nothing: a report that was there before stays until the new one is complete."""
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder. Name a file in it, such as {path / 'report.html'}.")
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError as error:
        raise UsageError(f"There is no folder '{path.parent}' to write '{path.name}' to.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp lets nobody else read; a report is like any other file.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
