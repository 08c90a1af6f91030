"""From a diagnostic's work to its scores: what it cost, and what is stored when it could not be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from explainers.llm.types import AnswerError, CallError
from scorers.diagnostics.cost import billed
from scorers.diagnostics.outcome import Outcome, Protocol, scored
from scorers.diagnostics.types import Claim, Setting
from scorers.types import ScoreSet

Work: TypeAlias = Callable[[Claim, Setting], tuple[Sequence[Outcome], Mapping[str, Any]]]
"""Gives the outcomes, and the settings that make two scores comparable."""


def run(name: str, version: int, metrics: Sequence[str], claim: Claim, setting: Setting, *, work: Work) -> ScoreSet:
    """Do the work and make scores of its outcomes.

    Where calls failed without which nothing can be done (embeddings, by which hard texts are chosen), every metric has
    no value, and the reason. Errors that stop a campaign pass.

    Args:
        name: of the diagnostic.
        version: of it.
        metrics: all names of its outcomes.
        claim: what is tested.
        setting: on what.
        work: the diagnostic.
    """
    with billed() as bill:
        try:
            outcomes, settings = work(claim, setting)
        except (AnswerError, CallError) as error:
            outcomes, settings = [Outcome(metric, reason=f"a call failed: {error}") for metric in metrics], {}
    protocol = Protocol(name, version, settings)
    return tuple(scored(outcome, claim, setting, protocol, began=bill.began, cost=bill.cost) for outcome in outcomes)
