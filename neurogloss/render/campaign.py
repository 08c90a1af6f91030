"""A campaign's page, and the list of campaigns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from neurogloss.render.controls import controls_lines
from neurogloss.render.described import described_table
from neurogloss.render.output import effects_table, output_outcome_lines
from neurogloss.render.tables import bullet_lines, facts, simple_table
from neurogloss.render.text import VERDICTS, clean, count, duration, fit, money, score, share

if TYPE_CHECKING:
    from store.rows import CampaignRow, CampaignSummary, DescribedRow, KindSummary

_KINDS = {"mlp": "neurons", "head": "heads", "sae": "latents", "dir": "directions", "fn": "functions"}
_LIMITS = ("units", "seconds", "tool_calls")
#: Limits on language models, and how what they limit is told.
_LLM_LIMITS: Mapping[str, tuple[Callable[[float], str], str]] = {
    "llm_calls": (count, " LLM calls"),
    "llm_tokens": (count, " LLM tokens"),
    "llm_dollars": (money, ""),
}


def campaign_list(rows: Sequence[CampaignRow]) -> Table:
    """Campaigns, one a line."""
    table = simple_table(
        ("campaign", "left"), ("subject", "left"), ("status", "left"), ("units", "right"), ("done", "right"),
        ("failed", "right"), ("supported", "right"), ("begun", "left"),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            fit(clean(row.campaign), 22), fit(clean(Path(row.subject or "–").name), 14), row.status,
            count(row.investigations), count(row.done + row.skipped), count(row.failed), count(row.supported),
            (row.created_at or "–")[:10],
        )  # fmt: skip
    return table


def campaign_page(
    summary: CampaignSummary, best: Sequence[DescribedRow], *, width: int, command: str = "neurogloss"
) -> list[RenderableType]:
    """What came of a campaign, and how to see more: with `command`, which reaches the same database."""
    row = summary.campaign
    title = Text.assemble(("campaign ", ""), (clean(row.campaign), "bold"), f", {row.status}")
    spec = summary.spec
    about = facts(
        ("subject", clean(str(row.subject or spec.get("subject", "–")))),
        ("corpus", _optional(spec, "corpus")),
        ("explainer", _optional(spec, "explainer")),
        ("begun", (row.created_at or "–") + (f", closed {row.finished_at}" if row.finished_at else "")),
        ("used", _used(row, summary.budget)),
    )
    parts: list[RenderableType] = [title, Rule(style="dim", characters="─"), about, Text(), _kinds(summary)]
    effects = effects_table(_rows(summary))
    parts += [Text(), effects] if effects is not None else []
    notes = _notes(summary.total, summary.well_described_f1)
    parts += [Padding(notes, (1, 0, 0, 0))] if notes.plain else []
    parts += controls_lines(summary.outcome)
    parts += output_outcome_lines(summary.outcome)
    if summary.failures:
        parts += [Text(), *_failures(summary)]
    if best:
        parts += [Text(), Text("Best-supported descriptions", "bold"), described_table(best)]
    name = clean(row.campaign)
    hints = [f"{command} units --campaign {name}", *([f"{command} show '{best[0].unit}'"] if best else [])]
    if row.pending + row.leased:
        hints.append(f"{command} campaign resume {name}")
    parts += [Text(), Text("See more", "bold"), bullet_lines(hints)]
    return parts


def _optional(spec: Mapping[str, Any], name: str) -> str | None:
    return None if spec.get(name) is None else str(spec[name])


def _used(row: CampaignRow, budget: Mapping[str, Any]) -> str:
    """What was used of each limit; without a limit what was used."""
    used = {"units": row.done + row.failed, "seconds": row.seconds, "tool_calls": row.tool_calls}
    parts = []
    for name in _LIMITS:
        limit = budget.get(name)
        shown = duration(used[name]) if name == "seconds" else f"{count(used[name])} {name.replace('_', ' ')}"
        parts.append(shown + (f" of {duration(limit) if name == 'seconds' else count(limit)}" if limit else ""))
    if row.llm_calls or any(budget.get(name) for name in _LLM_LIMITS):
        used_up = {"llm_calls": row.llm_calls, "llm_tokens": row.tokens, "llm_dollars": row.dollars}
        for name, (told, what) in _LLM_LIMITS.items():
            limit, value = budget.get(name), used_up[name]
            if value is not None or limit:
                parts.append(told(value or 0) + what + (f" of {told(limit)}" if limit else ""))
    return ", ".join(parts)


def _rows(summary: CampaignSummary) -> list[tuple[str, KindSummary]]:
    """Each kind of unit with what came of it, and all together where there are several."""
    rows = [(_KINDS.get(kind, kind), one) for kind, one in summary.kinds.items()]
    return [*rows, *([("all", summary.total)] if len(rows) > 1 else [])]


def _kinds(summary: CampaignSummary) -> Table:
    """One line a kind of unit: how the work stands, verdicts, medians."""
    table = simple_table(
        ("", "left"), ("units", "right"), ("done", "right"), ("skip", "right"), ("fail", "right"),
        *((VERDICTS[v][0], "right") for v in VERDICTS), ("F1", "right"), ("AP", "right"), ("r", "right"),
        (f"F1≥{summary.well_described_f1:g}", "right"),
    )  # fmt: skip
    for name, one in _rows(summary):
        jobs = one.investigations
        table.add_row(
            name, count(sum(jobs.values())), count(jobs.get("done", 0)), count(jobs.get("skipped", 0)),
            count(jobs.get("failed", 0)), *(count(one.verdicts_input.get(v, 0)) for v in VERDICTS),
            score(one.median_f1), score(one.median_average_precision), score(one.median_pearson),
            f"{count(one.well_described)} ({share(one.well_described_share)})",
            style="bold" if name == "all" else "",
        )  # fmt: skip
    return table


def _notes(total: KindSummary, least_f1: float) -> Text:
    legend = ", ".join(f"{mark} {word}" for word, (mark, _) in VERDICTS.items())
    lines = [
        f"{legend}. F1, AP, r: medians of importance-weighted F1, average precision and Pearson correlation on sealed "
        f"text. F1≥{least_f1:g}: supported, and as good as that. When on: verdicts on what units do, and of the "
        "supported ones how many change named tokens, predictions that vary by text, later predictions, or nothing."
    ]
    skipped = {state: n for state, n in total.states.items() if state != "alive" and n}
    if skipped:
        lines.append("Skipped by triage: " + ", ".join(f"{count(n)} {state}" for state, n in skipped.items()) + ".")
    return Text("\n".join(lines), "dim")


def _failures(summary: CampaignSummary) -> list[RenderableType]:
    failed = summary.total.investigations.get("failed", len(summary.failures))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for failure in summary.failures[:8]:
        table.add_row(clean(failure.unit), fit(clean(failure.reason or "no reason recorded"), 160))
    more = failed - min(8, len(summary.failures))
    tail = [Text(f"… and {count(more)} more (--json has their reasons)", "dim")] if more > 0 else []
    return [Text(f"Failed: {count(failed)}", "bold red"), table, *tail]
