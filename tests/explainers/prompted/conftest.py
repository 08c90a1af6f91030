"""A split in memory whose tokens are words, units set by functions, and a language model that says what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from explainers.llm.kit import LlmKit
from explainers.llm.likeness import likeness_for
from explainers.llm.prompts import Prompts
from explainers.llm.types import Abilities, LlmError, Request
from explainers.types import Evidence
from tools.types import Example, FloatArray, Sample, Split, UnitId

NOUNS = ["cat", "dog", "bird", "house", "garden", "river", "stone", "apple", "king", "queen", "bank", "money"]
VERBS = ["saw", "found", "ate", "took", "wanted", "liked", "kept", "left"]
PLACES = ["in", "on", "under", "near", "behind", "of"]
Activation = Callable[[Sequence[str], int], float]


@dataclass
class WordTexts:
    """Contexts as pieces, each with a beginning-of-sequence token."""

    contexts: list[list[str]]

    def pieces(self, context: int) -> list[str]:
        return self.contexts[context]

    def document(self, context: int) -> int:
        return context


class WordView:
    """A split of which every position is in the panel."""

    def __init__(self, contexts: list[list[str]], units: dict[UnitId, Activation], split: Split) -> None:
        self.texts = WordTexts(contexts)
        self.split = split
        self.panel_contexts = np.arange(len(contexts))
        rows = [(c, p) for c, pieces in enumerate(contexts) for p in range(1, len(pieces))]
        self.panel_index = np.array([c for c, _ in rows]), np.array([p for _, p in rows])
        self.units = {u: np.array([f(contexts[c], p) for c, p in rows], np.float32) for u, f in units.items()}

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        return np.stack([self.units[unit] for unit in units])

    def sample(self, unit: UnitId) -> Sample:
        contexts, positions = self.panel_index
        return Sample(contexts, positions, self.units[unit], np.ones(len(contexts), np.float32), contexts)

    def examples(self, unit: UnitId, kind: str, n: int, window: int = 24) -> list[Example]:
        sign = {"top": 1.0, "bottom": -1.0}[kind]
        contexts, positions = self.panel_index
        values = self.units[unit]
        best = [np.flatnonzero(contexts == c)[np.argmax(sign * values[contexts == c])] for c in self.panel_contexts]
        best.sort(key=lambda row: (-sign * values[row], row))
        found = []
        for row in best[: min(n, 24)]:
            pieces = self.texts.pieces(int(contexts[row]))
            start = max(1, min(int(positions[row]) - 2 * window // 3, len(pieces) - window))
            stop = min(start + window, len(pieces))
            inside = values[contexts == contexts[row]][start - 1 : stop - 1]
            found.append(
                Example(
                    f"d{contexts[row]}", self.split, kind, int(contexts[row]), start, int(positions[row]) - start,
                    tuple(pieces[start:stop]), tuple(inside.tolist()), 1.0,
                )
            )  # fmt: skip
        return found


def sentences(seed: int, n: int, length: int = 48) -> list[list[str]]:
    """Made-up sentences; every word is a token, with the space before it."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        words: list[str] = []
        while len(words) < length:
            words += [
                rng.choice(["The", "A"]), rng.choice(NOUNS), rng.choice(VERBS), rng.choice(["the", "a", "one"]),
                rng.choice(NOUNS), rng.choice(PLACES), rng.choice(["the", "a", "one"]), rng.choice(NOUNS), ".",
            ]  # fmt: skip
        out.append(["<s>", *(f" {word}" for word in words[:length])])
    return out


UNIT = UnitId("mlp:0", 0)


@pytest.fixture
def evidence_of() -> Callable[..., Evidence]:
    """Evidence of a unit with the given activation; `others` are activations of more units of its group."""

    def make(
        activation: Activation, *others: Activation, polarity: str = "+", threshold: float = 0.5, **more: Any
    ) -> Evidence:
        units = {UnitId("mlp:0", i): f for i, f in enumerate((activation, *others))}
        explore = WordView(more.pop("contexts", None) or sentences(1, 60), units, Split.EXPLORE)
        refine = WordView(sentences(2, 30), units, Split.REFINE)
        evidence = Evidence(
            UNIT, polarity, None, explore, refine, threshold, seed=7, others=tuple(u for u in units if u != UNIT)
        )
        return replace(evidence, **more)

    return make


DESCRIBED = {
    "label": "the word cat", "fires_on": 'The token " cat".', "exceptions": None, "does_when_on": None, "rule": None,
}  # fmt: skip


@dataclass
class Says:
    """A language model that gives set answers: a dict of a form's fields, or an error that is raised."""

    answer: Callable[[Request], Any] | dict[str, Any] = field(default_factory=lambda: dict(DESCRIBED))
    model: str = "says"
    asked: list[Request] = field(default_factory=list)
    abilities: Abilities = field(default_factory=Abilities)

    def _said(self, request: Request, form: type[Any]) -> Any:
        self.asked.append(request)
        said = self.answer(request) if callable(self.answer) else self.answer
        return said if isinstance(said, LlmError) else form.model_validate(said)

    def ask(self, request: Request, form: type[Any]) -> Any:
        said = self._said(request, form)
        if isinstance(said, LlmError):
            raise said
        return said

    def ask_all(self, requests: Sequence[Request], form: type[Any]) -> list[Any]:
        return [self._said(request, form) for request in requests]

    def read(self, purpose: str, prompts: Sequence[str], top: int = 20) -> list[Any]:
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> FloatArray:
        raise NotImplementedError

    @property
    def user(self) -> str:
        """The last user message."""
        return self.asked[-1].messages[1].content


@pytest.fixture
def says() -> Says:
    return Says()


@pytest.fixture
def kit(says: Says) -> LlmKit:
    """A kit whose model is `says`."""
    return LlmKit(says, Prompts(), likeness_for(None))
