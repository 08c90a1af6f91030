"""Several explainers in place of one, cheap ones first, the others only where those before them leave room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.accounts import asking
from explainers.llm.types import AnswerError, CallError
from explainers.predictors import predictor_of
from explainers.types import Evidence, Explainer, Explanation, Predictor, Recorder

#: F1 on refine of each rival, in their order; None where it is undefined.
Marker = Callable[[Sequence[Explanation], Evidence, Explainer], list[float | None]]


@dataclass(frozen=True)
class StageOf:
    """One of the explainers, and when it is asked."""

    explainer: Explainer
    below: float | None
    """Only when the best rival so far has an F1 below this on the refine split; None: always."""


class StagedExplainer:
    """Asks explainers in turn, and hands on all the rivals that they came up with.

    What each stage found and whether it was needed at all is kept in the rivals' details, under 'stages'.
    """

    name = "stages"

    def __init__(self, stages: Sequence[StageOf], mark: Marker) -> None:
        """Args:
        stages: In the order in which they are asked; the first always is.
        mark: Tells how good rivals are on the refine split.
        """
        self._stages = tuple(stages)
        self._mark = mark

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The rivals of all stages that were asked, in the order of the stages.

        Raises:
            AnswerError, CallError: The first stage that was asked had no answer; a later one only leaves its place.
        """
        rivals: list[Explanation] = []
        told: list[dict[str, Any]] = []
        best: float | None = None
        for number, stage in enumerate(self._stages):
            name, asker = stage.explainer.name, self._asker(number)
            row: dict[str, Any] = {"stage": number + 1, "explainer": name, "ran": False, "f1_before": best}
            if asker != name:
                row["asker"] = asker
            told.append(row)
            if rivals and stage.below is not None and best is not None and best >= stage.below:
                row["f1_after"] = best
                continue
            row["ran"] = True
            try:
                with asking(asker):
                    found = stage.explainer.explain(evidence, recorder)
            except (AnswerError, CallError) as error:
                if not rivals:
                    raise
                row |= {"f1_after": best, "failed": str(error)}
                continue
            with asking(asker):
                marks = [mark for mark in self._mark(found, evidence, stage.explainer) if mark is not None]
            rivals += found
            best = max([*marks, *([] if best is None else [best])], default=None)
            row["f1_after"] = best
        recorder.event("stages", {"polarity": evidence.polarity, "stages": told})
        return [replace(rival, details={**rival.details, "stages": told}) for rival in rivals]

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """As the explainer makes it that wrote the description."""
        return predictor_of(self._author(explanation.explainer), explanation)

    def _asker(self, number: int) -> str:
        """Under which name a stage's calls are on record: the explainer's, numbered where several stages have it."""
        names = [stage.explainer.name for stage in self._stages]
        own, before = names[number], names[:number].count(names[number])
        return own if names.count(own) == 1 else f"{own} ({before + 1})"

    def _author(self, name: str) -> Explainer:
        return next(stage.explainer for stage in self._stages if stage.explainer.name == name)
