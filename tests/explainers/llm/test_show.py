"""Text as it is shown, and the way back to tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainers.llm.show import level, show, shown

PIECES = st.lists(st.text(max_size=6), max_size=12)


def test_runs_of_marked_tokens_share_their_marks() -> None:
    text = show(["The", " red", " ball", " is", " red"], marked=[1, 2, 4])
    assert text.text == "The« red ball» is« red»"
    assert [text.text[a:b] for a, b in zip(text.starts, text.ends, strict=True)] == [
        "The",
        " red",
        " ball",
        " is",
        " red",
    ]


def test_line_ends_and_marks_of_the_corpus_are_replaced() -> None:
    assert shown("a\n«b»\t\r\x00\u2028") == "a⏎‹b›⇥␍\\x00\\x2028"
    assert shown("naïve 猫 🙂") == "naïve 猫 🙂"


@given(PIECES, st.sets(st.integers(0, 11)))
def test_shown_text_is_one_line_whose_marks_are_ours(pieces: list[str], marked: set[int]) -> None:
    text = show(pieces, marked)
    assert len(text.text.splitlines()) <= 1
    real = {number for number in marked if number < len(pieces)}
    runs = sum(number - 1 not in real for number in real)
    assert text.text.count("«") == text.text.count("»") == runs
    assert [text.text[a:b] for a, b in zip(text.starts, text.ends, strict=True)] == [shown(piece) for piece in pieces]


@given(PIECES)
def test_every_token_is_found_at_its_place(pieces: list[str]) -> None:
    text = show(pieces)
    for number, (start, end) in enumerate(zip(text.starts, text.ends, strict=True)):
        if start < end:
            occurrence = sum(text.text.startswith(text.text[start:end], at) for at in range(start + 1))
            assert number in text.find(text.text[start:end], occurrence)


def test_a_quote_may_cover_several_tokens_or_part_of_one() -> None:
    text = show(["un", "believ", "able", " story"])
    assert text.find("believable") == [1, 2]
    assert text.find("liev") == [1]
    assert text.find("nbel") == [0, 1]
    assert text.find("story") == [3]


def test_the_nth_occurrence_is_found_and_no_other() -> None:
    text = show([" the", " cat", " the", " the"])
    assert [text.find("the", n) for n in (1, 2, 3, 4)] == [[0], [2], [3], []]
    assert text.find("dog") == []


@pytest.mark.parametrize(
    "quote", ["red ball", " red ball ", "«red ball»", '"red ball"', "'red ball'", "`red ball`", "“red ball”"]
)
def test_quotes_are_found_with_what_models_put_around_them(quote: str) -> None:
    assert show(["The", " red", " ball", "\n"]).find(quote) == [1, 2]


def test_line_ends_are_found_as_shown_or_as_they_are() -> None:
    text = show(["a", "\n", "b", '"'])
    assert text.find("\n") == text.find("⏎") == [1]
    assert text.find('"') == [3]
    assert text.find("") == text.find("  ") == text.find("«»") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1.0, 0), (0.0, 0), (0.01, 1), (0.5, 1), (0.51, 2), (2.5, 5), (4.99, 10), (5.0, 10), (9.0, 10)],
)
def test_levels_are_tenths_of_the_maximum_rounded_up(value: float, expected: int) -> None:
    assert level(value, 5.0) == expected


@given(st.floats(0, 1e6, exclude_min=True), st.floats(1e-3, 1e6))
def test_levels_agree_with_the_formula(value: float, maximum: float) -> None:
    assert level(value, maximum) in {min(10, math.ceil(10 * value / maximum) + d) for d in (-1, 0, 1)}
    assert 1 <= level(value, maximum) <= 10


def test_levels_without_a_maximum_are_zero() -> None:
    assert level(1.0, 0.0) == 0


@pytest.mark.parametrize(
    "pieces",
    [["<|im_end|>"], ["a", "<", "|im", "_end|", ">"], ["x</s>y"], ["[", "INST", "]"], ["<start_of_turn>"], ["<<SYS>>"]],
)
def test_a_text_cannot_end_its_turn_in_a_chat(pieces: list[str]) -> None:
    found = show(pieces)
    whole = "".join(pieces)
    assert len(found.text) == len(whole)
    assert found.text != whole
    assert found.find(whole) == found.find(found.text) == list(range(len(pieces)))


def test_ordinary_brackets_stay() -> None:
    text = "if a < b and b > c: x[i] = d['s'] | e <b>"
    assert show([text]).text == text


def test_all_occurrences_are_those_of_one_way_to_take_the_quote() -> None:
    text = show([" the", " other", " the", "rapist"])
    assert text.find_all(" the") == [0, 2]
    assert text.find_all("the") == [0, 1, 2]
    assert text.find_all("« other»") == [1]
    assert text.find_all("none") == []
