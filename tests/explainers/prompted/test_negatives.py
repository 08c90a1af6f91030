"""Hard negatives by likeness: silent texts of explore, most like the active ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainers.llm.likeness import Bm25
from explainers.prompted import negatives
from explainers.prompted.evidence import strongest
from explainers.prompted.negatives import by_likeness, hard_texts
from explainers.types import Evidence
from tools.types import Example, FloatArray, IntArray, Split, UnitId

UNIT = UnitId("mlp:0", 0)
SEA = ["sail", "mast", "harbour", "wave", "gull", "rope"]
LAND = ["plough", "field", "barn", "wheat", "fence", "mule"]


@dataclass
class Texts:
    rows: list[list[str]]

    def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
        return self.rows[context][start:stop]


class View:
    """Contexts speak of the land or of the sea; 'whale', the unit's word, is in a third of these."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        rows = []
        for context in range(60):
            words = [str(rng.choice(SEA if context % 2 else LAND)) for _ in range(24)]
            if context % 6 == 1:
                words[12] = "whale"
            rows.append(["<s>", *(f" {word}" for word in words)])
        self.texts = Texts(rows)
        self.values = np.array([[3.0 * (piece == " whale") for piece in row] for row in rows], dtype=np.float32)
        self.panel_contexts = np.arange(60)

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        return np.repeat(np.arange(60), 24), np.tile(np.arange(1, 25), 60)

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        return np.stack([self.values[:, 1:].ravel() for _ in units])

    def examples(self, unit: UnitId, kind: str, n: int, window: int = 24) -> list[Example]:
        found = np.flatnonzero(self.values.max(axis=1) > 0)[:n].tolist()
        return [
            Example(f"d{c}", Split.EXPLORE, kind, c, 1, 12, tuple(self.texts.rows[c][1:]), tuple(values[1:]), 1.0)
            for c, values in zip(found, self.values[found].tolist(), strict=True)
        ]


def evidence(threshold: float = 1.0) -> Evidence:
    view: Any = View()
    return Evidence(UNIT, "+", None, view, view, threshold, 0)


@dataclass
class Kit:
    likeness: Any


def kit(likeness: Any = None) -> Any:
    return Kit(likeness or Bm25())


def test_hard_texts_are_silent_distinct_and_speak_of_the_same() -> None:
    found = hard_texts(evidence(), kit(), 12)
    assert len(found) == 12
    assert len({excerpt.context for excerpt in found}) == 12
    for excerpt in found:
        assert excerpt.strongest == 0
        assert any(f" {word}" in excerpt.pieces for word in SEA)
        assert excerpt.pieces == tuple(View().texts.pieces(excerpt.context, *excerpt.place[1:]))


def test_an_embedding_decides_where_there_is_one() -> None:
    class Backwards:
        name, lexical = "backwards", False

        def to(self, queries: Sequence[str], texts: Sequence[str]) -> FloatArray:
            return np.array([[float("plough" in text) for text in texts] for _ in queries], dtype=np.float32)

    found = hard_texts(evidence(), kit(Backwards()), 5)
    assert all(" plough" in excerpt.pieces for excerpt in found)


def test_where_nothing_is_active_or_silent_there_is_none() -> None:
    assert hard_texts(evidence(), kit(), 0) == []
    silent: Any = View()
    silent.values[:] = 0
    assert hard_texts(Evidence(UNIT, "+", None, silent, silent, 1.0, 0), kit(), 5) == []
    loud: Any = View()
    loud.values[:] = 5
    assert hard_texts(Evidence(UNIT, "+", None, loud, loud, 1.0, 0), kit(), 5) == []


def test_every_concept_of_a_unit_has_hard_texts_however_long_its_texts_are() -> None:
    """BM25 grows with the query; relative to its largest, a short active text weighs as much as a long one."""
    rank = by_likeness(Bm25())
    active = ["sail mast harbour wave gull rope keel deck anchor", "zinc"]
    texts = ["a sail and a mast and a wave", "some zinc here", "nothing of it", "bread and butter"]
    scores = rank(texts, active)
    assert scores.shape == (4,)
    assert scores[1] >= 0.49
    assert scores[0] >= 0.49
    assert scores[2] == scores[3] == 0


def test_ranking_nothing_gives_nothing() -> None:
    rank: Callable[..., FloatArray] = by_likeness(Bm25())
    assert rank([], ["a"]).shape == (0,)
    assert not rank(["a", "b"], []).any()
    assert len(strongest(evidence(), 16)) >= negatives.NEAREST
