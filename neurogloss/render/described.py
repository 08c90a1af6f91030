"""Descriptions one a line: the table that `units`, `campaign show` and the end of a campaign print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from neurogloss.render.tables import Side, simple_table
from neurogloss.render.text import clean, fit, interval, share, verdict

if TYPE_CHECKING:
    from store.rows import DescribedRow


def described_table(rows: Sequence[DescribedRow]) -> Table:
    """Verdict, unit with its side, F1 with its interval, how often it is active, label; the subject if several."""
    several = len({row.fingerprint for row in rows}) > 1
    columns: list[tuple[str, Side]] = [("", "left"), ("unit", "left")]
    columns += [("subject", "left")] if several else []
    table = simple_table(*columns, ("F1 [95 %]", "left"), ("active", "right"), ("label", "left"), grow="label")
    for row in rows:
        table.add_row(
            verdict(row.verdict_input), f"{clean(row.unit)}{row.polarity}",
            *([fit(clean(row.subject), 12)] if several else []),
            interval(row.f1, row.f1_low, row.f1_high), share(row.density), clean(row.label),
        )  # fmt: skip
    return table
