"""Asking a unit as a black box: inputs go in as tokens, values come out, and every question is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from explainers.symbolic.search import Doubles
from explainers.types import EvidenceView
from tools.subject import Subject
from tools.types import UnitId
from tools.units import unit_activations

#: Inputs that stand in one context, as in FIND's ``PYTHON(f x1 x2 …)``.
_TOGETHER = 60


def as_number(text: str) -> float | None:
    """The number that a token writes; None when it writes none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and text.strip("+-.0123456789") == "" else None


@dataclass(frozen=True)
class Vocabulary:
    """What may be asked: the numbers and words that stand in the explore split, with their tokens."""

    numbers: dict[float, int]
    """Ascending."""
    words: dict[str, int]
    """In alphabetical order."""

    @classmethod
    def of(cls, view: EvidenceView, special: frozenset[int]) -> Vocabulary:
        """Read off the panel of a split. What is in the corpus alone may be asked, so that other inputs stay fresh."""
        numbers: dict[float, int] = {}
        words: dict[str, int] = {}
        for context in view.panel_contexts.tolist():
            for token, piece in zip(view.texts.ids(context).tolist(), view.texts.pieces(context), strict=True):
                text = piece.strip()
                if token in special or not text:
                    continue
                value = as_number(text)
                if value is not None:
                    numbers.setdefault(value, token)
                elif text.isalnum():
                    words.setdefault(text, token)
        return cls(dict(sorted(numbers.items())), dict(sorted(words.items())))


@dataclass
class BlackBox:
    """One unit of a subject, to be asked for its value at inputs; keeps what was asked."""

    subject: Subject
    unit: UnitId
    vocabulary: Vocabulary
    seed: int
    asked: list[tuple[str, float]] = field(default_factory=list)
    """Inputs and values, in the order of asking."""
    contexts: int = 0
    """Texts that went through the subject."""

    @property
    def queries(self) -> int:
        """How many inputs were asked for, repetitions counted."""
        return len(self.asked)

    def numbers(self, x: Doubles) -> Doubles:
        """Values at numbers that the vocabulary has."""
        tokens = [self.vocabulary.numbers[value] for value in x.tolist()]
        return self._ask(tokens, [f"{value:g}" for value in x.tolist()])

    def words(self, words: Sequence[str]) -> Doubles:
        """Values at words that the vocabulary has."""
        return self._ask([self.vocabulary.words[word] for word in words], list(words))

    def _ask(self, tokens: list[int], names: list[str]) -> Doubles:
        """Each input stands at a random place among others, so that what depends on the place is noise, not bias."""
        if not tokens:
            return np.zeros(0)
        order = np.random.default_rng([self.seed, self.queries]).permutation(len(tokens))
        prefix = self.subject.prefix or tokens[:1]
        together = min(_TOGETHER, self.subject.context - len(prefix))
        parts = [order[i : i + together] for i in range(0, len(order), together)]
        sequences = [[*prefix, *(tokens[i] for i in part)] for part in parts]
        found = np.empty(len(tokens))
        for part, values in zip(parts, unit_activations(self.subject, [self.unit], sequences), strict=True):
            found[part] = values[0, len(prefix) :]
        self.contexts += len(sequences)
        self.asked += zip(names, found.tolist(), strict=True)
        return found

    def noise(self, tokens: Sequence[int], names: Sequence[str], times: int = 4) -> float:
        """Standard deviation of the values of an input that is asked repeatedly, pooled over some inputs."""
        repeated = [token for token in tokens for _ in range(times)]
        values = self._ask(repeated, [name for name in names for _ in range(times)]).reshape(len(tokens), times)
        spread = float(np.sqrt(values.var(axis=1, ddof=1).mean()))
        return spread if spread > 1e-6 * max(float(np.abs(values).max()), 1e-12) else 0.0
