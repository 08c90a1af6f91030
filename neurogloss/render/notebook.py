"""A unit's lab notebook within 80 columns: each row with its name, in the order in which it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from neurogloss.render.page import describe_place
from neurogloss.render.text import (
    VERDICTS,
    clean,
    count,
    duration,
    fit,
    interval,
    money,
    number,
    probability,
    score,
    share,
    verbatim,
)
from store.queries.citations import LETTERS

if TYPE_CHECKING:
    from store.rows import (
        DescriptionPage,
        ExperimentRow,
        HypothesisRow,
        InvalidationRow,
        Notebook,
        NotebookWork,
        ObservationRow,
        ScoreRow,
    )

#: Arguments of an experiment that are told elsewhere, or that say nothing to a reader.
_KNOWN = (
    "unit", "polarity", "subject", "fingerprint", "intervention", "contest", "name", "dtype", "index", "dictionaries",
)  # fmt: skip
#: Rivals and experiments that are told of each side unless all are asked for.
_RIVALS, _ROWS = 8, 30
_BODY = (0, 0, 0, 9)
#: Outcome of an observation -> how it bears on a rival.
_BEARS = {"supported": "for ", "refuted": "against ", "inconclusive": "undecided on "}


@dataclass(frozen=True)
class _How:
    """What of a notebook is shown."""

    polarity: str | None
    full: bool
    width: int

    def about(self, polarity: Any) -> bool:
        """Whether something about this side of zero (None: about both) is shown."""
        return self.polarity is None or polarity in (None, self.polarity)


def notebook_page(
    book: Notebook, *, polarity: str | None = None, full: bool = False, width: int = 80
) -> list[RenderableType]:
    """The whole notebook.

    Args:
        book: From `store.queries.notebook`.
        polarity: Only what is about this side of zero.
        full: Arguments and observations in full, all scores, all rivals.
        width: Cells of a line.
    """
    how = _How(polarity, full, width)
    place = f"  {describe_place(book.unit)} of {clean(book.unit.subject)}"
    name = Text.assemble((clean(book.unit.unit), "bold"), place)
    corpus = f", measured on {clean(book.corpus)}" if book.corpus else ""
    parts: list[RenderableType] = [
        name, Text(f"lab notebook; fingerprint {book.unit.fingerprint[:16]}{corpus}", "dim"),
    ]  # fmt: skip
    for work in book.work:
        parts += [Text(), Rule(_title(work), style="dim", align="left"), *_work(book, work, how)]
    if not book.work:
        parts += [Text(), Text("Nothing is written: no campaign has investigated it.", "yellow")]
    if book.annotations:
        parts += [Text(), Text("Notes of people", "bold")]
        for note in book.annotations:
            told = " ".join(part for part in (note.kind, number(note.value) if note.value is not None else "") if part)
            parts.append(_line(_when(note.created_at), f"{clean(note.author)}, {told}: {clean(note.text or '')}"))
    letters = ", ".join(f"{LETTERS[kind]}7 is {kind}:7" for kind in ("experiment", "observation", "score"))
    parts += [Text(), Text(f"Rows by their names: {letters}. --full has all, --json every value.", "dim")]
    return parts


def _title(work: NotebookWork) -> str:
    job = work.investigation
    return f"I{job.investigation_id}, campaign '{fit(clean(job.campaign), 40)}'"


def _work(book: Notebook, work: NotebookWork, how: _How) -> Iterator[RenderableType]:
    job = work.investigation
    calls = f", {count(job.llm_calls)} LLM calls with {count(job.tokens)} tokens" if job.llm_calls else ""
    dollars = f" ({money(job.dollars)})" if job.dollars is not None else ""
    attempts = f", attempt {job.attempts}" if job.attempts > 1 else ""
    control = f"; a blind control ({job.control}) for {job.control_of}" if job.control else ""
    yield _line(
        _when(job.started_at),
        f"begun{attempts}, seed {work.seed}{control}; {count(job.tool_calls)} tool calls{calls}{dollars}, "
        f"{duration(job.seconds)}",
    )
    if job.reason:
        yield _line("", f"{job.status}: {clean(job.reason)}", "yellow")
    yield from _activations(book, work)
    yield from _rivals([row for row in work.hypotheses if how.about(row.polarity)], how)
    yield from _experiments([row for row in work.experiments if not _sealed(row)], how)
    for row in work.descriptions:
        if how.about(row.polarity):
            yield from _claim(work, row, how)
    yield from _later(work, how)


def _activations(book: Notebook, work: NotebookWork) -> Iterator[RenderableType]:
    unit = book.unit
    if unit.n_tokens is None:
        return
    told = f"{unit.state}, active on {share(unit.density)} of {count(unit.n_tokens)} tokens, max {number(unit.maximum)}"
    yield _head("Activations")
    yield _line("", f"{told}, min {number(unit.minimum)}; {count(work.examples)} exemplars kept")


def _rivals(rows: Sequence[HypothesisRow], how: _How) -> Iterator[RenderableType]:
    if not rows:
        return
    yield _head("Rivals")
    shown = rows if how.full else rows[:_RIVALS]
    for row in shown:
        f1 = (row.details.get("refine") or {}).get("f1")
        refined = "" if f1 is None else f", F1 {score(f1)} on refine"
        mark, style = VERDICTS.get(row.status, ("·", "dim"))
        yield _line(f"H{row.hypothesis_id}", Text.assemble(
            (f"{clean(row.key)} ", "bold"), clean(row.label), (f" ({clean(row.explainer)}{refined})", "dim")
        ))  # fmt: skip
        why = row.details.get("dropped") or row.details.get("reason")
        told = clean(str(why)).removeprefix(f"{clean(row.status)}: ") if why else ""
        yield _body(Text(f"{mark} {clean(row.status)}" + (f": {told}" if told else ""), style))
        if how.full:
            yield _body(Text(clean(row.input_half)))
            yield from _rule(row.rule)
    if len(shown) < len(rows):
        yield _body(Text(f"… and {len(rows) - len(shown)} more (--full)", "dim"))


def _rule(rule: str | None) -> Iterator[RenderableType]:
    if rule:
        yield _body(Text("\n".join(verbatim(line) for line in rule.splitlines()), "dim"))


def _sealed(row: ExperimentRow) -> bool:
    """Whether an experiment tests a claim: on sealed text, or by what it had predicted."""
    return row.arguments.get("split") == "score" or row.kind == "predictions"


def _experiments(rows: Sequence[ExperimentRow], how: _How) -> Iterator[RenderableType]:
    rows = [row for row in rows if how.about(row.arguments.get("polarity"))]
    if not rows:
        return
    yield _head("Experiments")
    shown = rows if how.full else rows[:_ROWS]
    for row in shown:
        yield from _experiment(row, how)
    if len(shown) < len(rows):
        yield _body(Text(f"… and {len(rows) - len(shown)} more (--full)", "dim"))


def _experiment(row: ExperimentRow, how: _How) -> Iterator[RenderableType]:
    seed = "" if row.seed is None else f", seed {row.seed}"
    took = f", {duration(row.seconds)}" if row.seconds else ""
    digest = f", digest {clean(row.digest)[:10]}" if row.digest else ""
    side = clean(str(row.arguments.get("polarity", "")))
    yield _line(
        f"E{row.experiment_id}",
        Text.assemble((f"{clean(row.kind)} {side}".strip(), "bold"), (f"{seed}{took}{digest}", "dim")),
    )
    if row.arguments.get("intervention"):
        yield _body(Text(clean(str(row.arguments["intervention"]))))
    if isinstance(trial := row.arguments.get("contest"), Mapping):
        bits = number(trial.get("information"))
        yield _body(Text(f"round {trial.get('round')} of the rivals' contest, {bits} bits expected", "dim"))
    told = {name: value for name, value in row.arguments.items() if name not in _KNOWN}
    if told:
        text = ", ".join(f"{clean(name)} {_value(value, how.full)}" for name, value in told.items())
        yield _body(Text(text if how.full else fit(text, 3 * (how.width - 12)), "dim"))
    if row.error:
        yield _body(Text(f"failed: {clean(row.error)}", "red"))
    for seen in row.observations:
        yield from _observation(seen, how.full)
    if row.withdrawn:
        yield _body(Text(f"withdrawn: {clean(row.withdrawn)}", "red"))


def _observation(row: ObservationRow, full: bool) -> Iterator[RenderableType]:
    mark, style = VERDICTS.get(row.outcome or "", ("–", "dim"))
    word = {"supported": "for ", "refuted": "against ", "inconclusive": "undecided on "}.get(
        row.outcome or "", "about "
    )
    bears = f"{word}{clean(row.hypothesis)}: " if row.hypothesis else ""
    yield _line(f"  O{row.observation_id}", Text.assemble((f"{mark} {bears}", style), clean(row.summary)))
    if full and row.data:
        yield _body(Text(clean(json.dumps(row.data, ensure_ascii=False)), "dim"))
    if row.withdrawn:
        yield _body(Text(f"withdrawn: {clean(row.withdrawn)}", "red"))


def _value(value: Any, full: bool) -> str:
    """An argument, in few characters unless all of it is wanted."""
    if isinstance(value, str):
        return clean(value)
    if full:
        return clean(json.dumps(value, ensure_ascii=False))
    if isinstance(value, Mapping):
        inner = ", ".join(f"{clean(str(name))} {_value(one, full)}" for name, one in list(value.items())[:4])
        return f"({inner}{', …' if len(value) > 4 else ''})"
    if isinstance(value, Sequence):
        plain = all(isinstance(one, int | float | str) for one in value)
        return f"[{', '.join(_value(one, full) for one in value)}]" if plain and len(value) <= 6 else f"({len(value)})"
    return number(value) if isinstance(value, float) else clean(str(value))


def _claim(work: NotebookWork, row: DescriptionPage, how: _How) -> Iterator[RenderableType]:
    yield _head(f"Claim about the {'positive' if row.polarity == '+' else 'negative'} side")
    of = f", from rival {clean(row.hypothesis)}" if row.hypothesis else ""
    yield _line(
        f"D{row.description_id}",
        Text.assemble(
            (clean(row.label), "bold"), (f" ({clean(row.explainer)}{of}, version {row.version})", "dim"),
        ),
    )  # fmt: skip
    yield _body(Text.assemble(("fires on  ", "dim"), clean(row.input_half)))
    if row.output_half:
        yield _body(Text.assemble(("when on  ", "dim"), clean(row.output_half)))
    if row.exceptions:
        yield _body(Text.assemble(("except  ", "dim"), clean(row.exceptions)))
    if how.full:
        yield from _rule(row.rule)
    if row.superseded_by is not None:
        yield _body(Text(f"superseded by D{row.superseded_by}", "yellow"))
    for opening in work.openings:
        if (opening.claim, opening.polarity) == (row.claim, row.polarity):
            known = f"known by {clean(opening.claim)[:12]}"
            told = f"the sealed {clean(opening.split)} split is opened for this claim, {known}"
            yield _line(_when(opening.created_at), told)
    for one in work.experiments:
        if _sealed(one) and one.arguments.get("polarity") in (None, row.polarity):
            yield from _experiment(one, how)
    yield from _scores(row.scores, how.full)
    yield from _verdict(row)


def _scores(rows: Sequence[ScoreRow], full: bool) -> Iterator[RenderableType]:
    shown = [row for row in rows if full or row.headline or row.withdrawn or row.p_value is not None]
    for row in shown:
        null = f", null {score(row.null_mean)}" if row.null_mean is not None else ""
        p = f", p {probability(row.p_value)}" if row.p_value is not None else ""
        e = f", e {number(row.e_value)}" if row.e_value is not None else ""
        q = f", q {probability(row.q_value)}" if row.q_value is not None else ""
        on = f", n {count(row.n_examples)} in {count(row.n_documents)} docs"
        small = row.value is not None and 0 < abs(row.value) < 0.01
        value = f"{row.value:.2g}" if small else interval(row.value, row.low, row.high)
        told = f"{value}{null}{p}{e}{q}{on}"
        style = "bold" if row.headline else ""
        yield _line(f"S{row.score_id}", Text.assemble((f"{clean(row.metric)} ", style), told))
        if row.withdrawn:
            yield _body(Text(f"withdrawn: {clean(row.withdrawn)}", "red"))
    if len(shown) < len(rows):
        yield _body(Text(f"… and {len(rows) - len(shown)} scores that decide nothing (--full)", "dim"))


def _verdict(row: DescriptionPage) -> Iterator[RenderableType]:
    judged = row.details.get("verdict")
    if judged is None:
        return
    for half, title, word, reasons in (
        ("input", "fires on", row.verdict_input, judged.get("reasons")),
        ("output", "when on", row.verdict_output, judged.get("output_reasons")),
    ):
        mark, style = VERDICTS.get(word, ("·", ""))
        before = judged.get("before" if half == "input" else "output_before")
        by_itself = f" (by itself {before}; error control over the campaign)" if before not in (None, word) else ""
        yield _line("verdict", Text.assemble((f"{title}: ", "dim"), (f"{mark} {word}", style), by_itself))
        for reason in reasons or ():
            yield _body(Text(clean(str(reason)), "dim"))


def _later(work: NotebookWork, how: _How) -> Iterator[RenderableType]:
    entries: list[tuple[str, str]] = []
    if work.campaign_finished_at:
        entries.append((work.campaign_finished_at, "the campaign is closed: q-values and verdicts over all its claims"))
    entries += [(one.created_at or "", _told(one)) for one in work.invalidations]
    for one in work.rechecks:
        if how.about(one.polarity):
            entries.append(
                (one.created_at or "", f"D{one.description_id} on {one.subject} ({one.dtype}): {one.status}; {one.why}")
            )
    if entries:
        yield _head("Later")
    for when, told in sorted(entries):
        yield _line(_when(when), clean(told))


def _told(row: InvalidationRow) -> str:
    kind, _, key = row.row.partition(":")
    done = "withdrawn" if row.action == "invalidated" else "put back"
    return f"{LETTERS[kind]}{key} is {done}: {row.reason}"


def _when(moment: str | None) -> str:
    """The time of a moment (its day is told by --json)."""
    return "" if not moment else moment[11:16]


def _head(title: str) -> RenderableType:
    return Text(f"\n{title}", "bold")


def _line(name: str, told: str | Text, style: str = "") -> RenderableType:
    """A row: its name, then what it says, with a hanging indent."""
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8, no_wrap=True, style="dim")
    line.add_column(overflow="fold")
    line.add_row(name, Text(told, style) if isinstance(told, str) else told)
    return line


def _body(told: Text) -> RenderableType:
    return Padding(told, _BODY)
