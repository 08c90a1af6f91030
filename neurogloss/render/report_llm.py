"""The part of a campaign's report about language models, in words and cells that its Markdown and HTML forms share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurogloss.render.text import count, money, number, score, share, thousands

if TYPE_CHECKING:
    from agent.reporting.llm import LlmPart, LlmUse

#: What published work spends on a description: one-shot explanation, detection and fuzzing (delphi).
PUBLISHED_TOKENS = 38_000


@dataclass(frozen=True)
class Cells:
    """A table; all columns but the first `left` are set to the right."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def asked(part: LlmPart) -> str:
    """Who asked, and for what."""
    return part.asker if part.purpose in ("", part.asker) else f"{part.asker}: {part.purpose}"


def use_sentences(use: LlmUse) -> list[str]:
    """What it all came to."""
    total = use.total
    dollars = f", {money(total.dollars)}" if total.dollars is not None else ""
    told = [
        f"{count(total.calls)} calls, {count(total.tokens)} tokens{dollars}; {share(_cached(total))} of the prompts' "
        "tokens came from the server's prefix cache, as far as it tells."
    ]
    if use.tokens_per_description is not None:
        told.append(
            f"That is {count(use.tokens_per_description)} tokens for each of {count(use.descriptions)} tested "
            "descriptions, controls and failures included. Published pipelines of one explanation, detection and "
            f"fuzzing spend about {count(PUBLISHED_TOKENS)}."
        )
    if total.known:
        told.append(f"{count(total.known)} answers were on record already and cost nothing.")
    if total.unanswered:
        told.append(f"{count(total.unanswered)} calls were given up without an answer.")
    return told


def cost_table(use: LlmUse) -> Cells:
    """By who asked and for what; dollars only where a price is known."""
    priced = use.total.dollars is not None
    heading = ["asked by", "calls", "prompt", "cached", "answers", *(["USD"] if priced else []), "invalid"]
    rows = []
    for part in [*use.parts, use.total]:
        dollars = [number(part.dollars)] if priced else []
        rows.append(
            [asked(part), thousands(part.calls), thousands(part.prompt_tokens), share(_cached(part)),
             thousands(part.completion_tokens), *dollars, share(_of(part.invalid, part.calls))]
        )  # fmt: skip
    return Cells(heading, rows)


COSTS = (
    "Tokens of prompts, the share of them from the server's prefix cache, tokens of answers, and the share of answers "
    "that were not in the form asked for. An invalid answer gets one repair turn, which is a call of its own."
)


def agreement_sentences(use: LlmUse) -> list[str]:
    """How far words and rules agree, and what running the rules alone would have saved."""
    found = use.agreement
    if found is None:
        return []
    told = [
        f"{count(found.claims)} descriptions have a rule beside their words. They agree about where the unit is active "
        f"to {score(found.median)} (median; 1 is always), and to 0.80 or more for {count(found.agreeing)} of them."
    ]
    if found.words_f1 is not None and found.rule_f1 is not None:
        told.append(f"Median F1 on sealed text: words {score(found.words_f1)}, rules {score(found.rule_f1)}.")
    dollars = f" and {money(found.dollars)}" if found.dollars is not None else ""
    told.append(
        f"Testing the rules in place of these words would have saved {count(found.tokens)} tokens{dollars}, "
        f"{share(_of(found.tokens, use.total.tokens))} of the total."
    )
    return told


STAGES = (
    "Explainers were asked in stages, each only where those before it left room. F1 is the median on refine of the "
    "best rival before and after, where the stage was asked; tokens are its own, with those that compared its rivals."
)


def stage_table(use: LlmUse) -> Cells:
    """What each stage bought."""
    priced = any(stage.dollars is not None for stage in use.stages)
    heading = ["stage", "asked", "failed", "before", "after", "tokens", *(["USD"] if priced else [])]
    rows = [
        [f"{one.stage} {one.explainer}", f"{count(one.ran)} of {count(one.tails)}", count(one.failed),
         score(one.before), score(one.after), thousands(one.tokens), *([number(one.dollars)] if priced else [])]
        for one in use.stages
    ]  # fmt: skip
    return Cells(heading, rows)


DIAGNOSTICS = (
    "Medians over the tested descriptions, with what chance reaches, how many have p ≤ 0.05 by themselves, and the "
    "share of answers that could not be had and count as wrong. No verdict rests on them; they compare with published "
    "numbers."
)


def diagnostic_table(use: LlmUse) -> Cells:
    """Diagnostics under their usual names."""
    heading = ["diagnostic", "n", "median", "chance", "p≤.05", "lost"]
    rows = [
        [one.metric.replace("_", " "), count(one.claims), score(one.median), score(one.chance),
         count(one.significant), share(one.invalid)]
        for one in use.diagnostics
    ]  # fmt: skip
    return Cells(heading, rows)


def published_names(use: LlmUse) -> list[str]:
    """How published work calls them, once each: ``detection f1 … is detection (Paulo et al. 2024)``."""
    names: dict[str, list[str]] = {}
    for one in use.diagnostics:
        names.setdefault(one.published, []).append(one.metric.replace("_", " "))
    return [f"{own[0]}{' …' if len(own) > 1 else ''} is {name}" for name, own in names.items()]


def _cached(part: LlmPart) -> float | None:
    return _of(part.cached_tokens, part.prompt_tokens)


def _of(part: int, whole: int) -> float | None:
    return part / whole if whole else None
