"""A campaign's report as Markdown of at most 80 columns, to be read on a terminal as it is.

Labels and reasons come from corpora and models. Every character that Markdown or HTML gives a meaning is escaped, and
control characters are shown, so that no renderer makes anything of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from neurogloss.render import report_llm, report_output, report_predictions
from neurogloss.render import report_words as words
from neurogloss.render.text import clean, count, fit, number, verdict

if TYPE_CHECKING:
    from agent.reporting import CampaignReport
    from agent.reporting.evidence import Claim
    from agent.reporting.sections import Missing

WIDTH = 80
#: Rows of the text histogram, and its bars' longest.
_ROWS, _BAR = 10, 7
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_BACKSLASHED = set("\\`*_[]|~#$!")


def report_markdown(report: CampaignReport) -> str:
    """The whole report."""
    sections = [
        _head(report), _checks(report), _scores(report), _output(report), _errors(report), _calibration(report),
        _predictions(report), _disagreement(report),
        _cost(report),
        _llm(report),
        _missing("Failures", report.failed), _missing("Skipped by triage", report.skipped),
        _described("Best descriptions", "Accepted, and furthest above chance.", report.best),
        _described("Weakest accepted descriptions", "Accepted, and least above chance.", report.weakest),
        _described("Lowest scores", "Accepted or not.", report.lowest),
    ]  # fmt: skip
    return "\n\n".join(section for section in sections if section) + "\n"


def escape(text: str, width: int | None = None) -> str:
    """Untrusted text that Markdown shows as it is; cut so that the escaped form has at most `width` cells."""
    shown = clean(text)
    pieces = [_ENTITIES.get(c, f"\\{c}" if c in _BACKSLASHED else c) for c in shown]
    # A bare address would become a link.
    pieces = ["&#58;" if c == ":" and shown[i + 1 : i + 3] == "//" else pieces[i] for i, c in enumerate(shown)]
    pieces = ["&#46;" if c == "." and shown[:i].lower().endswith("www") else pieces[i] for i, c in enumerate(shown)]
    if width is None or cell_len("".join(pieces)) <= width:
        return "".join(pieces)
    kept, used = [], 1
    for piece in pieces:
        used += cell_len(piece)
        if used > width:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _bullet(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=True, break_on_hyphens=False
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table with aligned columns; cells are ready for Markdown. Columns in `right` are set to the right."""
    widths = [max(cell_len(row[i]) for row in [heading, *rows]) for i in range(len(heading))]
    widths = [max(3, width) for width in widths]

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (widths[i] - cell_len(cell)) + cell if i in right else cell + " " * (widths[i] - cell_len(cell))
            for i, cell in enumerate(cells)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * (width - 1) + ":") if i in right else "-" * width for i, width in enumerate(widths)]
    return "\n".join([line(heading), line(rule), *(line(row) for row in rows)])


def _head(report: CampaignReport) -> str:
    title = f"# Campaign {escape(report.head.campaign, WIDTH - 18)}: {report.colour}"
    parts = [title, _paragraph(f"**{report.colour.upper()}.** {words.BANNERS[report.colour]}")]
    if report.why:
        parts.append("\n".join(_bullet(escape(reason)) for reason in report.why))
    # Hard line ends keep one fact a line in a renderer, and read as they are on a terminal.
    lines = []
    for name, value in words.facts(report):
        wrapped = textwrap.wrap(
            f"**{name}**: {escape(value)}", WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False
        )
        lines.append("\n".join(["- " + wrapped[0], *("  " + line.strip() for line in wrapped[1:])]))
    return "\n\n".join([*parts, "\n".join(lines)])


def _checks(report: CampaignReport) -> str:
    rows = [
        [f"{words.MARKS[check.state]} {check.state}", check.name, words.value_of(check), words.limit_of(check)]
        for check in report.checks
    ]
    told = [
        _bullet(f"{words.MARKS[check.state]} **{check.name}**: {escape(check.finding)}. {check.meaning}")
        for check in report.checks
    ]
    table = _table(["", "check", "value", "limit"], rows, right=(2, 3))
    return "\n\n".join(["## Checks", _paragraph(words.CHECKS), table, "\n".join(told)])


def _scores(report: CampaignReport) -> str:
    populations = report.scores.populations
    rows = [
        [
            escape(words.kind_name(one.kind), 20), f"{count(one.accepted.count)} of {count(one.accepted.total)}",
            words.share_span(one.accepted), number(one.median), count(one.skipped),
        ]
        for one in populations
    ]  # fmt: skip
    table = _table(["", "accepted", "share [95 %]", "median F1", "skipped"], rows, right=(1, 2, 3, 4))
    parts = ["## Scores against controls", _paragraph(words.controls_sentence(report)), table]
    if any(one.values for one in populations):
        parts.append(_histogram(report))
    return "\n\n".join(parts)


def _output(report: CampaignReport) -> str:
    use = report.output
    if use is None:
        return ""
    parts = ["## What units do when on", *(_paragraph(escape(one)) for one in report_output.sentences(use))]
    rows = report_output.kind_rows(use)
    if rows:
        parts.append(_table(report_output.HEADING, rows, right=(1, 2)))
    if use.inert:
        parts.append(_paragraph(escape(report_output.inert_sentence(use))))
    if use.untested:
        parts.append("\n".join(_bullet(escape(one, 400)) for one in report_output.untested_lines(use)))
    return "\n\n".join(parts)


