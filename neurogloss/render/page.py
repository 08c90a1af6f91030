"""A unit's page, as in a lab notebook: what is claimed, how well it held, what it looks like, how it was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from neurogloss.render.histogram import histogram
from neurogloss.render.output import output_lines
from neurogloss.render.predictions import predictions_table
from neurogloss.render.scores import scores_table
from neurogloss.render.tables import facts
from neurogloss.render.text import (
    clean,
    count,
    duration,
    fit,
    money,
    number,
    score,
    share,
    verbatim,
    verdict,
    visible,
)
from neurogloss.render.tokens import keyword_line

if TYPE_CHECKING:
    from store.rows import DescriptionPage, ExampleRow, HypothesisRow, InvestigationRow, UnitPage, UnitRow

_KINDS = {"mlp": "neuron", "head": "attention head", "sae": "dictionary latent", "dir": "direction",
          "fn": "function"}  # fmt: skip
#: Domain of a generated function -> its inputs.
_DOMAINS = {"numeric": "numbers", "string": "words"}
#: Metric as stored -> as shown. Others keep their name.
_INSET = (0, 0, 0, 2)
_RULE_LINES = 6
_POLARITY = {"+": "positive", "-": "negative"}


def unit_page(page: UnitPage, *, colour: bool, width: int, examples: int = 8) -> list[RenderableType]:
    """The whole page.

    Args:
        page: What the store knows of the unit.
        colour: Show strength by colour; else by marks.
        width: Cells of a line.
        examples: Strongest examples to show for each polarity.
    """
    parts: list[RenderableType] = [_title(page), Rule(style="dim", characters="─"), _statistics(page), Text()]
    current = [d for d in page.descriptions if d.superseded_by is None]
    if not current:
        parts += [Text(_why_nothing(page), "yellow"), Text()]
    for polarity in ("+", "-"):
        rows = [d for d in current if d.polarity == polarity]
        if rows:
            parts += [_description(rows[0]), Text()]
            beside = [row for row in rows[1:] if row.rank > 1 and row.investigation_id == rows[0].investigation_id]
            parts += [_runners_up(rows[0], beside), Text()] if beside else []
            others = [row for row in rows[1:] if row.rank == 1]
            parts += [_others(others), Text()] if others else []
    drawn = _histogram(page, width, colour)
    parts += [_heading("Activations"), *drawn, Text()] if drawn else []
    for polarity in ("+", "-"):
        shown = _strongest(page.examples, polarity, examples)
        if shown:
            legend = "" if colour else "  «strongest» ‹half of it or more›"
            parts.append(_heading(f"Strongest examples, {_POLARITY[polarity]} side").append(legend, "not bold dim"))
            parts += [_examples(shown, width, colour), Text()]
    weights = _profile(page.profile)
    parts += [_heading("What its weights say"), weights, Text()] if weights is not None else []
    if page.investigations:
        parts += [_heading("How it was found"), *_history(page), Text()]
    return parts


def describe_place(unit: UnitRow) -> str:
    """A unit in words: ``neuron 17 of layer 2``."""
    kind = _KINDS.get(unit.kind, unit.kind)
    if unit.kind == "sae":
        return f"{kind} {unit.unit_index} of '{clean(unit.dictionary or '')}'"
    if unit.kind == "dir":
        return f"{kind} '{clean(unit.unit.partition(':')[2])}'"
    if unit.kind == "fn":
        return f"{kind} {unit.unit_index} of {_DOMAINS.get(domain := unit.unit.split(':')[1], clean(domain))}"
    return f"{kind} {unit.unit_index} of layer {unit.layer}"


def _heading(text: str) -> Text:
    return Text(text, "bold")


def _title(page: UnitPage) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    name = Text.assemble((clean(page.unit.unit), "bold"), f"  {describe_place(page.unit)}")
    line.add_row(name, Text(f"{fit(clean(page.unit.subject), 24)} {page.unit.fingerprint[:8]}", "dim"))
    return line


def _statistics(page: UnitPage) -> Text:
    unit = page.unit
    if unit.n_tokens is None:
        return Text("Not measured yet.", "dim")
    active = f"active on {share(unit.density)} of tokens" if unit.density is not None else None
    spread = None if unit.variance is None else f"{number(unit.mean)} ± {number(unit.variance**0.5)}"
    corpus = f"over {count(unit.n_tokens)} tokens" + (f" of {clean(page.corpus)}" if page.corpus else "")
    parts = [
        unit.state if unit.state != "alive" else None, active, f"max {number(unit.maximum)}",
        f"min {number(unit.minimum)}", f"mean {spread}" if spread else None, corpus,
    ]  # fmt: skip
    return Text(", ".join(p for p in parts if p))


def _why_nothing(page: UnitPage) -> str:
    if page.unit.state == "duplicate" and page.unit.duplicate_of:
        return f"No description of its own: it duplicates {page.unit.duplicate_of}, whose description holds for it."
    latest = page.investigations[0] if page.investigations else None
    if latest is None:
        return "No description: no campaign has investigated it."
    reason = f" ({fit(clean(latest.reason), 200)})" if latest.reason else ""
    return f"No description: {latest.status} in campaign '{clean(latest.campaign)}'{reason}."


def _description(row: DescriptionPage) -> RenderableType:
    parts: list[RenderableType] = _half("fires on", row.input_half, row.verdict_input)
    if row.output_half:
        parts += _half("when on", row.output_half, row.verdict_output)
        parts += [Padding(line, _INSET) for line in output_lines(row)]
    if row.exceptions:
        parts += [Text("except", "dim"), Padding(Text(clean(row.exceptions)), _INSET)]
    for name in ("confidence", "scope"):
        if told := row.details.get(name):
            parts += [Text(name, "dim"), Padding(Text(clean(told)), _INSET)]
    if row.rule:
        parts += [Text("rule", "dim"), Padding(_rule(row.rule), _INSET)]
    head = Text.assemble((f"{row.polarity} ", "bold"), (clean(row.label), "bold"))
    foretold = predictions_table(row)
    parts += [scores_table(row.scores), *([] if foretold is None else [Text(), foretold])]
    return Group(head, Padding(Group(*parts), _INSET))


def _half(name: str, text: str, word: str) -> list[RenderableType]:
    return [Text.assemble((f"{name}  ", "dim"), verdict(word, long=True)), Padding(Text(clean(text)), _INSET)]


def _rule(rule: str) -> Text:
    """A rule with its own lines, the first of them where there are many."""
    lines = [verbatim(line) for line in rule.splitlines() if line.strip()]
    if len(lines) > _RULE_LINES:
        lines = [*lines[: _RULE_LINES - 1], f"… and {len(lines) - _RULE_LINES + 1} more lines (--json has all)"]
    return Text("\n".join(lines), "dim")


def _runners_up(best: DescriptionPage, rows: Sequence[DescriptionPage]) -> RenderableType:
    """Rivals that say something else and might have been chosen: how often each is when documents are drawn anew."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in (best, *rows):
        f1 = (row.details.get("refine") or {}).get("f1")
        told = "" if f1 is None else f"F1 {score(f1)} on refine"
        table.add_row(share(selection_of(row)), told, Text(clean(row.label)))
    title = Text("  disagreement: how often each does best when documents are drawn anew", "dim")
    return Group(title, Padding(table, _INSET))


