"""The references: the oracle's translation is exact, the random rule is of the unit's density, the tables look up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.planted import references
from benchmarks.planted.translate import in_words, rule_of
from explainers.predictors import predictor_of
from explainers.registry import get
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import format_rule, parse_rule
from explainers.types import Evidence, NullRecorder
from tools.planted import (
    All,
    AnyOf,
    Before,
    Case,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    UnitTruth,
    Within,
)
from tools.planted.truth import write_truth
from tools.types import Sample, UnitId

WORDS = [f" w{i}" for i in range(12)]
UNIT = UnitId.parse("mlp:0:3")


def truth(*cases: Case, **fields: Any) -> UnitTruth:
    return UnitTruth(str(UNIT), "+", "made", cases, 0.0, **{"tolerance": 0.1, **fields})


class Texts:
    def __init__(self, rows: list[list[str]]):
        self.rows = rows

    def pieces(self, context: int) -> list[str]:
        return self.rows[context]


class View:
    """Contexts of random words, of which every position is sampled; the unit is on where a predicate holds."""

    def __init__(self, on: Predicate, seed: int, n: int = 60, length: int = 40):
        rng = np.random.default_rng(seed)
        rows = [["<s>", *(WORDS[i] for i in rng.integers(0, len(WORDS), length))] for _ in range(n)]
        self.texts = Texts(rows)
        self.panel_contexts = np.arange(n)
        contexts = np.repeat(np.arange(n), length)
        positions = np.tile(np.arange(1, length + 1), n)
        values = np.concatenate([3.0 * on.holds(row)[1:] for row in rows]).astype(np.float32)
        self._sample = Sample(contexts, positions, values, np.ones(len(values), np.float32), contexts)

    def sample(self, unit: UnitId) -> Sample:
        return self._sample


def evidence(on: Predicate, seed: int = 0) -> Evidence:
    return Evidence(UNIT, "+", None, View(on, 1), View(on, 2), 1.5, seed)  # type: ignore[arg-type]


PREDICATES: dict[str, Predicate] = {
    "tokens": TokenIn((" w1", " w2")),
    "bigram": All((TokenIn((" w1",)), Before(1, (" w2", " w3")))),
    "skip-gram apart": All((TokenIn((" w1",)), Within(4, (" w5",)))),
    "skip-gram on itself": All((TokenIn((" w1",)), Within(4, (" w1", " w5")))),
    "vicinity": Within(3, (" w7",)),
    "no vicinity": All((TokenIn((" w1",)), Not(Within(3, (" w7",))))),
    "position": Position(5, 9),
    "start": Position(0, 4),
    "not position": All((TokenIn((" w1",)), Not(Position(5, 9)))),
    "from position": Position(20, 100_000),
    "repeated": Repeated(),
    "induction": Induction(),
    "several": AnyOf((TokenIn((" w1",)), All((TokenIn((" w4",)), Not(Before(2, (" w6",))))))),
    "neither": Not(AnyOf((TokenIn((" w1",)), Before(1, (" w2",))))),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_the_oracles_rule_says_exactly_what_the_predicate_does(name: str) -> None:
    on = PREDICATES[name]
    rule = rule_of(truth(Case(on, 3.0)))
    assert rule is not None
    view = View(on, 7)
    sample = view.sample(UNIT)
    read_back = RulePredictor(parse_rule(format_rule(rule)))
    said = read_back.predict(view.texts, sample.contexts, sample.positions)
    assert sample.values.any()
    assert said.tolist() == sample.values.tolist()


def test_levels_are_clauses_in_the_order_of_the_cases() -> None:
    rule = rule_of(truth(Case(TokenIn((" w1",)), 3.0), Case(AnyOf((TokenIn((" w1", " w2")), Repeated())), 1.0)))
    assert rule is not None
    assert [clause.strength for clause in rule.clauses] == [3.0, 1.0, 1.0]


def test_what_takes_too_many_clauses_is_not_in_the_language() -> None:
    wide = All(tuple(Within(8, (f" w{i}",)) for i in range(6)))
    assert rule_of(truth(Case(wide, 1.0))) is None
    assert rule_of(truth(tolerance=math.inf, noise=True)) is None


def test_the_truth_in_words() -> None:
    text = in_words(truth(Case(PREDICATES["no vicinity"], 3.0)))
    assert text == (
        "Fires where the token is “ w1” and it is not so that “ w7” is among the 3 tokens before."
    )  # fmt: skip


def test_the_oracle_says_and_predicts_the_truth(tmp_path: Path) -> None:
    on = PREDICATES["several"]
    write_truth(tmp_path, [truth(Case(on, 3.0))])
    oracle = get("oracle", truth=str(tmp_path))
    seen = evidence(on)
    (told,) = oracle.explain(seen, NullRecorder())
    predictor = predictor_of(oracle, told)
    assert predictor is not None
    sample = seen.refine.sample(UNIT)
    assert predictor.predict(seen.refine.texts, sample.contexts, sample.positions).tolist() == sample.values.tolist()
    assert told.rule is not None


def test_the_oracle_has_nothing_to_say_of_noise(tmp_path: Path) -> None:
    write_truth(tmp_path, [truth(tolerance=math.inf, noise=True)])
    oracle = get("oracle", truth=str(tmp_path))
    (told,) = oracle.explain(evidence(PREDICATES["tokens"]), NullRecorder())
    assert (told.rule, predictor_of(oracle, told), told.details["literals"]) == (None, None, 0)


@pytest.mark.parametrize("name", ["tokens", "bigram", "position"])
def test_a_random_rule_has_about_the_units_density_and_nothing_to_do_with_it(name: str) -> None:
    on = PREDICATES[name]
    told = [get("random").explain(evidence(on, seed), NullRecorder())[0] for seed in range(30)]
    again = [get("random").explain(evidence(on, seed), NullRecorder())[0] for seed in range(30)]
    assert told == again
    assert len({one.rule for one in told}) > 10
    view = View(on, 5, n=100)
    sample = view.sample(UNIT)
    densities = []
    for one in told:
        assert one.rule is not None
        predictor = RulePredictor(parse_rule(one.rule))
        densities.append(float((predictor.predict(view.texts, sample.contexts, sample.positions) > 1.5).mean()))
    density = float((sample.values > 1.5).mean())
    assert 0.4 * density < np.median(densities) < 2.5 * density


@pytest.mark.parametrize(("name", "knows"), [("token-table", False), ("pair-table", True)])
def test_tables_predict_what_their_width_decides_and_survive_being_stored(name: str, knows: bool) -> None:
    on = PREDICATES["bigram"]
    explainer, seen = get(name), evidence(on)
    (told,) = explainer.explain(seen, NullRecorder())
    predictor = predictor_of(get(name), told)  # another one, as in a process that resumed the work
    assert predictor is not None
    sample = seen.refine.sample(UNIT)
    said = predictor.predict(seen.refine.texts, sample.contexts, sample.positions) > seen.threshold
    true = sample.values > seen.threshold
    assert (said == true).all() == knows
    assert told.details["members"] == (2 if knows else 0)


def test_importing_the_references_registers_them() -> None:
    assert references.OracleExplainer.name == "oracle"
    assert get("random").name == "random"
