"""Predicates against slow loops that spell out their meaning; truth to JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.errors import SubjectError
from tools.planted.predicates import (
    All,
    AnyOf,
    Before,
    Earlier,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    Within,
    from_json,
)
from tools.planted.truth import Case, Effect, UnitTruth, load_truth, write_truth

LETTERS = "abcd"
TOKENS = st.sets(st.sampled_from(LETTERS)).map(lambda letters: tuple(sorted(letters)))
PIECES = st.lists(st.sampled_from(LETTERS), max_size=14).map(lambda letters: ["<s>", *letters])
SIMPLE: st.SearchStrategy[Predicate] = st.one_of(
    TOKENS.map(TokenIn),
    st.builds(Before, st.integers(1, 4), TOKENS),
    st.builds(Within, st.integers(1, 4), TOKENS),
    st.builds(Position, st.integers(0, 8), st.integers(0, 12)),
    st.just(Repeated()),
    st.just(Induction()),
)
PREDICATES = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
        inner.map(Not),
        inner.map(Earlier),
    ),
    max_leaves=5,
)


def slowly(predicate: Predicate, pieces: list[str], i: int) -> bool:
    """What the predicate says of position i, from its definition."""
    match predicate:
        case TokenIn(tokens):
            return pieces[i] in tokens
        case Before(distance, tokens):
            return i - distance >= 0 and pieces[i - distance] in tokens
        case Within(k, tokens):
            return any(pieces[j] in tokens for j in range(max(0, i - k), i))
        case Position(low, high):
            return low <= i <= high
        case Repeated():
            return any(pieces[j] == pieces[i] for j in range(1, i))
        case Induction():
            return i >= 1 and any(pieces[j - 1 : j + 1] == pieces[i - 1 : i + 1] for j in range(1, i))
        case All(parts):
            return all(slowly(part, pieces, i) for part in parts)
        case AnyOf(parts):
            return any(slowly(part, pieces, i) for part in parts)
        case Not(part):
            return not slowly(part, pieces, i)
        case Earlier(part):
            return any(slowly(part, pieces, j) for j in range(1, i))
    raise AssertionError(predicate)


@given(PREDICATES, PIECES)
@settings(max_examples=400, deadline=None)
def test_a_predicate_holds_where_its_definition_says(predicate: Predicate, pieces: list[str]) -> None:
    assert predicate.holds(pieces).tolist() == [slowly(predicate, pieces, i) for i in range(len(pieces))]


@given(PREDICATES, PIECES, PIECES)
@settings(max_examples=150, deadline=None)
def test_a_predicate_does_not_look_ahead(predicate: Predicate, pieces: list[str], more: list[str]) -> None:
    longer = predicate.holds(pieces + more[1:])
    assert predicate.holds(pieces).tolist() == longer[: len(pieces)].tolist()


@given(PREDICATES)
@settings(max_examples=150, deadline=None)
def test_a_predicate_comes_back_from_json_as_it_was(predicate: Predicate) -> None:
    assert from_json(json.loads(json.dumps(predicate.to_json()))) == predicate


def test_an_unknown_kind_of_predicate_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'guess'.*token in.*induction"):
        from_json({"kind": "guess"})


@pytest.mark.parametrize("make", [lambda: Before(0, ("a",)), lambda: Within(0, ("a",))])
def test_a_predicate_that_would_look_at_nothing_is_refused(make: Callable[[], Predicate]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make()


GRADED = UnitTruth(
    "mlp:1:7", "-", "graded",
    (Case(All((TokenIn(("a",)), Before(1, ("b",)))), 16.0), Case(TokenIn(("a",)), 6.0), Case(TokenIn(("c",)), 12.0)),
    0.5, 0.1, concepts=(TokenIn(("a",)),), exception=Not(Repeated()), effect=Effect(("x", "y"), -1, 2.5),
    twin="mlp:1:3", causal_note="Note.",
)  # fmt: skip
NOISE = UnitTruth("mlp:0:1", "+", "noise", (), 0.0, math.inf, noise=True)


def test_the_first_case_that_holds_decides_and_half_of_the_largest_level_is_active() -> None:
    pieces = ["<s>", "b", "a", "a", "c", "d"]
    assert GRADED.expected(pieces)[1:].tolist() == [0.5, 16.0, 6.0, 12.0, 0.5]
    assert GRADED.active(pieces)[1:].tolist() == [False, True, False, True, False]
    assert GRADED.level == 16.0
    assert GRADED.key == "mlp:1:7-"


def test_nothing_is_expected_of_a_unit_without_a_rule() -> None:
    with pytest.raises(ValueError, match="mlp:0:1"):
        NOISE.expected(["<s>", "a"])


def test_a_dead_unit_is_active_nowhere() -> None:
    dead = UnitTruth("mlp:0:2", "+", "dead", (), 0.0, 1e-9, noise=True, inert=True)
    assert not dead.active(["<s>", "a", "b"]).any()
    assert np.all(dead.expected(["<s>", "a", "b"]) == 0)


def test_truth_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    write_truth(tmp_path, [GRADED, NOISE])
    assert load_truth(tmp_path) == {"mlp:1:7-": GRADED, "mlp:0:1+": NOISE}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 0, "units": []}', '{"format": 1, "units": [{}]}'])
def test_a_damaged_truth_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(SubjectError, match="Delete the folder"):
        load_truth(tmp_path)


def test_a_folder_without_truth_is_no_planted_subject(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="not a planted subject"):
        load_truth(tmp_path)
