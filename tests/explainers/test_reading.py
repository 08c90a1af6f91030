from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainers.rules.ast import STATES, TOKEN_CLASSES, Compare, InSet, Is, Literal, Place, State
from explainers.rules.language import parse_rule
from explainers.rules.reading import Reading


def true_at(literal: str, pieces: list[str]) -> list[int]:
    """Positions at which a literal holds."""
    parsed = parse_rule(f"rule v1\n1 if {literal}\nelse 0").clauses[0].literals[0]
    return np.flatnonzero(Reading(pieces).holds(parsed)).tolist()


STORY = ["<s>", " Once", " up", "on", " a", " time", ",", " she", " sa", "id", ' "', "No", "!", '"', "\n", "Once", " a"]


@pytest.mark.parametrize(
    ("literal", "positions"),
    [
        ('token in {" a", "on"}', [3, 4, 16]),
        ('token starts " s"', [7, 8]),
        ('token ends "id"', [9]),
        ('before[2] in {" up"}', [4]),
        ('text ends "pon"', [3]),
        ('text ends "she said"', [9]),
        ('word in {"said", "upon"}', [3, 9]),
        ('word in {"sa"}', [8]),
        ('word starts "up"', [2, 3]),
        ('word ends "id"', [9]),
        ('word[1] in {"she"}', [8, 9]),
        ('word[1] in {"time"}', [6, 7]),
        ('word[2] in {"time"}', [8, 9]),
        ('within[2] word in {"time"}', [5, 6, 7]),
        ('within[3] token in {" up"}', [2, 3, 4]),
        ("token is title", [1, 11, 15]),
        ("token is punct", [6, 10, 12, 13]),
        ("token is newline", [14]),
        ("token is word-inside", [3, 9]),
        ("before[1] is newline", [15]),
        ("inside quotes", [10, 11, 12]),
        ("at line start", [1, 15]),
        ("at sentence start", [1, 15]),
        ("repeated token", [16]),
        ("repeated word", [15, 16]),
        ("column < 2", [0, 1, 14, 15]),
        ("position > 14", [15, 16]),
        ("not position < 16", [16]),
    ],
)
def test_literals_hold_where_they_should(literal: str, positions: list[int]) -> None:
    assert true_at(literal, STORY) == positions


def test_induction_is_a_pair_seen_before() -> None:
    assert true_at("induction", ["<s>", "x", "y", "z", "x", "y", "z", "y"]) == [5, 6]


def test_an_apostrophe_ends_a_word_until_it_goes_on() -> None:
    pieces = ["<s>", " don", "'", "t", " go"]
    assert true_at('word in {"don"}', pieces) == [1]
    assert true_at('word[1] in {"don"}', pieces) == [2]
    assert true_at('word in {"don\'t"}', pieces) == [3]
    assert true_at('word[1] in {"don\'t"}', pieces) == [4]


CODE = ["def", " f", "(", "x", ")", ":", "\n", "    ", '"""', "Say", " 'hi'", '"""', "\n    ", "y", " = ", "[", '"a#b"',
        ", ", "'", "it", "'", "]", "  # ", "don't", "\n", "z"]  # fmt: skip


@pytest.mark.parametrize(
    ("literal", "positions"),
    [
        ("inside ()", [2, 3]),
        ("inside []", [15, 16, 17, 18, 19, 20]),
        ("inside docstring", [8, 9, 10]),
        ("inside string", [18, 19]),
        ("inside comment", [22, 23]),
        ("token is indentation", [7, 12]),
        ("indent = 4", [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
        ("at line start", [0, 8, 13, 25]),
    ],
)
def test_code_is_read_as_code(literal: str, positions: list[int]) -> None:
    assert true_at(literal, CODE) == positions


PIECES = st.lists(
    st.sampled_from(
        ["a", " b", "c'", "'", '"', '"""', "(", ")", "\n", "  ", " The", ".", "#", "t", "\\", "", "é", "“"]
    ),
    min_size=1,
    max_size=25,
)
LITERALS: list[Literal] = [
    *(State(name) for name in STATES),
    *(Is(offset, name) for name in TOKEN_CLASSES for offset in (0, 2)),
    *(Compare(quantity, "<", 3) for quantity in ("position", "indent", "column")),
    *(InSet(Place("word", k), "in", ("a", "c", "b", "c't", "The")) for k in (0, 1, 2)),
    InSet(Place("word"), "starts", ("c",)), InSet(Place("word", 1), "ends", ("c",)),
    InSet(Place("text"), "ends", ("a b", "c't", "'")), InSet(Place("near word", 3), "in", ("c", "The")),
    InSet(Place("near token", 3), "in", ("'",)), InSet(Place("token", 1), "in", ("c'",)),
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(PIECES)
def test_no_literal_looks_at_later_tokens(pieces: list[str]) -> None:
    whole = Reading(["<s>", *pieces])
    for n in range(1, len(pieces) + 1):
        part = Reading(["<s>", *pieces[:n]])
        for literal in LITERALS:
            assert whole.holds(literal)[n] == part.holds(literal)[n], (literal, n)


@settings(max_examples=100, deadline=None)
@given(PIECES, st.lists(st.sampled_from(["a", "aa", " a", "b", "c't", "'", "\n", "The"]), min_size=1, max_size=4))
def test_endings_are_those_of_each_beginning_of_the_text(pieces: list[str], members: list[str]) -> None:
    reading = Reading(["<s>", *pieces, "aaa"])
    beginnings = ["".join([*pieces, "aaa"][:n]) for n in range(len(pieces) + 2)]
    assert reading.ends_with(members).tolist() == [text.endswith(tuple(members)) for text in beginnings]
