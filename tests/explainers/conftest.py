"""A small split in memory: made-up sentences, tokens that cut words in pieces, and activations set by a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from tools.types import Sample, UnitId

NOUNS = ["cat", "dog", "bird", "house", "garden", "river", "stone", "apple", "king", "queen"]
VERBS = ["running", "jumping", "saw", "found", "ate", "took", "wanted", "walking", "sleeping", "liked"]
PLACES = ["in", "on", "under", "near", "behind", "of"]
Activation = Callable[[str, int, list[str]], float]


def cut(text: str) -> list[str]:
    """Tokens of at most four characters; a space belongs to the word that follows it."""
    pieces: list[str] = []
    for word in text.replace(" ", "\0 ").split("\0"):
        pieces += [word[i : i + 4] for i in range(0, len(word), 4)] if word else []
    return pieces


@dataclass
class MemoryTexts:
    """Contexts as pieces; each starts with a beginning-of-sequence token."""

    contexts: list[list[str]]
    reads: list[int] = field(default_factory=list)

    def pieces(self, context: int) -> list[str]:
        self.reads.append(context)
        return self.contexts[context]

    def document(self, context: int) -> int:
        return context

    def document_id(self, document: int) -> str:
        return f"d{document}"


class MemoryView:
    """A split of which every position is in the panel. `activation(text so far, position, pieces)` is the unit."""

    def __init__(self, seed: int, n_contexts: int = 120) -> None:
        rng = np.random.default_rng(seed)
        contexts = []
        for _ in range(n_contexts):
            words = []
            for _ in range(8):
                words += [
                    rng.choice(["The", "A"]), rng.choice(NOUNS), rng.choice(VERBS),
                    rng.choice(PLACES), rng.choice(["the", "a", "one"]),
                    rng.choice(NOUNS) + rng.choice([".", ",", "!"]),
                ]  # fmt: skip
            contexts.append(["<s>", *cut(" ".join(words))])
        self.texts = MemoryTexts(contexts)
        self.panel_contexts = np.arange(n_contexts)
        self.units: dict[UnitId, Activation] = {}

    def sample(self, unit: UnitId) -> Sample:
        contexts, positions, values = [], [], []
        for number, pieces in enumerate(self.texts.contexts):
            text = ""
            for position in range(1, len(pieces)):
                text += pieces[position]
                contexts.append(number)
                positions.append(position)
                values.append(self.units[unit](text, position, pieces))
        where = np.array(contexts)
        return Sample(
            where, np.array(positions), np.array(values, np.float32), np.ones(len(where), np.float32), where.copy()
        )


@pytest.fixture
def splits() -> Callable[[Activation], tuple[MemoryView, MemoryView, MemoryView, UnitId]]:
    """Explore, refine and held-out views in which a unit has the given activation."""

    def make(activation: Activation) -> tuple[MemoryView, MemoryView, MemoryView, UnitId]:
        unit = UnitId("mlp:0", 0)
        views = MemoryView(1), MemoryView(2, 50), MemoryView(3, 80)
        for view in views:
            view.units[unit] = activation
        return (*views, unit)

    return make
