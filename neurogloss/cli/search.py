"""``neurogloss search``: descriptions by their words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from neurogloss.cli.options import Call, verb
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, interval, verdict

if TYPE_CHECKING:
    from store.rows import SearchHit


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb(app, "search")(search)


def search(
    call: Call,
    *,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words to look for; anything else as it stands.")],
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="Name or fingerprint of a subject.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 20,
) -> None:
    """Find descriptions by what they say: labels, both halves, exceptions and rules.

    All words must occur, in any form of theirs; where nothing has them all, any of them will do.

    [bold]Examples[/bold]

      neurogloss search "opening bracket"
      neurogloss search quotes --json
    """
    import store.search

    with call.database() as database:
        hits = store.search.search_text(database, text, limit, subject=subject)
    if not hits and not call.json:
        call.emit([], Text(f"No description matches '{clean(text)}'."))
        return
    table = simple_table(("", "left"), ("unit", "left"), ("F1 [95 %]", "left"), ("match", "left"), grow="match")
    for hit in hits:
        row = hit.description
        table.add_row(
            verdict(row.verdict_input), f"{clean(row.unit)}{row.polarity}",
            interval(row.f1, row.f1_low, row.f1_high), _snippet(hit),
        )  # fmt: skip
    call.emit(hits, table, Text(), Text("More of one: neurogloss show UNIT", "dim"))


def _snippet(hit: SearchHit) -> Text:
    """The label, and below it the matching passage where that is elsewhere; matches are bold."""
    out = Text() if hit.field == "label" else Text(f"{clean(hit.description.label)}\n  ")
    at = 0
    for start, end in hit.highlights:
        out.append(clean_part(hit.snippet[at:start]))
        out.append(clean_part(hit.snippet[start:end]), "bold")
        at = end
    out.append(clean_part(hit.snippet[at:]))
    return out


def clean_part(text: str) -> str:
    """`clean` that keeps a space at either end, so that parts can be joined."""
    head = " " if text[:1].isspace() else ""
    tail = " " if text[-1:].isspace() and text.strip() else ""
    return head + clean(text) + tail