def selection_of(row: DescriptionPage) -> float | None:
    """Share of the resamples in which a description, or one that says the same, does best."""
    return (row.details.get("standing") or {}).get("selection")


def _others(rows: Sequence[DescriptionPage]) -> RenderableType:
    lines = []
    for row in rows[:4]:
        f1 = next((s.value for s in row.counting if s.headline and s.metric == "weighted_f1"), None)
        lines.append(
            Text.assemble("  ", verdict(row.verdict_input), f" F1 {score(f1)}  {fit(clean(row.label), 50)}  ",
                          (f"({fit(clean(row.campaign), 16)})", "dim"), no_wrap=True)
        )  # fmt: skip
    more = [Text(f"  … and {len(rows) - 4} more (--json has all)", "dim")] if len(rows) > 4 else []
    return Group(Text("  also described as", "dim"), *lines, *more)


def _histogram(page: UnitPage, width: int, colour: bool) -> list[RenderableType]:
    edges, counts = page.statistics.get("histogram_edges"), page.statistics.get("histogram_counts")
    if not edges or not counts:
        return []
    finite = [float("-inf") if i == 0 and e is None else float("inf") if e is None else e for i, e in enumerate(edges)]
    tails = {tail["polarity"]: tail["threshold"] for tail in page.statistics.get("tails") or ()}
    threshold = tails.get("+")
    drawn = histogram(finite, counts, width=min(64, width - 4), threshold=threshold, colour=colour)
    note = "counts on a logarithmic scale" + (", ▲ where it counts as active" if threshold is not None else "")
    return [Padding(drawn, _INSET), Text(f"  {note}", "dim")]


