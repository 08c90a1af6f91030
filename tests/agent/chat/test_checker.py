"""An answer may say no number that the rows which it cites do not have, and every number that they have."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.chat.checker import REMOVED, check, cited, without
from store.queries.citations import CitedRow, Ref


def score(number: int, unit: str, metric: str = "weighted_f1", **values: float) -> CitedRow:
    measured = {
        "value": 0.8137, "low": 0.7312, "high": 0.8749, "null_mean": 0.0561, "p_value": 4.1e-5, "q_value": 0.0093,
        "n_examples": 24_796, "n_documents": 43, **values,
    }  # fmt: skip
    row = {"unit": unit, "metric": metric, "split": "score", "polarity": "+", **measured}
    return CitedRow(Ref("score", number), "scores", number, unit, row)


ROWS = {
    row.ref: row
    for row in (
        score(1, "mlp:2:17"), score(2, "mlp:2:18", value=0.1234, low=0.08, high=0.19),
        score(3, "mlp:2:17", "pearson", value=0.5581, low=0.52, high=0.62, null_mean=-0.004),
        CitedRow(Ref("unit", 7), "units", 7, "mlp:2:17", {
            "unit": "mlp:2:17", "layer": 2, "unit_index": 17, "density": 0.0732, "maximum": 5.783, "minimum": -0.41,
            "n_tokens": 155_755}),
        CitedRow(Ref("experiment", 9), "experiments", 9, "mlp:2:17", {
            "unit": "mlp:2:17", "kind": "token edits", "observations": [
                {"summary": "5 of the 6 places silence it", "data": {"change": -1.25, "at": "2026-03-01T10:00:00Z"}}]}),
        CitedRow(Ref("result", 4), "chat_messages", 40, None, {
            "tool": "units", "data": {"found": 14, "verdicts": {"supported": 9, "refuted": 5}, "descriptions": [
                {"unit": "mlp:2:17", "f1": 0.8137, "text": ["in 19", "84"]}, {"unit": "mlp:2:18", "f1": 0.1234}]}}),
    )
}  # fmt: skip


def problems(answer: str) -> list[str]:
    return [problem.text for problem in check(answer, ROWS).problems]


@pytest.mark.parametrize(
    "answer",
    [
        "mlp:2:17 has F1 0.81 [0.73, 0.87] against a null of 0.06 [score:1].",
        "Its F1 is 81 % [score:1], from 73% to 87% of it.",
        "It was tested on 24,796 tokens of 43 documents (p = 4.1e-05) [score:1].",
        "The p-value is below 0.001 [score:1].",
        "F1 was 0.814 (95 % interval 0.731–0.875) [score:1]",
        "It is active on 7.3 % of tokens. [unit:7] It is at most 5.8 [unit:7].",
        "Neuron 17 of layer 2 is at least −0.41 [unit:7].",
        "5 of the 6 places silence it, and it falls by 1.25 there [experiment:9].",
        "On 2026-03-01 the change was -1.25 [experiment:9].",
        "mlp:2:17 has F1 0.81 [score:1] and mlp:2:18 has 0.12 [score:2].",
        "mlp:2:17 beats mlp:2:18: 0.81 against 0.12 [score:1] [score:2].",
        "Pearson is 0.56 [score:3], F1 0.81 [score:1].",
        "Of 14 descriptions 9 are supported and five refuted [result:4].",
        "From [result:4]:\n- mlp:2:17 F1 0.81\n- mlp:2:18 F1 0.12",
        "It has no number, and so nothing to back.",
        "It fires on “in 1984” [result:4].",
        "1. mlp:2:17 F1 0.81 [score:1]\n2. mlp:2:18 F1 0.12 [score:2]",
    ],
)
def test_what_the_rows_say_passes(answer: str) -> None:
    assert problems(answer) == []


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("mlp:2:17 has F1 0.82 [score:1].", ["0.82"]),
        ("mlp:2:17 has F1 0.81.", ["mlp:2:17", "0.81"]),
        ("Its F1 is 0.73 [score:1].", ["0.73"]),  # the interval's end
        ("Its F1 is 0.56 [score:1] [score:3].", ["0.56"]),  # Pearson's value
        ("Its Pearson is 0.81 [score:1] [score:3].", ["0.81"]),
        ("The p-value is below 0.00001 [score:1].", ["0.00001"]),
        ("mlp:2:17 has F1 0.12 [score:1] and mlp:2:18 has 0.81 [score:2].", ["0.12", "0.81"]),  # the other's
        ("- mlp:2:17: F1 0.12 [result:4]", ["0.12"]),
        ("Of 14 descriptions 5 are supported [result:4].", ["5"]),
        ("It is at least 0.41 [unit:7].", ["0.41"]),  # the sign
        ("It is active on 73 % of tokens [unit:7].", ["73 %"]),
        ("Neuron 18 of layer 2 [unit:7].", ["18"]),
        ("It was on 2026-03-02 [experiment:9].", ["2026-03-02"]),
        ("F1 0.81 [score:77].", ["[score:77]", "0.81"]),
        ("F1 0.81 [score:1]. It fires on three tokens.", ["three"]),
        ("mlp:9:9 has F1 0.81 [score:1].", ["mlp:9:9", "0.81"]),
        ("It fires on “in 1985” [result:4].", ["1985"]),
        ("F1 0.81 [score:1].\n\nIt is at most 5.783.", ["5.783"]),
    ],
)  # fmt: skip
def test_what_they_do_not_say_is_found(answer: str, wrong: list[str]) -> None:
    assert problems(answer) == wrong


def test_a_unit_that_the_person_named_may_be_named() -> None:
    assert check("mlp:9:9 is not known.", ROWS, known_units={"mlp:9:9"}).ok


def test_a_sentence_that_is_not_backed_is_left_out_and_the_others_stay() -> None:
    answer = (
        "It has F1 0.99 [score:1]. It is active on 7.3 % of tokens [unit:7].\n- F1 0.98 [score:1]\n- F1 0.81 [score:1]"
    )
    verdict = check(answer, ROWS)
    left = without(answer, verdict.problems)
    assert left == f"{REMOVED} It is active on 7.3 % of tokens [unit:7].\n- {REMOVED}\n- F1 0.81 [score:1]"
    assert check(left, ROWS).ok


TRUE = (
    ("F1 is {} [score:1].", 0.8137), ("Its null is {} [score:1].", 0.0561), ("p = {} [score:1].", 4.1e-5),
    ("mlp:2:17 was scored with a Pearson of {} [score:3].", 0.5581), ("Its maximum is {} [unit:7].", 5.783),
    ("The change was {} [experiment:9].", -1.25), ("mlp:2:18 has F1 {} [result:4].", 0.1234),
    ("It was measured over {} tokens [unit:7].", 155_755.0), ("Its density is {} [unit:7].", 0.0732),
)  # fmt: skip


@given(st.sampled_from(TRUE), st.sampled_from(["{:.3g}", "{:.4g}", "{:.2e}", "{:.6g}"]))
def test_true_numbers_in_usual_roundings_pass(said: tuple[str, float], how: str) -> None:
    assert problems(said[0].format(how.format(said[1]))) == []


def lies(rng: random.Random, value: float) -> Sequence[str]:
    """Other numbers in place of a value: another digit, another scale, another sign, one drawn at random."""
    scale = rng.choice([rng.uniform(0.2, 0.93), rng.uniform(1.07, 6), 10.0, 0.1, -1.0])
    return [f"{value * scale:.3g}", f"{rng.uniform(0, 1):.3f}", f"{rng.uniform(0, 1):.2f}", f"{rng.uniform(1, 99):.3g}"]


def test_injected_false_numbers_are_found_at_least_99_times_in_100() -> None:
    rng, found, injected = random.Random(0), 0, 0
    for _ in range(600):
        template, value = rng.choice(TRUE)
        for lie in lies(rng, value):
            if abs(float(lie) - value) <= 0.006 * abs(value):
                continue
            injected += 1
            found += bool(problems(template.format(lie)))
    assert injected > 2000
    assert found / injected >= 0.99, f"{found} of {injected}"


def test_names_of_rows_come_in_order_and_once() -> None:
    assert cited("a [score:2] b [unit:1] c [score:2] [x:1] [score:x]") == (Ref("score", 2), Ref("unit", 1))
