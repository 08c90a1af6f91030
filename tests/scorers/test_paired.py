"""Differences of F1 on the same positions."""

from __future__ import annotations

import numpy as np
import pytest

from scorers.bootstrap import Resampler
from scorers.paired import paired_f1


def test_values_are_those_worked_out_by_hand() -> None:
    predicted = np.array([1, 1, 1, 0, 0, 0], bool)
    first = np.array([1, 1, 0, 1, 0, 0], bool)
    second = np.array([1, 0, 0, 1, 0, 0], bool)
    weights = np.array([1, 2, 1, 1, 4, 4], np.float32)
    found = paired_f1(predicted, first, second, weights, np.arange(6), rng=np.random.default_rng(0))
    assert found is not None
    assert found.first == pytest.approx(2 * 3 / (4 + 4))
    assert found.second == pytest.approx(2 * 1 / (4 + 2))
    assert found.value == pytest.approx(1 / 3 - 3 / 4)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_what_is_hard_in_both_cancels() -> None:
    """Pairing: the same truth twice has a difference of exactly nothing, however uncertain each F1 is."""
    rng = np.random.default_rng(1)
    predicted, truth = rng.random(200) < 0.2, rng.random(200) < 0.2
    found = paired_f1(predicted, truth, truth, np.ones(200, np.float32), np.arange(200) // 10, rng=rng)
    assert found is not None
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_intervals_cover_the_true_difference() -> None:
    """Documents of their own difficulty; F1 drops as activity goes missing in half of the places."""
    rng = np.random.default_rng(2)

    def draw(documents: int) -> tuple[np.ndarray, ...]:
        document = np.repeat(np.arange(documents), 30)
        truth = rng.random(len(document)) < 0.1
        predicted = np.where(rng.random(len(document)) < rng.beta(8, 2, documents)[document], truth, ~truth & False)
        later = truth & (rng.random(len(document)) < 0.5)
        return predicted.astype(bool), truth, later, document

    predicted, truth, later, document = draw(40_000)
    whole = paired_f1(predicted, truth, later, np.ones(len(truth), np.float32), document, rng=rng, resamples=2)
    assert whole is not None
    covered = 0
    for _ in range(200):
        predicted, truth, later, document = draw(50)
        one = paired_f1(predicted, truth, later, np.ones(len(truth), np.float32), document, rng=rng, resamples=200)
        assert one is not None
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= whole.value <= one.high
    assert covered >= 180


def test_nothing_to_compare_and_one_document() -> None:
    none = np.zeros(3, bool)
    assert paired_f1(none, none, none, np.ones(3, np.float32), np.arange(3), rng=np.random.default_rng(0)) is None
    some = np.array([1, 0, 0], bool)
    found = paired_f1(some, some, none, np.ones(3, np.float32), np.zeros(3, int), rng=np.random.default_rng(0))
    assert found is not None
    assert (found.first, found.second, found.low) == (1, 0, None)


def test_draws_may_be_shared_by_what_is_compared() -> None:
    rng = np.random.default_rng(3)
    predicted, truth, later = (rng.random(300) < 0.2 for _ in range(3))
    weights, documents = np.ones(300, np.float32), np.arange(300) // 10
    alone = paired_f1(predicted, truth, later, weights, documents, rng=np.random.default_rng(5), resamples=200)
    shared = Resampler(lambda: np.random.default_rng(5), 200)
    for _ in range(2):
        assert paired_f1(predicted, truth, later, weights, documents, rng=shared) == alone
