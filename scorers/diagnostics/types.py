"""What a diagnostic is given, and the registry of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from explainers.llm.kit import LlmKit
from explainers.types import Explanation
from scorers.registry import Registry
from scorers.types import ScoreSet, View
from tools.subject import Subject
from tools.types import UnitId


@dataclass(frozen=True)
class Claim:
    """A description and what it is tested on."""

    unit: UnitId
    polarity: str
    threshold: float
    """Magnitude above which the unit counts as active on that tail."""
    explanation: Explanation


@dataclass(frozen=True)
class Setting:
    """Everything else that a diagnostic may use."""

    view: View
    """A sealed split."""
    kit: LlmKit
    subject: Subject | None
    """To run texts through; None where there is no model at hand."""
    others: Sequence[UnitId] = ()
    """Other units of the group: for hard negatives by co-activation and for nulls."""
    resamples: int = 1000
    seed: int = 0
    common_seed: int = 0
    """Of the windows that are the same for all units of a campaign."""
    near_misses: Sequence[str] = ()
    """Texts that the explainer thought would fire the unit and that do not."""


class Diagnostic(Protocol):
    """A protocol that tests a description with the help of a language model."""

    def __call__(self, claim: Claim, setting: Setting) -> ScoreSet:
        """Scores under the diagnostic's usual names, none of them a headline; each with interval, null and cost.

        An answer that could not be had counts as wrong, and its share is stored.
        """
        ...


#: Diagnostics by name.
DIAGNOSTICS: Final[Registry[Diagnostic]] = Registry("diagnostic")
