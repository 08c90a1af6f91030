"""Scores of answers about drawn texts, against random silent texts and, under names of their own, against hard ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scorers.diagnostics.judged import YES, Item, Items, Verdicts, rng_of
from scorers.diagnostics.labels import measure
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.types import Claim, Setting
from scorers.types import DoubleArray

METRICS: Final = ("balanced_accuracy", "f1", "auroc")


def judged_metrics(name: str) -> list[str]:
    """Names of what `judged_outcomes` gives."""
    return [f"{prefix}_{metric}" for prefix in (name, f"{name}_hard") for metric in METRICS]


def ranked_metrics(name: str) -> list[str]:
    """Names of what `ranked_outcomes` gives."""
    return [f"{name}_auroc", f"{name}_hard_auroc"]


def judged_outcomes(
    name: str, verdicts: Verdicts, claim: Claim, setting: Setting, *, random: Sequence[Item], hard: Sequence[Item]
) -> list[Outcome]:
    """`name_balanced_accuracy`, `_f1`, `_auroc` of a judge's verdicts, and `name_hard_…`.

    Args:
        name: of the diagnostic.
        verdicts: on all items.
        claim: what is tested.
        setting: has the resamples and the seed.
        random: active items and the random ones that they are told from.
        hard: active items and the hard ones.
    """
    return [
        *_outcomes(name, verdicts, random, claim, setting, metrics=METRICS, cut=YES),
        *_outcomes(f"{name}_hard", verdicts, hard, claim, setting, metrics=METRICS, cut=YES),
    ]


def ranked_outcomes(
    name: str, items: Items, value: DoubleArray, claim: Claim, setting: Setting, *, problem: str | None = None
) -> list[Outcome]:
    """`name_auroc` and `name_hard_auroc` of texts that were each given a value by itself.

    Args:
        name: of the diagnostic.
        items: drawn texts.
        value: [n] of `items.all`; NaN where there is none.
        claim: what is tested.
        setting: has the resamples and the seed.
        problem: why values are missing.
    """
    verdicts = Verdicts.of(items.all, value, None, problem)
    random, hard = (*items.active, *items.random), (*items.active, *items.hard)
    return [
        *_outcomes(name, verdicts, random, claim, setting, metrics=["auroc"], cut=None),
        *_outcomes(f"{name}_hard", verdicts, hard, claim, setting, metrics=["auroc"], cut=None),
    ]


def _outcomes(
    prefix: str, verdicts: Verdicts, items: Sequence[Item], claim: Claim, setting: Setting, *, metrics: Sequence[str],
    cut: float | None,
) -> list[Outcome]:  # fmt: skip
    answers, problem = verdicts.on(items), verdicts.problem
    rng = rng_of(claim, setting, f"{prefix} statistics")
    measured = measure(answers, metrics, cut=cut, resamples=setting.resamples, rng=rng)
    return [
        Outcome(
            f"{prefix}_{metric}",
            m.value,
            m.interval.low,
            m.interval.high,
            [m.null] if m.null else [],
            n_examples=len(answers.value),
            n_documents=len(set(answers.document.tolist())),
            n_active=int(answers.active.sum()),
            unparseable=answers.unparseable,
            reason=f"{m.reason}: {problem}" if m.reason and problem else m.reason,
        )
        for metric, m in measured.items()
    ]
