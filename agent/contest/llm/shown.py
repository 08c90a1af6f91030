"""What the language model is shown of a contest: texts, rivals with their weights, and what came of earlier trials.

What comes first changes least from call to call, so that servers keep the beginning of a prompt. Everything that a
corpus or a language model wrote goes through `explainers.llm.show`: it cannot begin a line of its own, forge a mark or
end a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.contest.policy import Context
from agent.contest.types import Outcome, Probe, Rival
from explainers.llm.show import defused, show, shown
from explainers.pattern.heads import head_sentence
from explainers.prompted.answers import scaled
from explainers.prompted.evidence import WINDOW, Excerpt, line, scale_of
from explainers.prompted.pattern_llm import shortened
from explainers.prompted.predictors import stated
from explainers.prompted.quantiles import mixed
from explainers.rules.language import format_rule, parse_rule

#: Results that are shown at most, the latest.
RESULTS = 24
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


def variables(context: Context, material: Material, *, rules: bool) -> dict[str, Any]:
    """What templates of the contest ask for.

    Args:
        context: Of the policy.
        material: From `material`.
        rules: Whether rivals are shown with their rules, for one who is to write rules.

    Returns:
        `texts`, as for explainers; `attention`, a head's, in words; `rivals`, each with `key`, `words`, `rule` and
        `weight`; `results`, lines; `active_from`.
    """
    evidence, scale = context.evidence, material.scale
    return {
        "texts": [line(excerpt, scale, evidence.threshold) for excerpt in material.excerpts],
        "attention": None if evidence.edges is None else head_sentence(evidence.edges),
        "rivals": [
            {
                "key": rival.key, "words": defused(stated(rival.explanation)),
                "weight": f"{context.weights[rival.key]:.0%}", "rule": rule_shown(rival, scale) if rules else "",
            }
            for rival in context.rivals
        ],
        "results": result_lines(context, scale),
        "active_from": f"{min(10.0, 10 * evidence.threshold / scale):.1f}" if scale else "0.0",
    }  # fmt: skip


def rule_shown(rival: Rival, scale: float) -> str:
    """Its rule in levels, without what there is no room for; empty where it has none."""
    if rival.explanation.rule is None or not scale:
        return ""
    return format_rule(shortened(scaled(parse_rule(rival.explanation.rule), 10 / scale)))


def result_lines(context: Context, scale: float) -> list[str]:
    """What came of the latest trials, two lines each: the place, then the level with its sign and what was expected."""
    told: list[str] = []
    number = 0
    for outcome in context.outcomes:
        if outcome.error is not None:
            told.append(f"not run: “{_line(outcome.trial.question)}”: {_line(outcome.error)}")
            continue
        for one in _results(context, outcome, scale):
            number += 1
            told.append(f"[{number}] {one}")
    return told[-RESULTS:]


def _results(context: Context, outcome: Outcome, scale: float) -> list[str]:
    if outcome.trial.tool == "edit_tokens":
        return _edits(context, outcome, scale)
    expected = outcome.trial.aim.get("expected", {})
    keys = [rival.key for rival in context.rivals]
    lines = []
    for number, (probe, value, on) in enumerate(zip(outcome.trial.probes, outcome.values, outcome.active, strict=True)):
        said = ", ".join(f"{key} {expected[key][number]} %" for key in keys if key in expected)
        lines.append(
            f"{marked(context, probe)}\n    came: {signed_level(context, value, scale)}, "
            f"{'active' if on else 'silent'}{f'; expected: {said}' if said else ''}"
        )
    return lines


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
