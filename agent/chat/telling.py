"""Results in words, without a language model: each line with the row that it rests on, within 80 columns.

A line that ends with names of rows and a colon lends them to the lines below it (see `agent.chat.checker`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agent.chat.tools import Use
from explainers.llm.show import shown

Json = dict[str, Any]

_METRICS = {"weighted_f1": "F1", "average_precision": "average precision", "pearson": "Pearson"}
_WIDTH = 78
#: Lines of a result that has no words of its own.
_LINES = 28


def tell(use: Use, cite: str) -> str:
    """A result in words.

    Args:
        use: What was used.
        cite: How the result is cited.
    """
    if use.error is not None:
        return f"That did not work {cite}: {use.error}"
    teller = _TELLERS.get(use.tool)
    return "\n".join(_generic(use, cite) if teller is None else teller(use.data, cite))


def tell_search(use: Use, cite: str, question: str, why: str) -> str:
    """What a question finds where no language model reads it.

    Args:
        use: Of the look-up `search`.
        cite: How the result is cited.
        question: As it was put.
        why: Why no language model reads it.
    """
    rows = (use.data or {}).get("descriptions") or []
    hint = "Slash commands answer without one: /help lists them."
    if use.error is not None or not rows:
        return f"{why} No description has words of the question in it. {hint}"
    lines = [f"{why} These descriptions have words of the question {cite}:"]
    lines += [_described(row) for row in rows[:6]]
    return "\n".join([*lines, "", f"/unit {rows[0]['unit']} shows the first in full {cite}. {hint}"])


def _unit(data: Json, cite: str) -> list[str]:
    about = data["unit"]
    lines = [f"{about['unit']} of {about['subject']} {about['cite']}:"]
    facts = [about["state"] if about["state"] != "alive" else None]
    if about["duplicate_of"]:
        facts.append(f"duplicates {about['duplicate_of']}")
    if about["density"] is not None:
        facts.append(f"active on {share(about['density'])} of tokens")
    if about["maximum"] is not None:
        facts.append(f"maximum {number(about['maximum'])}; minimum {number(about['minimum'])}")
    lines.append("  " + ", ".join(fact for fact in facts if fact))
    for row in data["descriptions"]:
        lines += ["", f"{row['polarity']} {line(row['label'], 66)} {row['cite']}:"]
        lines += _folded(f"fires on ({row['verdict_input']})", row["fires_on"])
        lines += _folded(f"when on ({row['verdict_output']})", row["does_when_on"])
        lines += _reliance(row)
        lines += ["  " + _score(score) for score in row["scores"]]
    for row in data["runners_up"]:
        lines += ["", f"{row['polarity']} or, untested: {line(row['label'], 50)} {row['cite']}"]
        if row["selection"] is not None:
            lines += [f"  does best in {share(row['selection'])} of resamples {row['cite']}"]
    if not data["descriptions"]:
        lines += ["  It has no description."]
        lines += [f"  campaign '{job['campaign']}': {job['status']}, {job['reason'] or 'no reason given'} {job['cite']}"
                  for job in data["investigations"]]  # fmt: skip
    counts = data["counts"]
    tests = ", ".join(f"{name}: {number}" for name, number in counts["experiments"].items())
    lines += ["", f"Behind it {cite}: {counts['rivals']} rivals; experiments {tests or 'none'}; "
              f"{counts['kept_examples']} kept examples. /why {about['unit']} has the reasons."]  # fmt: skip
    return lines


def _reliance(row: Json) -> list[str]:
    """Exceptions of a description, how sure it was of itself, and of what it speaks."""
    return [
        *_folded("except", row["exceptions"]), *_folded("how sure it was", row["confidence"]),
        *_folded("speaks of", row["scope"]),
    ]  # fmt: skip


_FORETOLD = {"f1": "F1", "effect": "tokens move by"}


def _foretold(row: Json) -> str:
    """A prediction with what came: each number says of what it is."""
    shown = share if row["of"] == "density" else number if row["of"] == "effect" else two
    name = "active on" if row["of"] == "density" else _FORETOLD.get(row["of"], row["of"])
    told = f"foretold {name} {shown(row['foretold'])}"
    if row["low"] is not None and row["high"] is not None:
        told += f" [{shown(row['low'])}, {shown(row['high'])}]"
    if row["came"] is None:
        return f"{told}; what came is not known"
    return f"{told}; came {name} {shown(row['came'])}" + {True: ", held", False: ", missed", None: ""}[row["held"]]


def _why(data: Json, cite: str) -> list[str]:
    if not data["claims"]:
        return [f"{data['unit']} has no description, so there is no verdict {cite}."]
    lines: list[str] = []
    for claim in data["claims"]:
        lines += [f"{data['unit']}{claim['polarity']}: {line(claim['label'], 60)} {claim['cite']}:"]
        lines += [f"  fires on: {claim['verdict_input']}"]
        lines += [part for reason in claim["reasons"] for part in _folded("because", reason)]
        lines += [f"  when on: {claim['verdict_output']}"]
        lines += [part for reason in claim["output_reasons"] for part in _folded("because", reason)]
        lines += _reliance(claim)
        lines += [f"  {_foretold(one)}" for one in claim["foretold"]]
        lines += [
            part for one in claim["made_up_inputs"] for part in _folded("foretold", f"{one['summary']} {one['cite']}")
        ]
        lines += ["  " + _score(score) for score in claim["scores"]]
        for one in claim["sealed_text_opened"]:
            lines.append(f"  the sealed {one['split']} split was opened for it at {one['opened_at']} {cite}")
        lines += [
            part
            for seen in claim["observations"]
            for part in _folded(
                f"{seen['outcome'] or 'no outcome'} by {seen['kind']}", f"{seen['summary']} {seen['cite']}"
            )
        ]
        lines.append("")
    return lines[:-1]


def _evidence(data: Json, cite: str) -> list[str]:
    counts = data["counts"]
    lines = [f"{data['unit']}: {counts['rivals']} rivals and {counts['experiments']} experiments {cite}:"]
    for rival in data["rivals"]:
        f1 = "" if rival["f1_on_refine"] is None else f"; F1 {rival['f1_on_refine']:.2f} on refine"
        lines.append(f"- {rival['status']}{f1}: {line(rival['label'], 40)} {rival['cite']}")
    for one in data["experiments"]:
        lines.append(f"- {one['kind']}: {one['error'] or one['status']} {one['cite']}")
        lines += [part for seen in one["observations"] for part in _folded(
            seen["outcome"] or "found", f"{seen['summary']} {seen['cite']}")]  # fmt: skip
    return lines


def _examples(data: Json, cite: str) -> list[str]:
    lines = [f"{data['unit']}: {data['shown']} of {data['kept']} kept examples {cite}:"]
    for row in data["examples"]:
        peak, tokens = row["peak"], row["tokens"]
        low = max(0, peak - 9)
        text = shown("".join(tokens[low : peak + 4]))
        token = shown(row["strongest_token"])
        lines.append(f"- {number(row['activation'])} at “{token}” in “{text}” {row['cite']}")
    return lines


def _compare(data: Json, cite: str) -> list[str]:
    lines = [f"Side by side {cite}:"]
    for row in data["units"]:
        facts = [
            f"F1 {row['f1']:.2f} [{row['f1_low']:.2f}, {row['f1_high']:.2f}]" if row["f1_low"] is not None else None,
            f"active on {share(row['density'])} of tokens" if row["density"] is not None else None,
            f"maximum {number(row['maximum'])}" if row["maximum"] is not None else None,
        ]
        told = "; ".join(fact for fact in facts if fact) or row["state"]
        cites = " ".join(row[name] for name in ("score", "cite") if row[name])
        lines.append(f"- {row['unit']} {row['verdict'] or 'not described'}: {told} {cites}")
        lines.append(f"  {line(row['label'] or 'no label', 60)} {row['description'] or row['cite']}")
    for row in data["differences"]:
        told = "; ".join(
            f"{name} {row[key]:+.4g}" for key, name in (("f1", "F1"), ("density", "density"), ("maximum", "maximum"))
            if row[key] is not None
        )  # fmt: skip
        lines.append(f"- {row['of']} less {row['less']}: {told} {cite}")
    return lines


def _units(data: Json, cite: str) -> list[str]:
    if "units" in data:
        lines = [f"{data['found']} units {cite}:"]
        return lines + [
            f"- {row['unit']} {row['state']}"
            + (f", active on {share(row['density'])} of tokens" if row["density"] is not None else "")
            + (f", duplicates {row['duplicate_of']}" if row["duplicate_of"] else "") + f" {row['cite']}"
            for row in data["units"]
        ]  # fmt: skip
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in data["verdicts"].items())
    head = f"{data['found']} descriptions fit" + (f": {verdicts}" if verdicts else "")
    more = f"The first {data['shown']}" if data["shown"] < data["found"] else "All of them"
    lines = [f"{head} {cite}."]
    return lines + (
        [f"{more.strip()} {cite}:"] + [_described(row) for row in data["descriptions"]] if data["shown"] else []
    )


def _search(data: Json, cite: str) -> list[str]:
    if not data["descriptions"]:
        return [f"No description matches {cite}."]
    more = " or more" if data["more"] else ""
    return [f"{data['matches']}{more} descriptions match {cite}:", *(_described(row) for row in data["descriptions"])]


def _campaign(data: Json, cite: str) -> list[str]:
    if "campaigns" in data:
        return [f"{data['found']} campaigns {cite}:"] + [
            f"- {row['campaign']}, {row['status']}: {row['done']} done, {row['failed']} failed, "
            f"{row['skipped']} skipped of {row['investigations']} units; {row['supported']} of {row['descriptions']} "
            f"descriptions supported {row['cite']}"
            for row in data["campaigns"]
        ]
    own = data["campaign"]
    lines = [
        f"Campaign '{own['campaign']}' of {own['subject']} is {own['status']} {data['cite']}:",
        f"  {own['investigations']} units: {own['done']} done, {own['failed']} failed, {own['skipped']} skipped",
        f"  {own['descriptions']} descriptions, {own['supported']} supported",
    ]
    for kind, row in data["kinds"].items():
        if kind != "all" and row["median_f1"] is not None:
            lines.append(f"  {kind}: median F1 {row['median_f1']:.2f}; {row['well_described']} well described units")
    outcome = data["outcome"]
    if outcome:
        lines.append(
            f"  of {outcome['claims']} claims {outcome['accepted']} were accepted; "
            f"{outcome['expected_false']:.2g} of them are expected to be false"
        )
        controls = outcome.get("controls") or {}
        if controls.get("claims"):
            lines.append(f"  blind controls: {controls['accepted']} of {controls['claims']} claims were accepted")
    lines.append(f"  it took {own['seconds']:.4g} seconds of work and {own['tool_calls']} tool calls")
    for cost in data["llm"]:
        dollars = "" if cost["dollars"] is None else f"; {cost['dollars']:.4g} dollars"
        lines.append(f"  {cost['purpose']}: {cost['calls']} LLM calls; {cost['prompt_tokens']} tokens of prompts; "
                     f"{cost['completion_tokens']} tokens of answers{dollars} {cite}")  # fmt: skip
    return lines


_TELLERS: Mapping[str, Callable[[Json, str], list[str]]] = {
    "unit": _unit, "why": _why, "evidence": _evidence, "kept_examples": _examples, "compare": _compare,
    "units": _units, "search": _search, "campaign": _campaign,
}  # fmt: skip


def _described(row: Json) -> str:
    f1 = "" if row["f1"] is None else f" F1 {row['f1']:.2f}"
    span = "" if row["f1_low"] is None or row["f1_high"] is None else f" [{row['f1_low']:.2f}, {row['f1_high']:.2f}]"
    return f"- {row['unit']}{row['polarity']} {row['verdict']}{f1}{span}: {line(row['label'], 40)} {row['cite']}"


def _score(row: Json) -> str:
    name = _METRICS.get(row["metric"], row["metric"])
    if row["value"] is None:
        return f"{name}: not known {row['cite']}"
    told = f"{name} {two(row['value'])}"
    if row["low"] is not None:
        told += f" [{two(row['low'])}, {two(row['high'])}]"
    if row["null_mean"] is not None:
        told += f"; null {two(row['null_mean'])}"
    told += "".join(f"; {letter} {row[key]:.2g}" for letter, key in (("p", "p_value"), ("q", "q_value"))
                    if row[key] is not None)  # fmt: skip
    if row["n_examples"]:
        told += f"; {row['n_examples']:,} tokens of {row['n_documents']:,} documents"
    return f"{told} {row['cite']}"


def _generic(use: Use, cite: str) -> list[str]:
    """The summary, then the data as far as they are short."""
    lines = textwrap.wrap(f"{shown(use.summary)} {cite}:", _WIDTH, break_long_words=False, break_on_hyphens=False)
    rows = list(_flat(use.data))
    lines = [" ".join(lines)]
    lines += [f"- {row}" for row in rows[:_LINES]]
    if len(rows) > _LINES:
        lines.append("The rest is on record: --json has all.")
    return lines


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Data as lines: one for each thing of a list, its plain values side by side."""
    if isinstance(value, Mapping):
        plain = {name: inner for name, inner in value.items() if not isinstance(inner, Mapping | list)}
        plain |= {
            f"{name} {key}": inner
            for name, held in value.items()
            if isinstance(held, Mapping) and all(not isinstance(inner, Mapping | list) for inner in held.values())
            for key, inner in held.items()
        }
        told = "; ".join(
            f"{name.replace('_', ' ')} {_value(inner)}" for name, inner in plain.items() if inner is not None
        )
        if told:
            yield " ".join([*path, told])
        for name, inner in value.items():
            if isinstance(inner, list) or (
                isinstance(inner, Mapping) and not any(k.startswith(f"{name} ") for k in plain)
            ):
                yield from _flat(inner, (*path, f"{name.replace('_', ' ')}:"))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for inner in value:
            yield from _flat(inner, path)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"“{line(value, 60)}”" if isinstance(value, str) else str(value)


def _folded(head: str, text: str | None) -> list[str]:
    """A passage of several lines, as one paragraph: its lines go on."""
    return [] if not text else [f"  {head}: {line(text, 1200)}"]


def line(text: str, most: int) -> str:
    """Text on one line, cut at a word; safe to print."""
    one = " ".join(shown(text.replace("\n", " ")).split())
    if len(one) <= most:
        return one
    return (one[:most].rpartition(" ")[0] or "") + " …"


def two(value: float) -> str:
    """A score with two decimals."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def number(value: float | None) -> str:
    """A number to three digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def share(value: float) -> str:
    """A share as a percentage with enough digits to tell rare from never."""
    if value == 0 or value >= 0.0995:
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2g} %"