def _histogram(report: CampaignReport) -> str:
    """Counts by F1, a column a kind; the fullest row of each kind has the longest bar."""
    shown = [one for one in report.scores.populations if one.values][:5]
    merged = {one.kind: _merged(one.counts, _ROWS) for one in shown}
    lines = ["F1       " + " ".join(fit(clean(one.kind), 13).ljust(13) for one in shown)]
    for row in range(_ROWS):
        cells = []
        for one in shown:
            n = merged[one.kind][row]
            bar = "█" * max(1, round(_BAR * n / max(merged[one.kind]))) if n else ""
            cells.append(f"{bar} {count(n)}".ljust(13) if n else " " * 13)
        lines.append(f"{row / _ROWS:.1f}–{(row + 1) / _ROWS:.1f}  " + " ".join(cells))
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def _merged(counts: Sequence[int], rows: int) -> list[int]:
    each = len(counts) // rows
    return [sum(counts[row * each : (row + 1) * each]) for row in range(rows)]


def _errors(report: CampaignReport) -> str:
    told = "\n".join(_bullet(escape(sentence)) for sentence in words.errors_sentences(report))
    return f"## How many accepted descriptions are expected to be false\n\n{told}"


def _calibration(report: CampaignReport) -> str:
    found = report.calibration
    parts = ["## Calibration", *(_paragraph(sentence) for sentence in words.calibration_sentences(report))]
    if found.bins:
        rows = [
            [f"{one.low:.1f}–{one.high:.1f}", count(one.n), f"{one.refine:.2f}", f"{one.score:.2f}",
             f"{one.refine - one.score:+.2f}"]
            for one in found.bins
        ]  # fmt: skip
        heading = ["refine F1", "descriptions", "mean refine", "mean sealed", "difference"]
        parts.append(_table(heading, rows, right=(1, 2, 3, 4)))
    known = [one for one in found.p_values if one.n]
    if known:
        bins = len(known[0].counts)
        rows = [[escape(one.kind, 12), *(count(n) for n in one.counts)] for one in known]
        parts += [
            _paragraph(f"{words.P_VALUES} {escape(words.p_value_sentence(report))}"),
            _table(["p below", *(f"{(i + 1) / bins:.1f}" for i in range(bins))], rows, right=range(1, bins + 1)),
        ]
    return "\n\n".join(parts)


def _predictions(report: CampaignReport) -> str:
    use = report.predictions
    if use is None:
        return ""
    parts = ["## Predictions before the seal", *(_paragraph(escape(one)) for one in report_predictions.sentences(use))]
    for heading, rows in (
        (report_predictions.HELD, report_predictions.held_rows(use)),
        (report_predictions.CURVE, report_predictions.curve_rows(use)),
        (report_predictions.INPUTS, report_predictions.kind_rows(use)),
    ):
        if rows:
            cells = [[escape(row[0], 32), *row[1:]] for row in rows]
            parts.append(_table(heading, cells, right=range(1, len(heading))))
    return "\n\n".join(parts)


def _disagreement(report: CampaignReport) -> str:
    found = report.disagreement
    if found is None:
        return ""
    lines = [_bullet(escape(line, 400)) for line in report_predictions.contested_lines(found)]
    parts = ["## Disagreement", _paragraph(report_predictions.disagreement_sentence(found))]
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def _cost(report: CampaignReport) -> str:
    table = _table(["", "units", *words.COSTS.values()], words.cost_rows(report), right=range(1, 6))
    return f"## Cost\n\n{table}"


def _llm(report: CampaignReport) -> str:
    use = report.llm
    if use is None:
        return ""

    def table(cells: report_llm.Cells) -> str:
        others = [
            max(3, *(cell_len(row[i]) for row in [cells.heading, *cells.rows])) for i in range(1, len(cells.heading))
        ]
        rows = [[escape(row[0], WIDTH - 4 - sum(width + 3 for width in others)), *row[1:]] for row in cells.rows]
        return _table(cells.heading, rows, right=range(cells.left, len(cells.heading)))

    parts = ["## Language models", *map(_paragraph, report_llm.use_sentences(use)), table(report_llm.cost_table(use))]
    parts.append(_paragraph(report_llm.COSTS))
    if use.agreement is not None:
        told = "\n".join(_bullet(sentence) for sentence in report_llm.agreement_sentences(use))
        parts += ["### Words and rules", told]
    if use.stages:
        parts += ["### Stages", _paragraph(report_llm.STAGES), table(report_llm.stage_table(use))]
    if use.diagnostics:
        names = "\n".join(_bullet(name) for name in report_llm.published_names(use))
        parts += ["### Diagnostics", _paragraph(report_llm.DIAGNOSTICS), table(report_llm.diagnostic_table(use))]
        parts.append(names)
    return "\n\n".join(parts)


def _missing(title: str, found: Missing) -> str:
    if not found.total:
        return ""
    parts = [f"## {title}: {count(found.total)}"]
    parts.append("\n".join(_bullet(f"{count(n)} × {escape(reason, 600)}") for reason, n in found.reasons[:10]))
    if found.units:
        listed = found.units[:10]
        rows = [[escape(unit, 34), escape(reason, 36)] for unit, reason in listed]
        parts.append(_table(["unit", "reason"], rows))
        if found.total > len(listed):
            parts.append(f"… and {count(found.total - len(listed))} more.")
    return "\n\n".join(parts)


def _described(title: str, what: str, claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    lines = [
        f"{verdict(claim.verdict).plain} {escape(claim.name)} **{words.claim_score(claim)}** {escape(claim.label, 240)}"
        for claim in claims
    ]
    return f"## {title}\n\n{what}\n\n" + "\n".join(_bullet(line) for line in lines)
