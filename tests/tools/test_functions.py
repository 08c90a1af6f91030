"""Generated functions: formulas, truth, the subject that shows them, and its corpus."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tools.corpora import load_corpus, require_enough
from tools.errors import CorpusError, SubjectError, UnitError
from tools.functions import (
    CATEGORIES,
    Corruption,
    Expr,
    FindSpec,
    FormulaError,
    FunctionTruth,
    build,
    evaluate,
    find_spec,
    functions_of,
    grid,
    is_held_out,
    load_truth,
    number_text,
    parse,
    words,
)  # fmt: skip
from tools.functions.expression import NUMBER_FUNCTIONS, X, apply, const, inside
from tools.functions.numeric import ATOMS
from tools.functions.words import ATOMS as WORD_ATOMS
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import check_unit, expand, unit_activations

x = np.linspace(-20, 20, 81)

#: The same functions, written out with numpy.
NUMPY = {
    "3*x - 2": 3 * x - 2,
    "2*x**2 - x + 1": 2 * x**2 - x + 1,
    "abs(x - 4.25)": np.abs(x - 4.25),
    "sqrt(abs(x))": np.sqrt(np.abs(x)),
    "1/(abs(x - 3.3) + 2)": 1 / (np.abs(x - 3.3) + 2),
    "log(abs(x) + 1)": np.log(np.abs(x) + 1),
    "exp(x/10)": np.exp(x / 10),
    "step(x - 2.3)": np.heaviside(x - 2.3, 0),
    "rect((x - 1)/3.1)": (np.abs((x - 1) / 3.1) < 1).astype(float),
    "relu(x - 2)": np.clip(x - 2, 0, None),
    "sigmoid(x/3)": 1 / (1 + np.exp(-x / 3)),
    "tanh(x/5)": np.tanh(x / 5),
    "sin(0.3*x + 1)": np.sin(0.3 * x + 1),
    "cos(0.3*x)": np.cos(0.3 * x),
    "floor(x/3.3)": np.floor(x / 3.3),
    "ceil(x/3.3)": np.ceil(x / 3.3),
    "gauss((x - 1)/4)": np.exp(-(((x - 1) / 4) ** 2) / 2),
    "square(0.4*x + 0.1)": np.sign(np.sin(0.4 * x + 0.1)),
    "sign(x - 0.2)": np.sign(x - 0.2),
    "abs(x)**1.5": np.abs(x) ** 1.5,
    "2.5": np.full_like(x, 2.5),
    "sin(abs(x))*x + tanh(x)": np.sin(np.abs(x)) * x + np.tanh(x),
    "where(-3.1 < x < 7.2, 1, x)": np.where((x > -3.1) & (x < 7.2), 1, x),
    "-x**2/(30 - x)/2": -(x**2) / (30 - x) / 2,
    "max(x, 3) + min(x, -3)": np.maximum(x, 3) + np.minimum(x, -3),
    "2*(x > 5.1) - (x < 1.1)": 2.0 * (x > 5.1) - (x < 1.1),
}
WORDS = {
    'starts("b")': {"Bird": 1, "crab": 0},
    'ends("d")': {"BIRD": 1, "dog": 0},
    'contains("o")': {"dog": 1, "cat": 0},
    "digit()": {"cat7": 1, "cat": 0},
    "upper()": {"CAT": 1, "Cat": 0},
    "palindrome()": {"Level": 1, "levels": 0},
    "vowels()": {"area": 0.75, "dry": 0},
    "length()": {"cat": 3, "zebra12": 7},
    'count("l")': {"level": 2, "cat": 0},
    'position("v")': {"level": 3, "cat": 0},
    'starts("c")*upper()': {"CAT": 1, "cat": 0, "DOG": 0},
    'max(digit(), ends("t"))': {"cat": 1, "dog1": 1, "dog": 0},
    'where(starts("b"), 9, length())': {"bat": 9, "cats": 4},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module")
def subject(cache: Path) -> Subject:
    return load_subject("find", device="cpu")


@pytest.mark.parametrize("text", NUMPY)
def test_a_formula_of_a_number_is_what_numpy_says(text: str) -> None:
    np.testing.assert_allclose(evaluate(parse(text), x), NUMPY[text], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", WORDS)
def test_a_formula_of_a_word_is_what_can_be_counted_by_hand(text: str) -> None:
    assert evaluate(parse(text), list(WORDS[text])).tolist() == pytest.approx(list(WORDS[text].values()))


@pytest.mark.parametrize("text", [*NUMPY, *WORDS])
def test_text_and_json_give_the_formula_back(text: str) -> None:
    formula = parse(text)
    assert parse(str(formula)) == formula
    assert Expr.from_json(json.loads(json.dumps(formula.to_json()))) == formula


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "x.real", "y + 1", "sin(x, x)", "x**x", "x**99", "x < y", "1 < x > 3", "starts(x)", "starts()",
     'starts("ab")', "'a'", "lambda: 1", "x if x else 1", "", "sin", "(" * 3000, "1" + "+1" * 4000, "[x]", "True"],
)  # fmt: skip
def test_what_is_no_formula_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(FormulaError):
        parse(text)


@pytest.mark.parametrize("data", [None, [], ["what"], ["sin"], ["const", "1"], ["inside", 1], ["starts", 3], [["x"]]])
def test_json_that_is_no_formula_is_refused(data: object) -> None:
    with pytest.raises((FormulaError, ValueError)):
        Expr.from_json(data)


def test_a_formula_of_words_does_not_take_numbers_nor_the_reverse() -> None:
    with pytest.raises(FormulaError, match="about words"):
        evaluate(parse("length()"), x)
    with pytest.raises(FormulaError, match="about numbers"):
        evaluate(parse("x + 1"), ["word"])


def test_division_by_zero_is_not_a_crash() -> None:
    assert not np.isfinite(evaluate(parse("1/x + log(x)"), np.array([0.0, -1.0]))).any()


def test_the_corrupted_part_is_exactly_the_interval() -> None:
    part = Corruption(inside(-3.25, 7.75), const(5))
    truth = FunctionTruth("fn:numeric:0", "corrupted", "linear", X, 2.0, part)
    inputs = grid()
    held = truth.corrupted_mask(inputs)
    assert inputs[held].tolist() == [v for v in inputs.tolist() if -3.25 < v < 7.75]
    assert truth.corrupted(-3.0)
    assert not truth.corrupted(-3.5)
    np.testing.assert_allclose(truth.values(inputs), np.where(held, 10.0, 2 * inputs))
    below = FunctionTruth("fn:numeric:0", "corrupted", "linear", X, 1.0, Corruption(inside(-math.inf, -100.25), X))
    assert inputs[below.corrupted_mask(inputs)].max() == -100.5


def test_noise_in_a_corrupted_part_is_drawn_once_with_the_mean_and_deviation_stated() -> None:
    part = Corruption(inside(-64.25, 64.25), None, mean=3.0, std=0.5, seed=7)
    truth = FunctionTruth("fn:numeric:0", "corrupted", "linear", X, 1.0, part)
    values = truth.values(np.arange(-64.0, 64.25, 0.125))
    assert values.mean() == pytest.approx(3.0, abs=0.15)
    assert values.std() == pytest.approx(0.5, abs=0.06)
    assert truth.value(12.5) == truth.value(12.5) == truth.values(np.array([1.0, 12.5]))[1]
    other = FunctionTruth(
        "fn:numeric:0", "corrupted", "linear", X, 1.0, Corruption(inside(-64.25, 64.25), None, 3, 0.5, 8)
    )
    assert truth.value(12.5) != other.value(12.5)


@pytest.mark.parametrize("seed", range(4))
def test_truth_survives_json(seed: int) -> None:
    for truth in functions_of(FindSpec(seed=seed)):
        again = FunctionTruth.from_json(json.loads(json.dumps(truth.to_json())))
        assert again == truth


@pytest.mark.parametrize("seed", range(4))
def test_functions_are_of_every_category_and_family_and_finite(seed: int) -> None:
    functions = functions_of(FindSpec(seed=seed))
    numeric = [f for f in functions if f.domain == "numeric"]
    strings = [f for f in functions if f.domain == "string"]
    assert {f.category for f in numeric} == {f.category for f in strings} == set(CATEGORIES)
    assert {f.family for f in numeric} >= set(ATOMS)
    assert {f.family for f in strings} >= set(WORD_ATOMS)
    for f in numeric:
        assert np.isfinite(f.values(grid())).all()
        # The scale is stated so that without corruption the root mean square is one.
        assert np.sqrt(np.mean((f.scale * evaluate(f.formula, grid())) ** 2)) == pytest.approx(1.0)
    for f in functions:
        assert (f.corruption is not None) == (f.category == "corrupted")
        assert (f.noise > 0) == (f.category == "noisy")


def test_a_corruption_changes_the_function_on_a_small_part_only() -> None:
    for seed in range(4):
        for f in functions_of(FindSpec(seed=seed)):
            if f.corruption is None:
                continue
            inputs = grid() if f.domain == "numeric" else list(words("small"))
            held = f.corrupted_mask(inputs)
            assert 0.02 < held.mean() < 0.2, f
            clean = f.scale * evaluate(f.formula, inputs)
            different = np.abs(f.values(inputs) - clean) > 1e-9
            assert not different[~held].any()
            assert different[held].mean() > 0.5, f


def test_every_function_of_numbers_is_used() -> None:
    used = {name for truth in functions_of(FindSpec(size="large")) for name in _operators(truth.formula)}
    assert used >= set(NUMBER_FUNCTIONS)


def _operators(formula: Expr) -> Iterator[str]:
    yield formula.op
    for part in formula.parts:
        yield from _operators(part)


def test_a_unit_shows_the_value_of_its_function_and_that_position_s_noise(subject: Subject) -> None:
    truths = load_truth(build(FindSpec()))
    units = expand(subject, "fn:*:*")
    assert [str(unit) for unit in units] == list(truths)
    rng = np.random.default_rng(0)
    numbers = rng.choice(grid(), 60)
    strings = rng.choice(words("small"), 60).tolist()
    sequences = [subject.encode(" ".join(map(number_text, numbers.tolist()))), subject.encode(" ".join(strings))]
    shown = unit_activations(subject, units, sequences)
    noise = subject.model.transformer.wpe.weight.numpy()
    for row, unit in enumerate(units):
        truth = truths[str(unit)]
        own, other = (0, 1) if truth.domain == "numeric" else (1, 0)
        expected = truth.values(numbers if truth.domain == "numeric" else strings).astype(np.float32)
        np.testing.assert_array_equal(shown[own][row, 1:], expected + noise[1:61, row])
        np.testing.assert_array_equal(shown[other][row, 1:], noise[1:61, row])
        assert noise[0, row] == 0
        assert abs(noise[1:, row].mean()) < 1e-6
        assert noise[1:, row].std() == pytest.approx(truth.noise, rel=1e-5)


def test_positions_noise_is_there_for_noisy_functions_alone(subject: Subject) -> None:
    truths = list(load_truth(build(FindSpec())).values())
    noise = subject.model.transformer.wpe.weight.numpy()
    assert [bool(noise[:, i].any()) for i in range(len(truths))] == [t.category == "noisy" for t in truths]


def test_held_out_inputs_stand_in_no_corpus() -> None:
    spec = FindSpec(seed=2)
    inputs = {word for document in load_corpus("find:seed=2").documents for word in document.text.split()}
    numbers = {number_text(v) for v in grid().tolist()}
    assert inputs <= numbers | set(words(spec.size))
    seen_numbers, seen_words = inputs & numbers, inputs - numbers
    assert seen_numbers == {number_text(v) for v in grid().tolist() if not is_held_out(v)}
    assert seen_words == {word for word in words(spec.size) if not is_held_out(word)}
    assert len(seen_numbers) == len(grid()) / 2
    assert 0.4 < len(seen_words) / len(words(spec.size)) < 0.6


def test_the_corpus_can_be_split_and_its_length_is_an_option() -> None:
    corpus = load_corpus("find:docs=300")
    assert len(corpus) == 300
    require_enough(corpus)
    assert corpus.documents[:5] == load_corpus("find:docs=5").documents


def test_every_input_is_one_token_that_reads_as_written(subject: Subject) -> None:
    for text in (*map(number_text, grid().tolist()), *words("small")):
        ids = subject.encode(text)
        assert len(ids) == len(subject.prefix) + 1
        assert subject.pieces(ids)[-1] == f" {text}"


def test_the_same_options_give_the_same_subject_and_others_another(subject: Subject, cache: Path) -> None:
    again = load_subject("find:size=small,seed=0", device="cpu")
    assert (
        (again.name, again.fingerprint) == (subject.name, subject.fingerprint) == ("find-s0-small", subject.fingerprint)
    )
    assert load_subject("find:seed=1", device="cpu").fingerprint != subject.fingerprint
    assert functions_of(FindSpec(3)) == functions_of(FindSpec(3)) != functions_of(FindSpec(4))
    assert not [path for path in (cache / "neurogloss" / "find").iterdir() if path.name.startswith(".")]


def test_a_rebuilt_subject_is_the_same_to_the_last_bit(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build(FindSpec()).is_relative_to(tmp_path)
    assert load_subject("find", device="cpu").fingerprint == subject.fingerprint


@pytest.mark.parametrize(
    ("name", "says"),
    [("find:seed=x", "seed is a whole number"), ("find:size=huge", "no size"), ("find:colour=red", "not understood"),
     ("find:seed", "not understood")],
)  # fmt: skip
def test_options_that_are_not_understood(name: str, says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        load_subject(name)
    with pytest.raises(CorpusError, match=says):
        load_corpus(name)


def test_options_in_any_order_are_one_subject() -> None:
    assert find_spec("size=large,seed=3") == find_spec("find:seed=3, size=large") == FindSpec(3, "large")
    assert find_spec("find:seed=3,size=large").text == "find:seed=3,size=large"


@pytest.mark.parametrize(
    ("unit", "says"), [("fn:numeric:40", "units 0-39"), ("fn:colour:0", "fn:numeric and fn:string")]
)
def test_functions_that_do_not_exist(subject: Subject, unit: str, says: str) -> None:
    with pytest.raises(UnitError, match=says):
        check_unit(subject, UnitId.parse(unit))


def test_a_function_s_id_needs_a_domain_and_a_number() -> None:
    assert str(UnitId.parse("fn:string:7")) == "fn:string:7"
    for text in ("fn:7", "fn:string:", "fn:string:x"):
        with pytest.raises(UnitError, match="fn:DOMAIN:NUMBER"):
            UnitId.parse(text)


def test_other_models_have_no_functions(tiny_gpt2_folder: Path) -> None:
    other = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="only a subject such as 'find'"):
        check_unit(other, UnitId.parse("fn:numeric:0"))
    with pytest.raises(UnitError, match="no fn units"):
        expand(other, "fn:*:*")


def test_a_folder_without_truth_says_so(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"no functions\.json"):
        load_truth(tmp_path)
    (tmp_path / "functions.json").write_text('{"functions": [{"unit": 3}]}')
    with pytest.raises(SubjectError, match="cannot be read"):
        load_truth(tmp_path)


def test_functions_apply_to_formulas_of_their_own_kind_only() -> None:
    with pytest.raises(FormulaError):
        apply("nothing", X)
