"""``neurogloss doctor``: what is installed, what is missing and how to get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from neurogloss.cli.options import Call, verb
from neurogloss.errors import ExitCode
from neurogloss.render.text import clean

if TYPE_CHECKING:
    from neurogloss.health import Finding

_MARKS = {"ok": ("✔", "green"), "missing": ("–", "yellow"), "broken": ("✘", "red")}


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb(app, "doctor")(doctor)


def doctor(call: Call) -> None:
    """Say what is installed, what device and database are used, and how to get what is missing.

    Ends with status 0 unless something that is needed is broken.

    [bold]Example[/bold]

      neurogloss doctor
    """
    from neurogloss.health import BROKEN, MISSING, examine

    findings = examine(call.settings)
    table = Table.grid(padding=(0, 1))
    for kind in ("section", "mark", "name"):
        table.add_column(no_wrap=True, style="dim" if kind == "section" else "")
    table.add_column(ratio=1, overflow="fold")
    section = None
    for line in by_extra(findings):
        told = Text(clean(line.value))
        if line.remedy:
            told.append(f"\n→ {clean(line.remedy)}", "cyan")
        mark, style = _MARKS[line.status]
        table.add_row("" if line.section == section else line.section, Text(mark, style), line.name, told)
        section = line.section
    broken = [f.name for f in findings if f.status == BROKEN]
    missing = [f.name for f in findings if f.status == MISSING]
    verdict = (
        Text(f"Broken: {', '.join(broken)}. See the arrows above.", "red")
        if broken
        else Text(f"Everything needed is here. Optional and missing: {', '.join(missing) or 'nothing'}.", "green")
    )
    call.emit(
        {"healthy": not broken, "broken": broken, "missing": missing, "findings": findings}, table, Text(), verdict
    )
    if broken:
        raise typer.Exit(int(ExitCode.USAGE))


def by_extra(findings: Sequence[Finding]) -> list[Finding]:
    """Findings with the packages of each optional extra drawn together into one."""
    from neurogloss.health import Finding

    lines: dict[str, list[Finding]] = {}
    for finding in findings:
        extra = finding.details.get("extra")
        lines.setdefault(f"[{extra}]" if extra else f"{finding.section} {finding.name}", []).append(finding)
    drawn = []
    for name, group in lines.items():
        if not group[0].details.get("extra"):
            drawn += group
            continue
        lacking = [f for f in group if f.status != "ok"]
        value = ", ".join(f"{f.name} {f.value}" for f in group)
        status, remedy = (lacking[0].status, lacking[0].remedy) if lacking else ("ok", None)
        drawn.append(Finding(group[0].section, name, status, value, remedy))
    return drawn
