"""What the search finds beyond single sets, and what asking the subject adds: on units that are functions of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from explainers.pattern.explainer import PatternExplainer
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from explainers.types import Evidence, Explanation, NullRecorder
from tools.types import FloatArray, Sample, UnitId

Activation = Callable[[Sequence[str], int], float]
UNIT = UnitId.parse("mlp:0:0")
WORDS = ["<s>", *(f" w{i}" for i in range(30)), " he", " she", " it", " said", " ran"]


class Texts:
    """Sentences in which 'said' always follows a pronoun, with words around."""

    def __init__(self, seed: int, n: int):
        rng = np.random.default_rng(seed)
        self.rows: list[list[int]] = []
        for _ in range(n):
            row = [0]
            for _ in range(6):
                row += rng.integers(1, 31, 3).tolist()
                if rng.random() < 0.5:
                    # 'it' is rare, so that explore holds it hardly ever before 'said'.
                    row += [int(rng.choice([31, 32, 33], p=[0.6, 0.39, 0.01])), 34]
                else:
                    row += [35]
            self.rows.append(row)

    def ids(self, context: int) -> Any:
        return np.array(self.rows[context], np.int64)

    def pieces(self, context: int) -> list[str]:
        return [WORDS[i] for i in self.rows[context]]

    def document(self, context: int) -> int:
        return context

    def document_id(self, document: int) -> str:
        return str(document)


class View:
    """Every position of the texts, with the unit's activations."""

    def __init__(self, unit: Activation, seed: int, n: int = 250):
        self.texts = Texts(seed, n)
        self.panel_contexts = np.arange(n)
        where = [(c, p) for c, row in enumerate(self.texts.rows) for p in range(1, len(row))]
        contexts, positions = np.array(where).T
        values = np.array([unit(self.texts.pieces(c), p) for c, p in where], np.float32)
        self._sample = Sample(contexts, positions, values, np.ones(len(values), np.float32), contexts)

    def sample(self, unit: UnitId) -> Sample:
        return self._sample


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Explanation]:
    """Explains a function of tokens; edits are made on the function itself."""

    def go(unit: Activation, *, edits: bool = True) -> Explanation:
        def activations(subject: Any, units: Any, sequences: Sequence[Sequence[int]], **_: Any) -> list[FloatArray]:
            pieces = [[WORDS[i] for i in row] for row in sequences]
            return [np.array([[0.0, *(unit(row, p) for p in range(1, len(row)))]], np.float32) for row in pieces]

        monkeypatch.setattr("tools.units.unit_activations", activations)
        monkeypatch.setattr("tools.edits.unit_activations", activations)
        monkeypatch.setattr("tools.edits.check_unit", lambda subject, unit: None)
        subject = SimpleNamespace(
            prefix=[0], causal=True, tokenizer=SimpleNamespace(all_special_ids=[0]),
            pieces=lambda ids: [WORDS[i] for i in ids],
        )  # fmt: skip
        evidence = Evidence(UNIT, "+", subject, View(unit, 1), View(unit, 2, 100), 1.0, 0)  # type: ignore[arg-type]
        return PatternExplainer(edits=edits).explain(evidence, NullRecorder())[0]

    return go


def fires(told: Explanation, words: str) -> bool:
    """Whether the rule says that the unit fires on the last of these words."""
    row = ["<s>", *(f" {word}" for word in words.split())]
    texts = SimpleTexts(row)
    assert told.rule is not None
    rule = RulePredictor(parse_rule(told.rule))
    return bool(rule.predict(texts, np.zeros(1, int), np.array([len(row) - 1]))[0] > 1.0)


class SimpleTexts:
    def __init__(self, row: list[str]):
        self.row = row

    def pieces(self, context: int) -> list[str]:
        return self.row


PRONOUNS = (" he", " she", " it")


def said_by_someone(pieces: Sequence[str], p: int) -> float:
    return 2.0 * (pieces[p] == " said" and pieces[p - 1] in PRONOUNS)


def near_a_pronoun(pieces: Sequence[str], p: int) -> float:
    return 2.0 * (pieces[p] == " said" and any(word in PRONOUNS for word in pieces[max(p - 3, 0) : p]))


def in_the_middle(pieces: Sequence[str], p: int) -> float:
    return 2.0 * (5 <= p <= 11)


def not_after(pieces: Sequence[str], p: int) -> float:
    return 2.0 * (pieces[p] in (" w1", " w2", " w3") and pieces[p - 1] not in (" said", " ran"))


def not_again(pieces: Sequence[str], p: int) -> float:
    return 2.0 * (pieces[p] in (" w1", " w2", " w3") and pieces[p] not in pieces[1:p])


def test_a_place_that_texts_never_vary_is_found_by_edits(explained: Callable[..., Explanation]) -> None:
    blind, told = explained(said_by_someone, edits=False), explained(said_by_someone)
    # 'said' always follows a pronoun, so the texts alone do not say that it must.
    assert fires(blind, "w4 w5 said")
    assert not fires(told, "w4 w5 said")
    assert all(fires(told, f"w4 {pronoun} said") for pronoun in ("he", "she", "it"))


def test_the_distance_of_a_set_is_tried_on_the_subject(explained: Callable[..., Explanation]) -> None:
    told = explained(near_a_pronoun)
    assert fires(told, "w4 he w5 w6 said")
    assert fires(told, "w4 w7 he w6 said")
    assert not fires(told, "he w4 w5 w6 said")
    assert not fires(told, "w4 w5 w6 w7 said")


@pytest.mark.parametrize("unit", [in_the_middle, not_after, not_again])
def test_intervals_of_positions_and_exclusions_are_found_exactly(
    unit: Activation, explained: Callable[..., Explanation]
) -> None:
    told = explained(unit, edits=False)
    view = View(unit, 9, 100)
    sample = view.sample(UNIT)
    assert told.rule is not None
    said = RulePredictor(parse_rule(told.rule)).predict(view.texts, sample.contexts, sample.positions) > 1.0
    assert (said == (sample.values > 1.0)).all(), told.rule
    assert told.details["literals"] <= 3
