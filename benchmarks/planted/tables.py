"""The benchmark's figures as text of at most 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


def number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def share(part: int, whole: int) -> str:
    """'93 %', or a dash of nothing."""
    return f"{part / whole:.0%}" if whole else "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column at the left and the others at the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return lines


def render(summaries: Sequence[Json]) -> str:
    """All tables."""
    parts = [
        "Recovery: F1 against the planted predicate on fresh text, and on near-misses",
        *_recovery(summaries),
        "",
        "Share of rule-bearing units recovered, by family (mean F1 on fresh text)",
        *_families(summaries),
        "",
        "What is hard to see: exceptions, several rules in one unit",
        *_hard(summaries),
        "",
        "What units do: claims about the output, tested on sealed text",
        *_outputs(summaries),
        "",
        "Honesty: accepted without a rule, 95 % intervals, false discoveries / found",
        *_honesty(summaries),
        "",
        "Accepted of units without a rule and of blind controls",
        *_false_claims(summaries),
        "",
        "Cost and length of a description (medians)",
        *_costs(summaries),
        "",
        "Accuracy against length: mean F1 (units) by elementary tests",
        *_lengths(summaries),
    ]
    return "\n".join(parts)


def _recovery(summaries: Sequence[Json]) -> list[str]:
    rows = []
    for one in summaries:
        total, inside = one["total"], one["in_language"]
        rows.append([
            one["explainer"], str(total["units"]), share(total["recovered"], total["units"]),
            share(inside["recovered"], inside["units"]), number(total["f1"]), number(total["near_f1"]),
            number(total["above_chance"]), str(total["undescribed"]),
        ])  # fmt: skip
    return table(["explainer", "units", "recovered", "in language", "F1", "near", "> chance", "no text"], rows)


def _families(summaries: Sequence[Json]) -> list[str]:
    names = [name for name, family in summaries[0]["families"].items() if family["rule_bearing"]]
    rows = []
    for name in names:
        cells = [name[:21], str(summaries[0]["families"][name]["rule_bearing"])]
        for one in summaries:
            family = one["families"][name]
            cells.append(f"{share(family['recovered'], family['rule_bearing'])} ({number(family['f1'])})")
        rows.append(cells)
    return _chunked(["family", "units"], rows, [one["explainer"] for one in summaries])


def _chunked(fixed: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], most: int = 4) -> list[str]:
    """A table cut into several of at most `most` explainers each, to stay within the width."""
    lines: list[str] = []
    for start in range(0, len(names), most):
        columns = [*range(len(fixed)), *range(len(fixed) + start, len(fixed) + min(start + most, len(names)))]
        head = [*fixed, *names]
        lines += ([""] if lines else []) + table(
            [head[i] for i in columns], [[row[i] for i in columns] for row in rows]
        )
    return lines


def _hard(summaries: Sequence[Json]) -> list[str]:
    rows = []
    for one in summaries:
        exception, polysemy = one["exception"], one["polysemy"]
        rows.append([
            one["explainer"], number(exception["global_recall"]), number(exception["recall"]), str(exception["units"]),
            f"{polysemy['exact']}/{polysemy['units']}", share(polysemy["hit"], polysemy["concepts"]),
        ])  # fmt: skip
    return table(["explainer", "global recall", "exception", "units", "all rules", "rules hit"], rows)


def _outputs(summaries: Sequence[Json]) -> list[str]:
    rows = []
    for one in summaries:
        output = one["output"]
        inert, causal, none = output["inert"], output["false_causal"], output["false_none"]
        planted, dose, weak = output["planted"], output["dose"], output["weak_dose"]
        rows.append([
            one["explainer"], f"{inert['called']}/{inert['units']}", f"{causal['false']}/{causal['claims']}",
            f"{none['false']}/{none['units']}", f"{planted['found']}/{planted['units']}",
            number(planted["precision"]), number(planted["recall"]), f"{dose['detected']}/{dose['units']}",
            f"{weak['detected']}/{weak['units']}",
        ])  # fmt: skip
    head = ["explainer", "inert", "made up", "missed", "effects", "tokens P", "R", "dose", "weak"]
    return table(head, rows)


def _honesty(summaries: Sequence[Json]) -> list[str]:
    rows = []
    for one in summaries:
        accepted, covered = one["false_claims"]["all"], one["coverage"]
        rows.append([
            one["explainer"], f"{accepted['accepted']}/{accepted['units']}",
            *(f"{share(part['covered'], part['intervals'])} of {part['intervals']}"
              for part in (covered["all"], covered["telling"])),
            *(f"{level['false']}/{level['found']}" for level in one["fdr"]),
        ])  # fmt: skip
    head = ["explainer", "no rule", "covered", "0.02<F1<0.98", "q<=5%", "q<=10%", "q<=20%"]
    return table(head, rows)


def _false_claims(summaries: Sequence[Json]) -> list[str]:
    names = [name for name in summaries[0]["false_claims"] if name != "all"]
    rows = []
    for name in names:
        cells = [name]
        for one in summaries:
            found = one["false_claims"].get(name, {"accepted": 0, "units": 0})
            cells.append(f"{found['accepted']}/{found['units']}")
        rows.append(cells)
    tails = [f"{one['other_tails']['accepted']}/{one['other_tails']['units']}" for one in summaries]
    rows.append(["tails not planted", *tails])
    return _chunked(["family"], rows, [one["explainer"] for one in summaries], most=5)


def _costs(summaries: Sequence[Json]) -> list[str]:
    rows = []
    for one in summaries:
        cost, total = one["cost"], one["total"]
        rows.append([
            one["explainer"], number(cost["median_seconds"]), number(cost["median_forward_passes"], 0),
            number(cost["mean_tokens"], 0), number(total["median_members"], 0), number(total["median_words"], 0),
            number(cost["campaign_seconds"], 0), str(one["failed"]),
        ])  # fmt: skip
    return table(["explainer", "seconds", "passes", "LLM tokens", "tests", "words", "all s", "failed"], rows)


def _lengths(summaries: Sequence[Json]) -> list[str]:
    ends = sorted({(line["from"], line["to"] or 10**9) for one in summaries for line in one["by_length"]})
    rows = []
    for low, high in ends:
        cells = [f"{low}" if low == high else (f"{low}-{high}" if high < 10**9 else f"{low} or more")]
        for one in summaries:
            line = next((line for line in one["by_length"] if line["from"] == low), None)
            cells.append("-" if line is None else f"{number(line['f1'])} ({line['units']})")
        rows.append(cells)
    return _chunked(["tests"], rows, [one["explainer"] for one in summaries], most=5)


def render_sequential(early: Json) -> str:
    """What sequential scoring saved, against scoring the whole sample."""
    if not early["claims"]:
        return "Sequential scoring: no claim was tested."
    claims, stopped = early["claims"], early["stopped"]
    rows = [
        ["whole sample", "100%", share(early["accepted_fixed"], early["true"]),
         share(early["false_accepted_fixed"], early["false"])],
        ["sequential", share(round(1000 * early["median_cost"]), 1000), share(early["accepted_early"], early["true"]),
         share(early["false_accepted_early"], early["false"])],
    ]  # fmt: skip
    return "\n".join([
        f"Sequential scoring of the same {claims} claims",
        *table(["scoring", "median cost", "true accepted", "false accepted"], rows),
        f"the same decision on {share(early['same_decision'], claims)}, the same verdict on "
        f"{share(early['same_verdict'], claims)}; stopped for",
        f"success {stopped['success']}, for futility {stopped['futility']}, at the end {stopped['undecided']}",
    ])  # fmt: skip