def _strongest(examples: Sequence[ExampleRow], polarity: str, most: int) -> list[ExampleRow]:
    """The strongest examples of one side; of one split where that has enough, so that they compare."""
    source = "top" if polarity == "+" else "bottom"
    tail = [e for e in examples if e.polarity == polarity and e.source == source]
    return sorted(tail, key=lambda e: -abs(e.activation))[:most]


def _examples(shown: Sequence[ExampleRow], width: int, colour: bool) -> RenderableType:
    scale = max(abs(e.activation) for e in shown)
    room = width - 12
    table = Table.grid(padding=(0, 1))
    table.add_column(width=2)
    table.add_column(width=8, justify="right", style="dim", no_wrap=True)
    table.add_column(width=room, no_wrap=True)
    for e in shown:
        line = keyword_line(
            e.tokens, e.activations, e.peak, width=room, sign=1 if e.polarity == "+" else -1, scale=scale,
            colour=colour,
        )  # fmt: skip
        table.add_row("", number(e.activation), line)
    return table


def _profile(profile: dict[str, Any]) -> RenderableType | None:
    """Promoted and suppressed tokens; for a head, attention edges that stand out from uniform attention."""
    promotion = profile.get("promotion") or profile
    rows: list[tuple[str, str | Text | None]] = []
    for name, shown in (("promoted", "raises"), ("suppressed", "lowers")):
        tokens = promotion.get(name) if isinstance(promotion, dict) else None
        if tokens:
            rows.append((shown, Text(" ".join(visible(str(t[0])) for t in tokens[:10]))))
    edges = profile.get("edges")
    if isinstance(edges, dict):
        base = edges.get("baseline") or {}
        told = [
            f"{name} {score(value)}" + (f" (uniform {score(base[name])})" if name in base else "")
            for name, value in edges.items()
            if isinstance(value, int | float) and name in
            ("previous", "same", "first", "duplicate", "induction", "delimiter")
        ]  # fmt: skip
        rows.append(("attends to", ", ".join(told) or None))
    return Padding(facts(*rows), _INSET) if any(value is not None for _, value in rows) else None


def _history(page: UnitPage) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for job in page.investigations:
        mark = " (shown here)" if job.investigation_id == page.shown and len(page.investigations) > 1 else ""
        parts.append(Padding(Text(_job_line(job, page) + mark), _INSET))
    if page.hypotheses:
        parts.append(_rivals(page.hypotheses))
    if page.experiments:
        kinds = Counter(e.kind for e in page.experiments)
        failed = sum(e.status == "failed" for e in page.experiments)
        told = ", ".join(f"{clean(kind)} ×{n}" for kind, n in kinds.items()) + (f"; {failed} failed" if failed else "")
        parts.append(Padding(facts(("experiments", told)), _INSET))
    return parts


def _job_line(job: InvestigationRow, page: UnitPage) -> str:
    explainers = sorted({d.explainer for d in page.descriptions if d.investigation_id == job.investigation_id})
    by = f", explainer {', '.join(clean(e) for e in explainers)}" if explainers else ""
    own = job.investigation_id == page.shown
    rivals = f", {len(page.hypotheses)} rivals considered" if own and page.hypotheses else ""
    tests = f", {len(page.experiments)} experiments" if own and page.experiments else ""
    dollars = f" ({money(job.dollars)})" if job.dollars is not None else ""
    calls = f", {count(job.llm_calls)} LLM calls with {count(job.tokens)} tokens{dollars}" if job.llm_calls else ""
    when = f" on {job.finished_at[:10]}" if job.finished_at else ""
    return (
        f"campaign '{clean(job.campaign)}': {job.status}{when}{by}{rivals}{tests}, {job.tool_calls} tool calls{calls}, "
        f"{duration(job.seconds)}"
    )


def _rivals(hypotheses: Sequence[HypothesisRow]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for h in hypotheses[:8]:
        f1 = (h.details.get("refine") or {}).get("f1")
        refined = "" if f1 is None else f"F1 {score(f1)} on refine"
        table.add_row("", Text(clean(h.key), "dim"), verdict(h.status, long=True), refined, clean(h.label))
    more = [Text(f"  … and {len(hypotheses) - 8} more (--json has all)", "dim")] if len(hypotheses) > 8 else []
    return Group(table, *more)
