"""What the language model is shown of a contest: texts, rivals with their weights, and what came of earlier trials.

What comes first changes least from call to call, so that servers keep the beginning of a prompt. Everything that a
corpus or a language model wrote goes through `explainers.llm.show`: it cannot begin a line of its own, forge a mark or
end a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.contest.llm.expected import words_alone
from agent.contest.llm.mistakes import Standing, fit_line
from agent.contest.policy import Context
from agent.contest.types import Outcome, Probe, Rival
from explainers.llm.show import defused, show, shown
from explainers.pattern.heads import head_sentence
from explainers.prompted.answers import scaled
from explainers.prompted.asking import quoted
from explainers.prompted.evidence import WINDOW, Excerpt, line, scale_of
from explainers.prompted.pattern_llm import shortened
from explainers.prompted.predictors import stated
from explainers.prompted.quantiles import mixed
from explainers.rules.language import format_rule, parse_rule

#: Results that are shown at most: those that the best rival had not expected, then the latest.
RESULTS = 16
#: Variants of one text that are named, of those that are active and of those that are silent.
ACTIVE, SILENT = 32, 12
#: Edits that are shown of one text: those that change most.
EDITS = 4
#: Characters of a question, or of what was wrong with a trial, that are shown.
_SAID = 160


@dataclass(frozen=True)
class Material:
    """Texts of the corpus, and the magnitude of level 10."""

    excerpts: tuple[Excerpt, ...]
    scale: float


def material(context: Context, examples: int) -> Material:
    """Some of the strongest texts and some of the tail's; the scale is that of the rivals, where they have one."""
    found = mixed(context.evidence, (examples + 1) // 2, examples // 2, WINDOW)
    scales = [rival.explanation.details.get("scale") for rival in context.rivals]
    told = [float(scale) for scale in scales if isinstance(scale, int | float) and scale > 0]
    return Material(tuple(found), max(told, default=scale_of(found)))


def variables(context: Context, material: Material, standings: Sequence[Standing]) -> dict[str, Any]:
    """What templates of the contest ask for.

    Args:
        context: Of the policy.
        material: From `material`.
        standings: How the rivals that have rules do on explore.

    Returns:
        `texts`, as for explainers; `attention`, a head's, in words; `rivals`, each with `key`, `words`, `rule` and
        `weight`; `fits`, lines on those that have rules; `results`, lines; `active_from`.
    """
    evidence, scale = context.evidence, material.scale
    return {
        "texts": [line(excerpt, scale, evidence.threshold) for excerpt in material.excerpts],
        "attention": None if evidence.edges is None else head_sentence(evidence.edges),
        "rivals": [
            {
                "key": rival.key, "words": _said_of(context, rival),
                "weight": f"{context.weights[rival.key]:.0%}", "rule": rule_shown(rival, scale),
            }
            for rival in context.rivals
        ],
        "fits": [fit_line(one) for one in standings],
        "results": result_lines(context, scale),
        "active_from": f"{min(10.0, 10 * evidence.threshold / scale):.1f}" if scale else "0.0",
    }  # fmt: skip


def _said_of(context: Context, rival: Rival) -> str:
    """Its words; of a rival that is tested by its rule, which stands beside them, the label alone."""
    if rival.explanation.rule is None or words_alone(context, rival):
        return defused(stated(rival.explanation))
    return _line(rival.explanation.label)


def rule_shown(rival: Rival, scale: float) -> str:
    """Its rule in levels, without what there is no room for; empty where it has none."""
    if rival.explanation.rule is None or not scale:
        return ""
    return format_rule(shortened(scaled(parse_rule(rival.explanation.rule), 10 / scale))).strip()


def result_lines(context: Context, scale: float) -> list[str]:
    """What came of trials, two lines each: the place, then the level with its sign and what was expected.

    Where there are more than `RESULTS`, those that the best rival had not expected come first into the list, then the
    latest; they stand in the order in which they came.
    """
    told: list[tuple[bool, str]] = []
    for outcome in context.outcomes:
        if outcome.error is not None:
            told.append((False, f"not run: “{_line(outcome.trial.question)}”: {_line(outcome.error)}"))
            continue
        told += _results(context, outcome, scale)
        told += [(False, f"not run: {_line(wrong)}") for wrong in outcome.trial.aim.get("left_out", ())]
    order = sorted(range(len(told)), key=lambda i: (not told[i][0], -i))[:RESULTS]
    lines: list[str] = []
    number = 0
    for i in sorted(order):
        number += not told[i][1].startswith("not run: ")
        lines.append(told[i][1] if told[i][1].startswith("not run: ") else f"[{number}] {told[i][1]}")
    return lines


def _results(context: Context, outcome: Outcome, scale: float) -> list[tuple[bool, str]]:
    """Lines of one trial, each with whether the best rival had not expected it."""
    if outcome.trial.tool == "edit_tokens":
        return [(True, line) for line in _edits(context, outcome, scale)]
    if "variants" in outcome.trial.aim:
        return [(True, _variants(context, outcome))]
    expected = outcome.trial.aim.get("expected", {})
    keys = [rival.key for rival in context.rivals]
    best = expected.get(context.best.key)
    lines = []
    for number, (probe, value, on) in enumerate(zip(outcome.trial.probes, outcome.values, outcome.active, strict=True)):
        said = ", ".join(f"{key} {expected[key][number]} %" for key in keys if key in expected)
        surprising = best is None or (best[number] > 50) != on
        lines.append((
            surprising,
            f"{marked(context, probe)}\n    came: {signed_level(context, value, scale)}, "
            f"{'active' if on else 'silent'}{f'; expected: {said}' if said else ''}",
        ))  # fmt: skip
    return lines


def _variants(context: Context, outcome: Outcome) -> str:
    """What came of a text's variants, in one line: which are active, and which are silent."""
    aim, active = outcome.trial.aim, outcome.active
    base = str(aim["base"])
    subject = context.desk.bench.subject
    last = len(subject.encode(base)) - 1
    place = marked(context, Probe(base, last - int(aim["back"])))
    sides = {on: [told for told, one in zip(aim["variants"], active, strict=True) if one is on] for on in (True, False)}
    one_token = aim["kind"] == "substitute"

    def named(side: list[str], most: int) -> str:
        words = [quoted([told]) if one_token else _line(told) for told in side[:most]]
        more = f" and {len(side) - most} others" if len(side) > most else ""
        return (", " if one_token else "; ").join(words) + more if side else "none"

    what = f"with others in its place{', read at the end' if aim['back'] else ''}" if one_token else "changed"
    return f"{place}\n    {what}: active {named(sides[True], ACTIVE)} | silent {named(sides[False], SILENT)}"


def _edits(context: Context, outcome: Outcome, scale: float) -> list[str]:
    """What replacing single tokens did, where it did most."""
    arguments = outcome.trial.arguments
    lines = []
    for text, row in zip(arguments["texts"], outcome.data["texts"], strict=True):
        edits: Sequence[dict[str, Any]] = row["edits"]
        if not edits:
            continue
        original = float(edits[0]["original"])
        most = sorted(edits, key=lambda edit: -abs(float(edit["replaced"]) - original))[:EDITS]
        told = ", ".join(
            f'"{shown(str(edit["piece"]))}" {signed_level(context, float(edit["replaced"]), scale)}' for edit in most
        )
        place = marked(context, Probe(text, int(row["position"])))
        lines.append(
            f"{place}\n    came: {signed_level(context, original, scale)}; with another token in the place of: {told}"
        )
    return lines


def marked(context: Context, probe: Probe) -> str:
    """A probe's text on one line, the token that is read within « »."""
    subject = context.desk.bench.subject
    first = len(subject.prefix)
    pieces = subject.pieces(subject.encode(probe.text))[first:]
    return show(pieces, [probe.position - first]).text


def signed_level(context: Context, value: float, scale: float) -> str:
    """An activation on the scale of levels, rounded; below zero where it is of the other sign than the tail's."""
    return f"{10 * context.evidence.sign * value / scale:+.0f}" if scale else "+0"


def _line(text: str) -> str:
    cut = text if len(text) <= _SAID else text[:_SAID] + " …"
    return defused(" ".join(cut.split()))
