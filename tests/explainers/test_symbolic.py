"""The explainer that asks a unit for its values and states a formula."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainers.predictors import predictor_of
from explainers.registry import ExplainerError
from explainers.registry import get as get_explainer
from explainers.symbolic.asking import BlackBox, Vocabulary, as_number
from explainers.symbolic.explainer import SymbolicExplainer
from explainers.symbolic.numbers import Found, find_formula
from explainers.symbolic.piecewise import change_points
from explainers.symbolic.predict import FormulaPredictor
from explainers.symbolic.search import Doubles, Library, Search, fit_terms, gains
from explainers.symbolic.words import Features, find_word_formula
from explainers.types import Evidence, Explanation
from tools.corpora import load_corpus
from tools.functions import FindSpec, FunctionTruth, build, evaluate, is_held_out, load_truth, parse, words
from tools.index import ActivationIndex, IndexSettings, build_index
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId
from tools.units import expand

X = np.arange(-128.0, 128.0, 2.0)
FRESH = np.arange(-127.5, 128.0)
LIBRARY = Library(X)
SEEN = [word for word in words("small") if not is_held_out(word)]
FEATURES = Features(SEEN)


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, payload: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(payload)))


def found(text: str, noise: float = 0.0) -> tuple[Found, float]:
    """What is found of a function, and its NMSE on numbers that were not asked for."""
    formula, rng = parse(text), np.random.default_rng(0)

    def ask(more: Doubles) -> tuple[Doubles, Doubles]:
        there = more[(more >= -128) & (more < 128)]
        return there, evaluate(formula, there) + noise * rng.standard_normal(len(there))

    result = find_formula(X, ask(X)[1], noise, LIBRARY, ask)
    true = evaluate(formula, FRESH)
    return result, float(((true - evaluate(result.formula, FRESH)) ** 2).sum() / (true**2).sum())


@pytest.mark.parametrize(
    "text",
    ["3", "0.02*x + 1", "(x/64)**2 - x/50", "abs(x - 20.3)/64", "sqrt(abs(x + 7.2))/8", "8/(abs(x - 3.3) + 5)",
     "log(abs(x - 9.2) + 3)", "2*step(x + 12.25)", "rect((x - 30)/25.5) + 0.2", "relu(x - 3.3)/64",
     "sigmoid((x - 8)/7)", "tanh((x + 60)/30) - 1", "sin(0.11*x + 2)", "cos(0.2*x) + 0.5", "floor(x/23.7)",
     "gauss((x - 20)/15)", "exp(x/70)", "abs(x/64)**2.5", "sin(0.1*x) + relu(x - 20.25)/32"],
)  # fmt: skip
def test_a_function_of_the_language_is_found_and_holds_on_fresh_numbers(text: str) -> None:
    result, error = found(text)
    assert error < 0.02
    assert result.stretch is None


@pytest.mark.parametrize("text", ["sin(0.05*x + 1)", "abs(x - 20.3)/64", "2*step(x + 12.25)"])
def test_noise_does_not_hide_a_function(text: str) -> None:
    result, error = found(text, noise=0.2)
    assert error < 0.05
    assert result.stretch is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("where(20.25 < x < 38.25, 3, x/64)", 20.25, 38.25), ("where(x < -110.25, -2, sin(0.05*x))", -math.inf, -110.25),
     ("where(x > 104.25, 0.05*x - 8, abs(x - 10.25)/64)", 104.25, math.inf)],
)  # fmt: skip
def test_a_corrupted_interval_is_found_to_within_half_a_unit(text: str, low: float, high: float) -> None:
    result, error = found(text)
    assert error < 0.05
    assert result.stretch is not None
    assert (result.stretch.low, result.stretch.high) == pytest.approx((low, high), abs=0.5)
    assert not result.stretch.is_noise


def test_noise_in_an_interval_is_told_from_another_formula() -> None:
    truth = FunctionTruth.from_json({
        "unit": "fn:numeric:0", "category": "corrupted", "family": "linear", "scale": 1.0, "noise": 0.0,
        "formula": parse("0.02*x + 0.5").to_json(),
        "corruption": {"where": ["inside", 20.25, 44.25], "instead": None, "mean": 1.0, "std": 1.5, "seed": 3},
    })  # fmt: skip

    def ask(more: Doubles) -> tuple[Doubles, Doubles]:
        return more, truth.values(more)

    result = find_formula(X, truth.values(X), 0.0, LIBRARY, ask)
    assert result.stretch is not None
    assert result.stretch.is_noise
    assert result.stretch.low == pytest.approx(20.25, abs=2)
    assert result.stretch.high == pytest.approx(44.25, abs=2)
    assert result.stretch.spread == pytest.approx(1.5, rel=0.4)


def test_gains_are_what_least_squares_gains() -> None:
    rng = np.random.default_rng(1)
    y, basis = rng.standard_normal(len(X)), np.linalg.qr(np.stack([np.ones(len(X)), X], axis=1))[0]
    table = rng.standard_normal((5, 2, len(X)))
    residual = y - basis @ (basis.T @ y)
    for gain, columns in zip(gains(table, basis, residual), table, strict=True):
        whole = np.hstack([basis, columns.T])
        left = y - whole @ np.linalg.lstsq(whole, y, rcond=None)[0]
        assert gain == pytest.approx(float(residual @ residual - left @ left), rel=1e-5)


def test_the_simplest_formula_that_is_right_is_taken() -> None:
    y = evaluate(parse("0.02*x + 1"), X)
    chain = Search(LIBRARY, np.ones(len(X), bool), y, 1e-6).sums()
    assert len(chain) == 2
    assert len(chain[-1].terms) == 1
    plain = fit_terms((), X, y)
    assert plain is not None
    assert str(plain.formula) == f"{y.mean():.6g}"


def test_change_points_are_the_run_in_which_most_stand_out() -> None:
    x = np.arange(10.0)
    flags = np.array([0, 1, 0, 0, 1, 1, 0, 1, 1, 0], bool)
    assert change_points(x, flags) == (4, 9)
    assert change_points(x, np.zeros(10, bool)) is None
    assert change_points(x, np.eye(10, dtype=bool)[3]) is None


@pytest.mark.parametrize(
    "text",
    ['starts("b")', "length()", "vowels()", 'count("e")', 'position("a")', "upper()", 'contains("o")*digit()',
     'max(starts("s"), ends("e"))', '2*starts("c") + vowels()', '1 - contains("e")'],
)  # fmt: skip
def test_a_function_of_words_is_found_and_holds_on_fresh_words(text: str) -> None:
    formula, other, _, _ = find_word_formula(FEATURES, evaluate(parse(text), SEEN), 0.0)
    fresh = [word for word in words("small") if is_held_out(word)]
    np.testing.assert_allclose(evaluate(formula, fresh), evaluate(parse(text), fresh), atol=1e-6)
    assert other is None


def test_a_kind_of_words_with_another_value_is_found() -> None:
    text = 'where(starts("b"), 9, length())'
    formula, other, _, _ = find_word_formula(FEATURES, evaluate(parse(text), SEEN), 0.0)
    assert other is not None
    assert str(other.where) == 'starts("b")'
    assert not other.is_noise
    fresh = [word for word in words("small") if is_held_out(word)]
    np.testing.assert_allclose(evaluate(formula, fresh), evaluate(parse(text), fresh), atol=1e-6)


@pytest.mark.parametrize(("text", "value"), [("12.5", 12.5), ("-3", -3.0), ("cat", None), ("nan", None), ("inf", None),
                                             ("1e5", None), ("", None), ("1.2.3", None)])  # fmt: skip
def test_numbers_are_what_is_written_with_digits(text: str, value: float | None) -> None:
    assert as_number(text) == value


class _Texts:
    def pieces(self, context: int) -> list[str]:
        return ["<s>", " 4", " -4", " cat", " 0"]


def test_a_formula_predicts_one_side_of_zero_and_admits_what_is_undefined() -> None:
    contexts, positions = np.zeros(5, np.int64), np.arange(5)
    plus = FormulaPredictor(parse("x/2"), "numeric", 0.25, 1.0).predict(_Texts(), contexts, positions)
    minus = FormulaPredictor(parse("x/2"), "numeric", 0.25, -1.0).predict(_Texts(), contexts, positions)
    undefined = FormulaPredictor(parse("1/x"), "numeric", 0.0, 1.0).predict(_Texts(), contexts, positions)
    assert plus.tolist() == [0.25, 2, 0, 0.25, 0]
    assert minus.tolist() == [0, 0, 2, 0, 0]
    assert np.isnan(undefined[4])
    assert not np.isnan(undefined[:4]).any()
    of_words = FormulaPredictor(parse("length()"), "string", 0.0, 1.0).predict(_Texts(), contexts, positions)
    assert of_words.tolist() == [0, 0, 0, 3, 0]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_subject("find", device="cpu")


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FunctionTruth]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_truth(build(FindSpec()))


@pytest.fixture(scope="module")
def index(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> ActivationIndex:
    tokens = {Split.EXPLORE: 6000, Split.REFINE: 1500, Split.SCORE: 500, Split.AUDIT: 500}
    home: Path = tmp_path_factory.mktemp("index")
    units = expand(subject, "fn:*:*")
    return build_index(subject, load_corpus("find:docs=400"), units, home, IndexSettings(panel_tokens=tokens))


def evidence_of(subject: Subject, index: ActivationIndex, unit: str, polarity: str = "+") -> Evidence:
    explore, refine = index.view(Split.EXPLORE), index.view(Split.REFINE)
    return Evidence(UnitId.parse(unit), polarity, subject, explore, refine, 0.5, seed=0)


def unit_of(truth: dict[str, FunctionTruth], **wanted: str) -> str:
    return next(u for u, t in truth.items() if all(getattr(t, name) == value for name, value in wanted.items()))


@pytest.mark.parametrize("family", ["linear", "sin", "step", "vowels", "count", "palindrome"])
def test_a_unit_is_explained_by_asking_it(
    subject: Subject, index: ActivationIndex, truth: dict[str, FunctionTruth], family: str
) -> None:
    unit = unit_of(truth, family=family, category="atom") if any(
        t.family == family and t.category == "atom" for t in truth.values()
    ) else unit_of(truth, family=family)  # fmt: skip
    notes, explainer = Notes(), SymbolicExplainer()
    (explanation,) = explainer.explain(evidence_of(subject, index, unit), notes)
    details = explanation.details
    inputs = FRESH if truth[unit].domain == "numeric" else [word for word in words("small") if is_held_out(word)]
    true = truth[unit].scale * evaluate(truth[unit].formula, inputs)
    clean = ~truth[unit].corrupted_mask(inputs)
    error = ((true - evaluate(parse(details["formula"]), inputs)) ** 2)[clean].sum() / (true[clean] ** 2).sum()
    assert error < 0.1
    assert details["domain"] == truth[unit].domain
    assert details["formula"].split("where(")[-1][:5] in explanation.input_half + (explanation.exceptions or "")
    [(kind, event)] = notes.events
    assert kind == "queries"
    assert event["queries"] == details["queries"] == len(event["asked"]) > 0
    json.dumps(event), json.dumps(details)


def test_only_inputs_of_the_corpus_are_asked(
    subject: Subject, index: ActivationIndex, truth: dict[str, FunctionTruth]
) -> None:
    for unit in (unit_of(truth, category="corrupted"), "fn:string:0"):
        notes = Notes()
        SymbolicExplainer().explain(evidence_of(subject, index, unit), notes)
        for text, _ in notes.events[0][1]["asked"]:
            number = as_number(text)
            assert not is_held_out(text if number is None else number), text


def test_both_tails_are_told_the_same_and_it_repeats(
    subject: Subject, index: ActivationIndex, truth: dict[str, FunctionTruth]
) -> None:
    unit = unit_of(truth, category="noisy")
    first, second, fresh = SymbolicExplainer(), Notes(), SymbolicExplainer()
    plus, minus = (
        first.explain(evidence_of(subject, index, unit, p), second)[0] for p in "+-"
    )  # fmt: skip
    again = fresh.explain(replace(evidence_of(subject, index, unit, "-"), seed=9), Notes())[0]
    assert plus.details["formula"] == minus.details["formula"]
    assert again == minus
    assert second.events[0] == second.events[1]
    assert plus.details["noise"] == pytest.approx(truth[unit].noise, rel=0.4)


def test_a_stored_explanation_predicts_in_another_process(subject: Subject, index: ActivationIndex) -> None:
    evidence = evidence_of(subject, index, "fn:string:0")
    (explanation,) = SymbolicExplainer().explain(evidence, Notes())
    stored = Explanation(**json.loads(json.dumps(explanation.__dict__)))
    predictor = predictor_of(get_explainer("symbolic"), stored)
    assert predictor is not None
    sample = evidence.refine.sample(evidence.unit)
    predicted = predictor.predict(evidence.refine.texts, sample.contexts, sample.positions)
    assert np.corrcoef(predicted, sample.values)[0, 1] > 0.99


def test_without_a_model_to_ask_it_says_so_and_predicts_nothing(subject: Subject, index: ActivationIndex) -> None:
    evidence = replace(evidence_of(subject, index, "fn:numeric:0"), subject=None)
    (explanation,) = SymbolicExplainer().explain(evidence, Notes())
    assert "no model to ask" in explanation.input_half
    assert explanation.details["literals"] == 0
    assert SymbolicExplainer().predictor(explanation) is None


def test_places_are_noise_and_not_bias(
    subject: Subject, index: ActivationIndex, truth: dict[str, FunctionTruth]
) -> None:
    unit = unit_of(truth, category="noisy")
    vocabulary = Vocabulary.of(index.view(Split.EXPLORE), frozenset(subject.tokenizer.all_special_ids))
    box = BlackBox(subject, UnitId.parse(unit), vocabulary, 0)
    x = np.full(400, list(vocabulary.numbers)[3])
    values = box.numbers(x) - truth[unit].value(float(x[0]))
    assert abs(values.mean()) < 0.3 * truth[unit].noise
    assert values.std() == pytest.approx(truth[unit].noise, rel=0.25)
    assert (box.queries, box.contexts) == (400, 7)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ExplainerError, match="at least 24"):
        get_explainer("symbolic", numbers=3)
