"""Rivals that are left standing: who is chosen how often, who says the same, what is kept of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from agent.disagreement import LEAST, SAME, agreement, selection_probabilities, standings
from scorers.metrics import Comparison
from tools.types import BoolArray, IntArray

DOCUMENTS, LENGTH = 60, 20


def compared(active: BoolArray, predicted: BoolArray, weights: Any = None) -> Comparison:
    weights = np.ones(len(active)) if weights is None else weights
    return Comparison(active * 1.0, active, predicted * 1.0, predicted, weights)


@pytest.fixture
def documents() -> IntArray:
    return np.repeat(np.arange(DOCUMENTS), LENGTH)


def active_at(position: int) -> BoolArray:
    """Active at one position of each document."""
    return np.arange(DOCUMENTS * LENGTH) % LENGTH == position


def test_two_rivals_of_equal_quality_are_chosen_half_of_the_time_each(documents: IntArray) -> None:
    active = active_at(3)
    even, odd = active & (documents % 2 == 0), active & (documents % 2 == 1)
    shares = selection_probabilities([compared(active, even), compared(active, odd)], documents, seed=0)
    assert shares.sum() == pytest.approx(1)
    assert shares == pytest.approx([0.5, 0.5], abs=0.07)


def test_an_exact_tie_is_shared_evenly(documents: IntArray) -> None:
    active = active_at(3)
    one = compared(active, active | active_at(4))
    other = compared(active, active | active_at(5))
    assert selection_probabilities([one, other], documents, seed=0).tolist() == [0.5, 0.5]


def test_a_bad_rival_is_never_chosen_and_not_kept(documents: IntArray) -> None:
    active = active_at(3)
    rivals = [compared(active, active_at(7)), compared(active, active)]
    assert selection_probabilities(rivals, documents, seed=0).tolist() == [0, 1]
    assert [one.rival for one in standings(rivals, documents, [1, 0], seed=0)] == [1]


def test_shares_follow_the_resampled_f1_as_computed_by_hand() -> None:
    """Three documents, every multiset of them by its multinomial probability: 27 ordered draws."""
    documents = np.array([0, 0, 1, 1, 2, 2])
    active = np.array([True, False] * 3)
    one = np.array([True, True, True, True, False, False])  # two hits, two false alarms
    other = np.array([False, False, False, False, True, False])  # one hit
    expected = np.zeros(2)
    for draw in np.ndindex(3, 3, 3):
        rows = np.concatenate([np.flatnonzero(documents == d) for d in draw])
        f1 = [2 * (active & p)[rows].sum() / max((active[rows].sum() + p[rows].sum()), 1) for p in (one, other)]
        best = np.isclose(f1, max(f1))
        expected += best / best.sum() / 27
    found = selection_probabilities([compared(active, one), compared(active, other)], documents, seed=1, resamples=4000)
    assert found == pytest.approx(expected, abs=0.02)


def test_rivals_that_predict_the_same_activity_are_one_with_their_shares_added(documents: IntArray) -> None:
    active = active_at(3)
    almost = active.copy()
    almost[3] = False  # one of sixty
    other = active_at(3) & (documents < 50)
    rivals = [compared(active, active), compared(active, other), compared(active, almost)]
    assert agreement(rivals[0], rivals[2]) == pytest.approx(59 / 60)
    found = standings(rivals, documents, [0, 2, 1], seed=0)
    assert (found[0].rival, found[0].same) == (0, (2,))
    assert found[0].selection == pytest.approx(1)


def test_agreement_is_on_activity_and_not_on_silence(documents: IntArray) -> None:
    one, other = active_at(3), active_at(4)
    silent_alike = float((one == other).mean())
    assert silent_alike >= 0.9
    assert agreement(compared(one, one), compared(one, other)) == 0
    weights = np.where(one, 3.0, 1.0)
    assert agreement(compared(one, one, weights), compared(one, one | other, weights)) == pytest.approx(0.75)
    nothing = np.zeros(len(one), bool)
    assert agreement(compared(one, nothing), compared(one, nothing)) == 1


def test_one_that_predicts_nothing_is_chosen_only_where_nobody_predicts(documents: IntArray) -> None:
    active = active_at(3)
    assert selection_probabilities([None, compared(active, active)], documents, seed=0).tolist() == [0, 1]
    assert selection_probabilities([None, None], documents, seed=0).tolist() == [0.5, 0.5]
    alone = standings([None], np.zeros(0, np.int64), [0], seed=0)
    assert [dataclasses.asdict(one) for one in alone] == [{"rival": 0, "selection": 1.0, "agreement": None, "same": ()}]


def test_what_is_left_standing_holds_the_truth() -> None:
    """A planted rule against near rivals on small samples: the best in the sample is often a wrong one, but the truth
    is among those kept."""
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(20), 40)
    first, kept, sizes = 0, 0, []
    for trial in range(200):
        cause = rng.random(len(documents)) < 0.03
        active = cause ^ (rng.random(len(documents)) < 0.06)
        near = [cause ^ (rng.random(len(documents)) < 0.006) for _ in range(3)]
        rivals = [compared(active, one) for one in [*near, cause]]
        f1 = [2 * (one.active & one.predicted).sum() / (one.active.sum() + one.predicted.sum()) for one in rivals]
        found = standings(rivals, documents, list(np.argsort(f1)[::-1]), seed=trial)
        sizes.append(len(found))
        holds = [one.rival == 3 or 3 in one.same for one in found]
        first += holds[0]
        kept += any(holds)
    assert first < 170
    assert kept >= 0.95 * 200
    assert np.mean(sizes) <= 3
    assert 0 < LEAST < 1 - SAME
