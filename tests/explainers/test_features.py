from __future__ import annotations

import numpy as np

from explainers.rules.evaluate import RulePredictor, matches
from explainers.rules.features import FAMILIES, FeatureTable
from explainers.rules.language import parse_rule
from explainers.rules.reading import Reading


class Texts:
    def __init__(self, *contexts: list[str]) -> None:
        self.contexts = contexts

    def pieces(self, context: int) -> list[str]:
        return self.contexts[context]


STORY = ["<s>", " Once", " up", "on", " a", " time", ",", " she", " sa", "id", ' "', "No", "!", '"', "\n", "    ", "on"]


def test_the_table_says_the_same_as_evaluation() -> None:
    texts = Texts(STORY, STORY[3:])
    table = FeatureTable(texts, np.array([0]))
    for context, pieces in enumerate(texts.contexts):
        positions = np.arange(len(pieces))
        codes = table.rows(np.full(len(pieces), context), positions)
        reading = Reading(pieces)
        for code in range(table.n_codes):
            family = FAMILIES[table.family_of[code]]
            held = reading.holds(family.literal((table.member_of[code],)))
            columns = codes[:, family.columns[0] : family.columns[-1] + 1]
            assert ((columns == code).sum(1) == held).all(), (family, table.member_of[code])


def test_codes_of_known_literals_do_not_change_as_the_table_grows() -> None:
    texts = Texts(STORY, [*STORY, " new", " words"])
    table = FeatureTable(texts, np.array([0]))
    before = table.rows(np.zeros(len(STORY), int), np.arange(len(STORY)))
    table.rows(np.ones(len(STORY), int), np.arange(len(STORY)))
    assert (table.rows(np.zeros(len(STORY), int), np.arange(len(STORY))) == before).all()


def test_the_first_matching_clause_decides() -> None:
    rule = parse_rule('rule v1\n0.2 if text ends "on"\n3 if token in {"on", " a"}\nelse 0.5')
    texts = Texts(STORY, ["<s>", " a"])
    contexts, positions = np.array([0, 1, 0, 0]), np.array([3, 1, 4, 5])
    assert matches(rule, texts, contexts, positions).tolist() == [0, 1, 1, -1]
    predicted = RulePredictor(rule).predict(texts, contexts, positions)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, [0.2, 3, 3, 0.5], rtol=1e-6)


def test_no_positions_give_no_predictions() -> None:
    rule = parse_rule("rule v1\nelse 0.5")
    assert RulePredictor(rule).predict(Texts(STORY), np.zeros(0, int), np.zeros(0, int)).shape == (0,)
