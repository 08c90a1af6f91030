"""Numbers in prose: which there are, what they stand for, and which values they are the rounding of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.chat.numbers import find


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("F1 0.81 [0.73, 0.87]", [0.81, 0.73, 0.87]),
        ("12,500 tokens and 1 234 more", [12_500, 1, 234]),
        ("-0.4 to −0.2", [-0.4, -0.2]),
        ("0.73-0.87 and 5–10", [0.73, 0.87, 5, 10]),
        ("81 % of it, 7.3% of that, 3‰, five percent", [0.81, 0.073, 0.003, 0.05]),
        ("1.2e-5, 3×10⁻⁴, 2 x 10^3", [1.2e-5, 3e-4, 2000]),
        ("12.5k tokens, 3 million, 2M", [12_500, 3_000_000, 2_000_000]),
        ("twenty-one units, one hundred and five, a dozen", [21, 105, 12]),
        ("twice as much, half of them, two thirds", [2, 0.5, 2 / 3]),
        ("the 2nd and the 11th", [2, 11]),
        (".5", [0.5]),
    ],
)  # fmt: skip
def test_reads_every_way_to_write_a_number(text: str, values: list[float]) -> None:
    assert [number.value for number in find(text).numbers] == pytest.approx(values)


@pytest.mark.parametrize(
    "text",
    [
        "mlp:2:17 and head:0:3, sae:res:1234+, mlp:2:0-99, mlp:*:*", "[score:12] [result:7]",
        "F1, float32, h1, UTF-8, GPT-2",
        "1. first\n2. second\n3) third", "the 95 % interval, a 95% confidence interval", "one of them, no one",
        "the input half of it; both halves", "the first and the second",
    ],
)  # fmt: skip
def test_names_are_no_numbers(text: str) -> None:
    assert find(text).numbers == ()


def test_a_list_number_out_of_order_is_a_number() -> None:
    assert [number.value for number in find("1. a\n2. b\n37. c").numbers] == [37]


def test_dates_and_versions_are_taken_whole() -> None:
    found = find("on 2026-03-01T12:00:00Z, with 3.11.2, at 12:30")
    assert [match[0] for match in found.composites] == ["2026-03-01T12:00:00Z", "3.11.2", "12:30"]
    assert found.numbers == ()


def printed(value: float, how: str) -> str:
    """A value in one of the usual roundings."""
    return {
        "two": f"{value:.2f}", "three": f"{value:.3g}", "four": f"{value:.4g}", "thousands": f"{round(value):,}",
        "percent": f"{100 * value:.2g} %", "one percent": f"{100 * value:.1f}%", "e": f"{value:.1e}",
        "minus": f"{value:.3f}".replace("-", "−"), "k": f"{value / 1000:.3g}k",
    }[how]  # fmt: skip


@given(
    st.floats(-1e5, 1e5, allow_nan=False).filter(lambda v: abs(v) > 1e-4),
    st.sampled_from(["two", "three", "four", "percent", "one percent", "e", "minus", "k"]),
)
def test_true_numbers_pass_in_any_usual_rounding(value: float, how: str) -> None:
    text = printed(value, how)
    numbers = find(text).numbers
    assert len(numbers) == 1
    if numbers[0].value == 0:  # rounded to nothing, which says nothing
        return
    assert numbers[0].stands_for(value), text


@given(st.integers(0, 10**9))
def test_whole_numbers_pass_with_and_without_thousands_apart(value: int) -> None:
    for text in (f"{value}", f"{value:,}"):
        (number,) = find(text).numbers
        assert number.stands_for(value)
        assert value % 10 == 0 or not number.stands_for(value + 1)


@given(st.floats(0.0011, 0.999), st.floats(0.011, 10.0), st.sampled_from([-1, 1]))
def test_other_numbers_do_not_pass(value: float, off: float, sign: int) -> None:
    (number,) = find(f"{value:.3f}").numbers
    assert not number.stands_for(value + sign * off)


def test_coarse_whole_numbers_stand_for_nothing_but_themselves() -> None:
    (three,) = find("3").numbers
    assert three.stands_for(3.0)
    assert three.stands_for(3.04)
    assert not three.stands_for(3.4)
    (about,) = find("about 12,000").numbers
    assert about.stands_for(12_340)
    (plain,) = find("12,000").numbers
    assert not plain.stands_for(12_340)
    (nothing,) = find("0 %").numbers
    assert not nothing.stands_for(0.004)
