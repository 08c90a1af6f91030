"""A conversation in a terminal: answers within its width, names of rows dim, what happens meanwhile in a line each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, count, duration, fit, money, verbatim

if TYPE_CHECKING:
    from agent.chat.costs import Estimate
    from agent.chat.events import Answer
    from store.queries.chats import ChatRow

_CITE = re.compile(r"\[[a-z]+:\d+\]")
_MARK = re.compile(r"^\s*(?:[-*•]\s+|\d{1,2}[.)]\s+)?")
#: Columns that are read with ease.
_WIDEST = 100


def answer_text(text: str, width: int) -> Text:
    """An answer, its lines broken at words; what follows hangs under the first."""
    room = max(20, min(width, _WIDEST) - 1)
    lines: list[str] = []
    for line in text.split("\n"):
        plain = verbatim(line.rstrip())
        hang = len((_MARK.match(plain) or [""])[0])
        # An indented line that goes on is indented a little more; a list item hangs under its words.
        hang = min(hang if plain.lstrip()[:1] in "-*•" or hang == 0 else hang + 2, 12)
        lines += textwrap.wrap(
            plain, room, subsequent_indent=" " * hang, break_on_hyphens=False, drop_whitespace=True,
            replace_whitespace=False,
        ) or [""]  # fmt: skip
    shown = Text("\n".join(lines))
    shown.highlight_regex(_CITE, "dim")
    return shown


def after_line(answer: Answer) -> Text | None:
    """What an answer took, and what was left out of it; None where there is nothing to say."""
    parts = []
    if answer.removed:
        parts.append(f"left out: {', '.join(clean(one) for one in answer.removed[:6])}")
    if answer.llm:
        calls = answer.llm["calls"]
        told = f"{calls} LLM call{'' if calls == 1 else 's'}, {count(answer.llm['tokens'])} tokens"
        if answer.llm["dollars"] is not None:
            told += f", {money(answer.llm['dollars'])}"
        parts.append(told)
        parts.append(duration(answer.seconds))
    return Text("; ".join(parts), "dim") if parts else None


def used_line(tool: str, cite: str, summary: str, width: int) -> Text:
    """That a tool was used."""
    return Text(fit(f"  {clean(tool)} {cite} {clean(summary)}", max(20, min(width, _WIDEST) - 1)), "dim")


def confirm_lines(tool: str, arguments: dict[str, Any], estimate: Estimate) -> Text:
    """What is about to be done, and about what it costs."""
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if value is not None)
    cost = [f"{count(estimate.forward_passes)} forward passes", f"{count(estimate.tokens)} tokens",
            duration(estimate.seconds)]  # fmt: skip
    cost += [money(estimate.dollars)] if estimate.dollars is not None else []
    return Text(f"{clean(tool)}({fit(clean(given), 200)})\nwould take about {', '.join(cost)}.", "yellow")


def chats_table(rows: Sequence[ChatRow]) -> Table:
    """Conversations, one a line."""
    table = simple_table(
        ("id", "right"), ("last", "left"), ("turns", "right"), ("tools", "right"), ("began with", "left"),
        grow="began with",
    )  # fmt: skip
    for row in rows:
        when = (row.last_at or row.created_at or "").replace("T", " ")[:16]
        table.add_row(str(row.chat_id), when, str(row.questions), str(row.tool_uses), clean(row.title))
    return table
