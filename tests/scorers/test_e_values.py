from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from scorers.e_values import (
    CALIBRATORS,
    STAKES,
    betting,
    e_bh,
    e_q_values,
    mixture_calibrator,
    power_calibrator,
)
from scorers.error_rates import ERROR_METHODS, q_values, with_q_values
from scorers.errors import ScorerError
from scorers.types import Score

METHODS = ("mixture", "agrapa")
E_VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e8)), min_size=1, max_size=30)


@pytest.mark.parametrize("method", METHODS)
@given(values=st.lists(st.floats(-2, 5), min_size=1, max_size=60), null=st.floats(-1.5, 4))
@settings(max_examples=60, deadline=None)
def test_wealth_is_never_negative_and_always_finite(method: str, values: list[float], null: float) -> None:
    wealth = betting(np.array(values), null, lower=-2, method=method)
    assert wealth.shape == (len(values),)
    assert np.isfinite(wealth).all()
    assert (wealth >= 0).all()


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30), null=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_wealth_is_the_mean_of_the_stakes_wealth(values: list[float], null: float) -> None:
    x = np.array(values)
    by_hand = np.mean([np.prod(1 + c * (x - null) / null) for c in STAKES])
    assert betting(x, null, lower=0)[-1] == pytest.approx(by_hand, rel=1e-9)


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_larger_null_mean_never_gives_more_evidence(values: list[float]) -> None:
    ends = [betting(np.array(values), m, lower=0)[-1] for m in (0.1, 0.3, 0.5, 0.9)]
    assert all(a >= b * (1 - 1e-9) for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize("method", METHODS)
def test_under_the_null_wealth_is_fair_and_seldom_large_however_often_one_looks(method: str) -> None:
    rng = np.random.default_rng(0)
    for prevalence in (0.5, 0.05):
        # A skewed bounded variable whose mean is the null's.
        x = (rng.random((4000, 200)) < prevalence).astype(np.float64)
        wealth = betting(x, prevalence, lower=0, method=method)
        error = wealth[:, 20].std() / np.sqrt(len(x))
        assert wealth[:, 20].mean() <= 1 + 4 * error
        ever = (wealth >= 20).any(axis=1).mean()
        # Ville: at most 0.05; four standard errors are 0.014.
        assert ever <= 0.05 + 0.014


@pytest.mark.parametrize("method", METHODS)
def test_a_true_effect_is_found(method: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.beta(4, 2, (200, 100))
    assert (betting(x, 0.5, lower=0, method=method)[:, -1] >= 20).mean() > 0.95


def test_bets_use_the_past_alone() -> None:
    rng = np.random.default_rng(2)
    x = rng.random(50)
    for method in METHODS:
        whole = betting(x, 0.4, lower=0, method=method)
        assert betting(x[:20], 0.4, lower=0, method=method) == pytest.approx(whole[:20])


def test_peeking_at_p_values_raises_false_alarms_and_at_wealth_it_does_not() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    x = rng.random((1500, 400))
    looks = np.arange(20, 401, 20)
    p = np.stack([stats.ttest_1samp(x[:, :n], 0.5, axis=1, alternative="greater").pvalue for n in looks])
    wealth = betting(x, 0.5, lower=0)[:, looks - 1]
    assert (p <= 0.05).any(axis=0).mean() > 0.15
    assert (wealth >= 20).any(axis=1).mean() <= 0.05


def test_what_cannot_be_betted_on_is_refused() -> None:
    with pytest.raises(ScorerError, match="lies below the bound"):
        betting(np.array([0.5, -0.1]), 0.5, lower=0)
    with pytest.raises(ScorerError, match="null mean above"):
        betting(np.array([0.5]), 0.0, lower=0)
    with pytest.raises(ScorerError, match="no way of betting 'kelly'"):
        betting(np.array([0.5]), 0.5, lower=0, method="kelly")


def test_a_cap_can_only_take_evidence_away() -> None:
    x = np.random.default_rng(4).exponential(size=80)
    assert (betting(x, 0.5, lower=0, upper=1.0) <= betting(x, 0.5, lower=0)).all()


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrators_are_fair_and_fall(name: str) -> None:
    calibrate = CALIBRATORS[name]
    # In x = -ln p the integral over p has no pole: f(p) dp = f(exp(-x)) exp(-x) dx; beyond x = 600 little is left.
    area = integrate.quad(lambda x: float(calibrate(np.array([np.exp(-x)]))[0]) * np.exp(-x), 0, 600, limit=500)[0]
    assert 0.97 < area <= 1 + 1e-6
    grid = calibrate(np.geomspace(1e-12, 1, 200))
    assert (np.diff(grid) <= 1e-9).all()
    assert (grid >= 0).all()


def test_calibrators_worked_out_by_hand() -> None:
    assert power_calibrator(np.array([0.01]))[0] == pytest.approx(5)
    assert power_calibrator(np.array([0.01]), kappa=0.2)[0] == pytest.approx(0.2 * 0.01**-0.8)
    assert mixture_calibrator(np.array([1.0]))[0] == pytest.approx(0.5)
    # The mean of the power calibrators over kappa.
    area = integrate.quad(lambda k: k * 0.03 ** (k - 1), 0, 1)[0]
    assert mixture_calibrator(np.array([0.03]))[0] == pytest.approx(area)
    for bad in (0.0, 1.5):
        with pytest.raises(ScorerError, match="can be calibrated"):
            power_calibrator(np.array([bad]))
    with pytest.raises(ScorerError, match="kappa"):
        power_calibrator(np.array([0.1]), kappa=1.0)


@given(e_values=E_VALUES, alpha=st.floats(0.01, 1))
@settings(max_examples=200, deadline=None)
def test_e_bh_is_its_definition(e_values: list[float], alpha: float) -> None:
    m = len(e_values)
    ranked = sorted(e_values, reverse=True)
    fits = [k for k in range(1, m + 1) if ranked[k - 1] * alpha * k >= m]
    expected = [bool(fits) and e >= ranked[max(fits) - 1] for e in e_values] if fits else [False] * m
    assert e_bh(e_values, alpha) == expected


@given(e_values=E_VALUES)
@settings(max_examples=200, deadline=None)
def test_a_q_value_is_the_smallest_level_of_discovery(e_values: list[float]) -> None:
    q = e_q_values(e_values)
    assert ((q > 0) & (q <= 1)).all()
    for i, own in enumerate(q):
        if own < 1:
            assert e_bh(e_values, own * (1 + 1e-9))[i]
            assert not e_bh(e_values, own * (1 - 1e-6))[i]
        else:
            assert not e_bh(e_values, 1 - 1e-6)[i]


def test_e_bh_worked_out_by_hand() -> None:
    # m = 4, alpha = 0.1: the k-th largest must reach 40 / k.
    assert e_bh([30, 25, 1, 0], 0.1) == [True, True, False, False]
    assert e_bh([30, 15, 1, 0], 0.1) == [False, False, False, False]
    assert e_q_values([30, 25, 1, 0]) == pytest.approx([0.08, 0.08, 1, 1])
    with pytest.raises(ScorerError, match="0 or more"):
        e_bh([-1.0], 0.1)


def test_e_bh_controls_discoveries_that_all_depend_on_one_another() -> None:
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(2000):
        # All false claims share one e-value, which is fair: 20 with probability 1/20.
        shared = 20.0 * (rng.random() < 0.05)
        found = np.array(e_bh([shared] * 180 + [1e4] * 20, 0.1))
        shares.append(found[:180].sum() / max(1, found.sum()))
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(len(shares))


def test_one_calibrated_p_value_a_claim_gives_e_bh_no_power() -> None:
    p = [4e-5] * 4 + [0.5] * 196
    assert max(q for q in q_values(p, "bh")[:4] if q is not None) < 0.01
    assert min(q for q in q_values(p, "e-bh")[:4] if q is not None) > 0.2


def score(metric: str, p: float | None, e: float | None) -> Score:
    return Score("sequential", metric, 0.5, 0.4, 0.6, 10, 5, 3, 0.1, p, "score", "rule", "h", True, e_value=e)


def test_q_values_by_e_bh_use_the_e_values_and_calibrate_only_what_has_none() -> None:
    assert "e-bh" in ERROR_METHODS
    given: list[Any] = [score("f1", 1e-3, 1000.0), score("f1", 0.5, 0.2), score("f1", None, None)]
    done = with_q_values(given, "e-bh")
    assert [s.q_value for s in done] == [pytest.approx(0.002), 1, None]
    mixed = with_q_values([score("f1", 1e-3, 1000.0), score("f1", 1e-6, None)], "e-bh")
    calibrated = float(mixture_calibrator(np.array([1e-6]))[0])
    assert mixed[1].q_value == pytest.approx(min(2 / calibrated, max(2 / 1000, 1 / min(1000, calibrated))), rel=1e-6)
    with pytest.raises(ScorerError, match="not of the same claims"):
        q_values([0.1], "e-bh", e_values=[1.0, 2.0])
    with pytest.raises(ScorerError, match="0 or more"):
        q_values([0.1], "e-bh", e_values=[-1.0])
