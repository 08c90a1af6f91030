"""Statistics of labelled texts: exact on small cases, nulls that respect requests, lost answers that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scorers.diagnostics.labels import Answers, measure

METRICS = ("balanced_accuracy", "f1", "auroc")


def answers(active: list[float], silent: list[float], **changes: Any) -> Answers:
    """Values of active and of silent texts, all in one request, each of a document."""
    n = len(active) + len(silent)
    fields = {
        "value": np.array([*active, *silent], dtype=float),
        "active": np.arange(n) < len(active),
        "group": np.zeros(n, dtype=np.int64),
        "document": np.arange(n),
        "peak": np.array([2.0] * len(active) + [0.0] * len(silent)),
    }
    return Answers(**{**fields, **changes})


def measured(given: Answers, cut: float | None = 5, resamples: int = 500, seed: int = 0) -> dict[str, Any]:
    return measure(given, METRICS, cut=cut, resamples=resamples, rng=np.random.default_rng(seed))


def test_values_are_as_counted_by_hand_with_both_kinds_weighing_the_same() -> None:
    # Of 4 active texts 3 are found, of 8 silent ones 2 are taken for active.
    found = measured(answers([9, 7, 5, 2], [8, 6, 4, 4, 3, 1, 0, 0]))
    assert found["balanced_accuracy"].value == pytest.approx((3 / 4 + 6 / 8) / 2)
    # As many silent as active texts: 2 false alarms of 8 count as 1 of 4.
    assert found["f1"].value == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    # Pairs in the right order: 9 beats 8, 7 beats 7, 5 beats 6, 2 beats 3.
    assert found["auroc"].value == pytest.approx((8 + 7 + 6 + 3) / 32)


def test_ties_count_half() -> None:
    assert measured(answers([5] * 6, [5] * 9))["auroc"].value == pytest.approx(0.5)
    assert measured(answers([5] * 6, [5] * 9))["balanced_accuracy"].value == pytest.approx(0.5)


def test_an_answer_that_could_not_be_had_is_wrong_for_either_kind() -> None:
    nan = float("nan")
    found = measured(answers([9, 9, 9, nan], [0, 0, 0, nan]))
    assert found["balanced_accuracy"].value == pytest.approx(3 / 4)
    assert found["auroc"].value == pytest.approx(9 / 16)
    lost = answers([nan] * 4, [nan] * 4)
    assert lost.unparseable == 1
    for one in measured(lost).values():
        assert one.value is None
        assert one.reason == "no answer could be had"


def test_failing_more_never_raises_a_score() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        value = rng.integers(0, 11, 24).astype(float)
        before = measured(answers(value[:12].tolist(), value[12:].tolist()), resamples=20)
        value[rng.integers(24)] = np.nan
        after = measured(answers(value[:12].tolist(), value[12:].tolist()), resamples=20)
        assert all(after[metric].value <= before[metric].value + 1e-12 for metric in METRICS)


def test_the_null_of_a_request_that_says_yes_to_everything_says_so_too() -> None:
    """One request holds mostly active texts and gets yes for all; a shuffle over all requests would call that skill."""
    active = np.array([True] * 11 + [False] + [True] + [False] * 11)
    group = np.repeat([0, 1], 12)
    value = np.where(group == 0, 10.0, 0.0)
    given = Answers(value, active, group, np.arange(24), np.zeros(24))
    found = measured(given)["balanced_accuracy"]
    assert found.value == pytest.approx(11 / 12)
    assert found.null.mean == pytest.approx(11 / 12)
    assert found.null.p_value == 1
    alone = measured(given.part(np.ones(24, dtype=bool)).part(np.ones(24, dtype=bool)))["auroc"]
    assert alone.null.p_value == 1


def test_p_values_of_a_judge_that_guesses_are_uniform() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for seed in range(200):
        value = rng.integers(0, 11, 32).astype(float)
        given = answers(value[:16].tolist(), value[16:].tolist(), group=np.arange(32) % 3)
        p_values.append(measured(given, resamples=99, seed=seed)["auroc"].null.p_value)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.1


def test_intervals_hold_the_value_and_know_of_errors_not_seen() -> None:
    perfect = measured(answers([10] * 16, [0] * 16))
    for metric in METRICS:
        interval = perfect[metric].interval
        assert perfect[metric].value == 1
        assert interval.high == 1
        assert 0.7 < interval.low < 0.99
    one_document = measured(answers([10] * 8, [0] * 8, document=np.zeros(16, dtype=np.int64)))
    assert one_document["auroc"].interval.low is None


@pytest.mark.parametrize(("active", "silent", "kind"), [([9, 9, 9], [0] * 9, "active"), ([9] * 9, [0, 0], "silent")])
def test_with_too_few_texts_of_a_kind_there_is_a_reason(active: list[float], silent: list[float], kind: str) -> None:
    for one in measured(answers(active, silent)).values():
        assert one.value is None
        assert kind in one.reason
