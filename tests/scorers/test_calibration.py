"""Probabilities from raw scores, and how they are checked, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorers.calibration import NEAREST, brier, calibration_curve, fit_calibrator, log_loss, moved, shift_of


def fit(levels: dict[float, tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Raw scores, activity, weights and documents of {level: (active, silent)}, a document each."""
    raw = np.concatenate([np.full(sum(counts), level) for level, counts in levels.items()])
    active = np.concatenate([np.repeat([True, False], counts) for counts in levels.values()])
    return raw, active, np.ones(len(raw)), np.arange(len(raw))


def test_each_level_has_its_share_with_half_a_case_of_doubt() -> None:
    calibrate = fit_calibrator(*fit({0.0: (1, 98), 1.0: (5, 5), 2.0: (9, 0)}))
    assert calibrate(np.array([0.0, 1.0, 2.0])) == pytest.approx([1.5 / 100, 5.5 / 11, 9.5 / 10])


def test_what_would_fall_is_pooled_by_what_it_is_worth() -> None:
    calibrate = fit_calibrator(*fit({0.0: (0, 49), 1.0: (14, 5), 2.0: (4, 5)}))
    pooled = (14.5 / 20 * 20 + 4.5 / 10 * 10) / 30
    assert calibrate(np.array([0.0, 1.0, 2.0])) == pytest.approx([0.5 / 50, pooled, pooled])


def test_between_levels_it_is_linear_and_beyond_them_constant() -> None:
    calibrate = fit_calibrator(*fit({0.0: (0, 9), 1.0: (9, 0)}))
    assert calibrate(np.array([-3.0, 0.5, 7.0])) == pytest.approx([0.05, 0.5, 0.95])


def test_tokens_of_one_document_are_worth_one_observation() -> None:
    raw, active, weights, _ = fit({1.0: (20, 0)})
    assert fit_calibrator(raw, active, weights, np.zeros(20, int))(np.array([1.0])) == pytest.approx([1.5 / 2])


def test_a_heavy_position_counts_by_its_weight_and_is_worth_little() -> None:
    raw, active, _, documents = fit({1.0: (1, 9)})
    weights = np.array([91.0, *[1.0] * 9])
    effective = 100**2 / (91**2 + 9)
    expected = (effective * 0.91 + 0.5) / (effective + 1)
    assert fit_calibrator(raw, active, weights, documents)(np.array([1.0])) == pytest.approx([expected])


def test_nothing_is_ever_sure() -> None:
    raw = np.zeros(100_000)
    calibrate = fit_calibrator(raw, raw > 0, np.ones(100_000), np.arange(100_000))
    assert calibrate(np.array([0.0])) == [NEAREST]


def test_scores_of_single_predictions_as_in_their_papers() -> None:
    said, came = np.array([0.7, 0.7, 0.5]), np.array([True, False, True])
    assert brier(said, came) == pytest.approx([0.09, 0.49, 0.25])
    assert log_loss(said, came) == pytest.approx([-math.log(0.7), -math.log(0.3), math.log(2)])
    assert math.isfinite(log_loss(np.array([0.0]), np.array([True]))[0])


def test_curve_of_ten_predictions_by_hand() -> None:
    said = np.array([0.05] * 4 + [0.95] * 6)
    came = np.array([False] * 3 + [True] + [True] * 6)
    curve = calibration_curve(said, came)
    assert curve is not None
    assert [(one.n, one.predicted, one.observed) for one in curve.bins] == [
        (4, pytest.approx(0.05), 0.25), (6, pytest.approx(0.95), 1.0),
    ]  # fmt: skip
    assert curve.error == pytest.approx(0.4 * 0.2 + 0.6 * 0.05)
    assert all(one.observed_low <= one.observed <= one.observed_high for one in curve.bins)
    assert calibration_curve(said[:0], came[:0]) is None


def test_probabilities_that_are_right_have_a_small_error_and_overconfident_ones_a_large_one() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(20_000)
    came = rng.random(20_000) < true
    right = calibration_curve(true, came)
    sure = calibration_curve(np.where(true > 0.5, 0.99, 0.01), came)
    assert right is not None
    assert sure is not None
    assert right.error < 0.02
    assert sure.error == pytest.approx(0.24, abs=0.02)


def test_a_fit_on_one_half_is_calibrated_on_the_other() -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 6, 6000).astype(float)
    active = rng.random(6000) < 1 / (1 + np.exp(3 - raw))
    first = slice(0, 3000)
    calibrate = fit_calibrator(raw[first], active[first], np.ones(3000), np.arange(3000))
    curve = calibration_curve(calibrate(raw[3000:]), active[3000:])
    assert curve is not None
    assert curve.error < 0.03


def test_odds_are_moved_to_what_happened_and_little_by_few_cases() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.05, 0.95, 4000)
    odds = np.log(said / (1 - said))
    happened = rng.random(4000) < 1 / (1 + np.exp(-(odds - 1.5)))
    shift = shift_of(said, happened)
    assert shift == pytest.approx(-1.5, abs=0.1)
    assert moved(said, np.full(4000, shift)).mean() == pytest.approx(happened.mean(), abs=0.01)
    few = shift_of(said[:3], np.zeros(3, bool))
    assert -1.5 < few < 0
    assert shift_of(said[:0], np.zeros(0, bool)) == 0
    assert (moved(said, np.zeros(4000)) == said).all(), "what is not moved is left as it is"
