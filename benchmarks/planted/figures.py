"""Figures of one description against the truth: pure functions of arrays of positions.

- *F1*: of 'predicted above the claim's threshold' against the planted predicate. On fresh text every position counts
  once, so it is at the corpus's true prevalence. On near-misses (texts in which the predicate only just holds, or only
  just fails) it is over all positions of those texts.
- *recovered*: F1 of at least `RECOVERED` on fresh text (raw, and above chance) and on near-misses alike. A rule that is
  right wherever text happens to go but wrong about what is needed passes the first and fails the second.
- *above chance*: (F1 - c) / (1 - c) with c = 2pq / (p + q), the F1 that a rule of density q reaches by chance on a unit
  of density p. So a dense unit does not flatter a rule that has nothing to do with it.
- *concepts hit*: parts of a polysemantic unit of whose positions at least half are predicted.
- *exception recall*: share of the positions where the global rule would hold but for the exception that are predicted
  to be silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.types import BoolArray, FloatArray

RECOVERED = 0.9
CONCEPT_RECALL = 0.5
LEVELS = (0.05, 0.1, 0.2)
"""Levels at which the false-discovery rate is looked at."""
FLOOR = 0.3
"""The verdict rule's floor, corrected for chance: a description that truly lies below it is a false discovery."""


def f1(predicted: BoolArray, active: BoolArray) -> float | None:
    """F1 over positions that count once each; None where the unit is active at none and predicted at none."""
    both, either = int((predicted & active).sum()), int(predicted.sum()) + int(active.sum())
    return 2 * both / either if either else None


def above_chance(value: float, predicted: BoolArray, active: BoolArray) -> float:
    """An F1 corrected for what a rule of the same density reaches by chance; 1 is perfect, 0 is chance."""
    p, q = float(active.mean()), float(predicted.mean())
    chance = 2 * p * q / (p + q) if p + q else 0.0
    return (value - chance) / (1 - chance) if chance < 1 else 0.0


def called(prediction: FloatArray, threshold: float, active: BoolArray) -> BoolArray:
    """Where activity is predicted; an answer that could not be parsed (NaN) counts as the wrong one."""
    return np.where(np.isnan(prediction), ~active, prediction > threshold)


def concepts_hit(predicted: BoolArray, active: BoolArray, concepts: Sequence[BoolArray]) -> int:
    """Concepts of which at least `CONCEPT_RECALL` of the positions (where the unit is active) are predicted."""
    hit = 0
    for held in concepts:
        own = held & active
        hit += bool(own.any()) and float(predicted[own].mean()) >= CONCEPT_RECALL
    return hit


def exception_recall(predicted: BoolArray, excepted: BoolArray) -> float | None:
    """Share of the exception's positions that are predicted to be silent; None where there are none."""
    return float((~predicted[excepted]).mean()) if excepted.any() else None


@dataclass(frozen=True)
class Discoveries:
    """Supported claims with a q-value of at most a level, and how many of them are false."""

    level: float
    found: int
    false: int

    @property
    def rate(self) -> float | None:
        """The realised false-discovery proportion; 0 of 0 is none."""
        return self.false / self.found if self.found else None


def discoveries(claims: Sequence[tuple[bool, float | None, bool]], level: float) -> Discoveries:
    """Counts over (supported, q-value, false) of each claim."""
    found = [false for supported, q, false in claims if supported and q is not None and q <= level]
    return Discoveries(level, len(found), sum(found))


def is_false(*, rule_bearing: bool, true_above_chance: float | None) -> bool:
    """Whether accepting a description would be wrong.

    It is where the unit has no rule at all (noise, dead, dense, a random direction), and where the description's F1
    against the truth on fresh text, corrected for chance, lies below the verdict rule's floor.
    """
    return not rule_bearing or true_above_chance is None or true_above_chance < FLOOR
