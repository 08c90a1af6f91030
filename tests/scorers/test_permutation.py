from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from scorers.errors import ScorerError
from scorers.metrics import METRICS, Comparison, evaluate
from scorers.permutation import density_strata, max_null, pairing_null, pooled_p_values, rotation_null

Compare = Callable[..., Comparison]
F1 = METRICS.get("f1")


def value(name: str, comparison: Comparison) -> float:
    result, reason = evaluate(METRICS.get(name), comparison)
    assert result is not None, reason
    return result


def rolled(c: Comparison, shift: int) -> Comparison:
    return Comparison(c.activation, c.active, np.roll(c.prediction, -shift), np.roll(c.predicted, -shift), c.weights)


def runs(rng: np.random.Generator, n: int, rate: float, length: int) -> np.ndarray:
    """Activity in runs of `length`, with density about rate."""
    starts = rng.random(n) < rate / length
    return np.convolve(starts, np.ones(length), "full")[:n] > 0


def unrelated(rng: np.random.Generator, n: int = 2000, rate: float = 0.05, length: int = 8) -> Comparison:
    active, predicted = runs(rng, n, rate, length), runs(rng, n, rate, length)
    y = np.where(active, 1 + rng.random(n), 0.2 * rng.random(n))
    return Comparison(y, active, predicted.astype(float), predicted, rng.choice([1.0, 20.0], n))


@pytest.mark.parametrize("values", [2, 3, 4, 8, 11])
@pytest.mark.parametrize("name", METRICS.names())
def test_every_rotation_equals_rolling_the_predictions(name: str, values: int, compare: Compare) -> None:
    rng = np.random.default_rng(0)
    n = 401
    c = compare(rng.random(n), rng.integers(0, values, n) / (values - 1), rng.integers(1, 40, n))
    assert len(c.levels[0]) == values
    null = rotation_null([METRICS.get(name)], c, shortest=20)[name]
    draws = np.array([value(name, rolled(c, s)) for s in range(20, n - 20 + 1)])
    observed = value(name, c)
    assert null.draws == len(draws) == n - 39
    assert null.observed == pytest.approx(observed)
    assert null.mean == pytest.approx(draws.mean())
    assert null.q95 == pytest.approx(np.quantile(draws, 0.95))
    assert null.p_value == pytest.approx((1 + (draws >= observed - 1e-9).sum()) / (1 + len(draws)))


def test_rotations_hold_where_activity_is_predicted_apart_from_values() -> None:
    rng = np.random.default_rng(1)
    n = 401
    c = Comparison(rng.random(n), rng.random(n) > 0.7, rng.integers(0, 2, n) / 1.0, rng.random(n) > 0.5, np.ones(n))
    null = rotation_null([F1, METRICS.get("pearson")], c, shortest=20)
    for name in ("f1", "pearson"):
        draws = np.array([value(name, rolled(c, s)) for s in range(20, n - 20 + 1)])
        assert null[name].mean == pytest.approx(draws.mean())


def test_p_values_of_unrelated_runs_are_uniform_and_reject_no_more_than_alpha() -> None:
    rng = np.random.default_rng(1)
    p = np.array([rotation_null([F1], unrelated(rng), shortest=64)["f1"].p_value for _ in range(400)])
    # F1 of 0 is common under the null, so p has an atom at 1; below it must be no smaller than uniform.
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    for alpha in (0.01, 0.05, 0.1, 0.2):
        assert (p <= alpha).mean() <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / len(p))


def test_p_values_of_a_continuous_metric_are_uniform() -> None:
    rng = np.random.default_rng(2)
    pearson = METRICS.get("pearson")
    p = []
    for _ in range(300):
        # Autoregressive noise with a memory of ten tokens.
        y, q = (np.convolve(rng.normal(size=1300), 0.9 ** np.arange(60), "valid") for _ in range(2))
        c = Comparison(np.maximum(y, 0), y > 2, q, q > 2, np.ones(len(y)))
        p.append(rotation_null([pearson], c, shortest=64)["pearson"].p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_shuffling_tokens_would_find_far_too_much() -> None:
    rng = np.random.default_rng(30)
    rejected = {"rotation": 0, "shuffle": 0}
    for _ in range(400):
        c = unrelated(rng, length=16, rate=0.1)
        rejected["rotation"] += rotation_null([F1], c, shortest=64)["f1"].p_value <= 0.05
        # With the same tokens predicted active, F1 rises with the weight of the hits alone.
        hits = (c.weights * c.active)[c.predicted].sum()
        shuffled = [(c.weights * c.active)[rng.permutation(2000)[: c.predicted.sum()]].sum() for _ in range(39)]
        rejected["shuffle"] += (1 + sum(s >= hits for s in shuffled)) / 40 <= 0.05
    assert rejected["rotation"] / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert rejected["shuffle"] / 400 >= 0.2


def test_a_true_description_is_far_beyond_chance() -> None:
    rng = np.random.default_rng(4)
    c = unrelated(rng)
    right = Comparison(c.activation, c.active, c.active.astype(float), c.active, c.weights)
    null = rotation_null([F1, METRICS.get("average_precision")], right, shortest=64)
    assert null["f1"].p_value == 1 / (1 + null["f1"].draws) < 0.001
    assert null["average_precision"].p_value < 0.001
    assert null["f1"].mean < 0.15


def test_too_few_positions_give_no_null(compare: Compare) -> None:
    assert rotation_null([F1], compare([1, 0, 0, 1] * 4, [1, 0, 0, 0] * 4), shortest=64) == {}


def test_a_longer_sample_is_thinned_and_keeps_its_level() -> None:
    rng = np.random.default_rng(5)
    null = rotation_null([F1], unrelated(rng, n=70_000), shortest=64)["f1"]
    assert null.draws == 32_768
    assert null.p_value > 0.01


def test_pairing_is_uniform_when_the_description_was_written_for_another_unit() -> None:
    rng = np.random.default_rng(6)
    p, against_chance = [], []
    for _ in range(200):
        shared = runs(rng, 1500, 0.03, 4)
        # Every unit, the described one too, shares as much with the prediction: half of the shared runs.
        units = np.stack([(shared & runs(rng, 1500, 0.5, 20)) | runs(rng, 1500, 0.02, 3) for _ in range(40)])
        values = units * (1 + rng.random(units.shape))
        c = Comparison(values[0], units[0], shared.astype(float), shared, np.ones(1500))
        p.append(pairing_null([F1], c, values[1:])["f1"].p_value)
        against_chance.append(rotation_null([F1], c, shortest=64)["f1"].p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    # Chance alone would have called most of them real.
    assert np.mean(np.array(against_chance) <= 0.05) > 0.6


def test_pairing_matches_the_density_of_other_units(compare: Compare) -> None:
    rng = np.random.default_rng(7)
    n = 1000
    # A unit that is strong everywhere must not look like a match: only its 20 strongest positions count.
    y = np.zeros(n)
    y[:20] = 1
    dense = 5 + rng.random((30, n))
    sparse = np.zeros((5, n))
    sparse[:, -3:] = 9.0
    null = pairing_null([F1, METRICS.get("recall")], compare(y, y), np.concatenate([dense, sparse]))
    assert null["f1"].draws == 30
    assert null["f1"].mean == pytest.approx(0.02, abs=0.02)
    assert len(null["f1"].values) == 30
    assert null["recall"].values == ()


@pytest.mark.parametrize("name", METRICS.names())
def test_pairing_draws_are_the_metric_against_the_other_unit(name: str, compare: Compare) -> None:
    rng = np.random.default_rng(8)
    n = 200
    y, prediction, other = rng.random(n), rng.random(n).round(1), rng.normal(size=n)
    c = compare(y, prediction, rng.integers(1, 9, n), threshold=0.8)
    null = pairing_null([METRICS.get(name)], c, other[None])[name]
    kth = np.sort(other)[-int(c.active.sum())]
    direct = Comparison(np.maximum(other, 0), other >= kth, prediction, c.predicted, np.ones(n))
    assert null.mean == pytest.approx(value(name, direct))


def test_a_unit_silent_on_the_panel_has_no_pairing_null(compare: Compare) -> None:
    assert pairing_null([F1], compare([0, 0, 0.1], [1, 0, 0]), np.ones((20, 3))) == {}
    assert pairing_null([F1], compare([1, 0, 0.1], [1, 0, 0]), np.zeros((20, 3))) == {}


def test_pooling_resolves_what_one_claim_cannot() -> None:
    rng = np.random.default_rng(9)
    draws = [rng.random(19).tolist() for _ in range(100)]
    observed = [2.0, *rng.random(99)]
    p = pooled_p_values(observed, draws)
    assert p[0] == pytest.approx(1 / 1901)
    assert stats.kstest(p[1:], "uniform").pvalue > 0.01
    apart = pooled_p_values([0.5, 0.5], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.5]], ["rare", "dense"])
    assert apart == pytest.approx([1 / 4, 4 / 4])
    with pytest.raises(ScorerError, match="2 statistics, 1 sets"):
        pooled_p_values([1.0, 2.0], [[0.0]])


def test_the_best_of_several_settings_needs_the_null_of_a_best() -> None:
    rng = np.random.default_rng(10)
    naive, honest = [], []
    for _ in range(600):
        # Six settings that are alike, 99 shuffles of each, the same in all; nothing is there.
        shared = rng.normal(size=(1, 100))
        statistic = 0.5 * shared + rng.normal(size=(6, 100))
        observed, draws = statistic[:, 0], statistic[:, 1:]
        best = int(observed.argmax())
        naive.append((1 + (draws[best] >= observed[best]).sum()) / 100)
        honest.append(max_null(float(observed.max()), draws).p_value)
    assert np.mean(np.array(naive) <= 0.05) > 0.15
    assert np.mean(np.array(honest) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert stats.kstest(honest, "uniform", alternative="greater").pvalue > 0.01


def test_the_null_of_a_maximum_takes_each_shuffle_s_maximum() -> None:
    null = max_null(4.0, [[1.0, 5.0, float("nan")], [3.0, 2.0, 0.0]])
    assert (null.name, null.draws, null.mean) == ("max", 3, pytest.approx((3 + 5 + 0) / 3))
    assert null.p_value == pytest.approx(2 / 4)
    nowhere = max_null(4.0, [[float("nan"), 1.0]])
    assert nowhere.p_value == pytest.approx(2 / 3)
    with pytest.raises(ScorerError, match=r"\[settings, draws\]"):
        max_null(1.0, [1.0, 2.0])  # type: ignore[list-item]


def test_strata_hold_units_of_like_density_and_enough_of_them() -> None:
    assert density_strata([0.001, 0.05, 0.0012, 0.04], least=1) == [0, 1, 0, 1]
    assert density_strata([0.001] * 5 + [0.05] * 30 + [0.5], least=4) == [0] * 5 + [1] * 31
    assert density_strata([0.0, 0.2], least=20) == [0, 0]
    assert density_strata([], least=3) == []
    with pytest.raises(ScorerError, match="between 0 and 1"):
        density_strata([1.2])


def test_pooled_p_values_are_uniform_within_strata_and_not_without_them() -> None:
    rng = np.random.default_rng(11)
    density = np.repeat([0.003, 0.1], 300)

    # Chance agreement rises with density: draws of F1 are of the order of the density.
    def f1(n: int) -> np.ndarray:
        return density[:, None] * rng.gamma(2.0, 0.5, (600, n))

    observed, draws = f1(1)[:, 0], f1(32)
    p = pooled_p_values(observed, draws.tolist(), density_strata(density))
    for stratum in (p[:300], p[300:]):
        assert stats.kstest(stratum, "uniform").pvalue > 0.01
    together = pooled_p_values(observed, draws.tolist())
    assert (together[300:] <= 0.25).mean() > 0.4
    assert (together[:300] <= 0.25).mean() < 0.01


def test_the_pool_of_a_campaign_resolves_four_true_claims_in_two_hundred() -> None:
    from scorers.error_rates import q_values

    rng = np.random.default_rng(12)
    found = false = 0
    for _ in range(20):
        density = rng.choice([0.003, 0.01, 0.03, 0.1], 200)
        draws = density[:, None] * rng.gamma(2.0, 0.5, (200, 32))
        observed = density * rng.gamma(2.0, 0.5, 200)
        observed[:4] = 0.7
        q = np.array(q_values(pooled_p_values(observed, draws.tolist(), density_strata(density)).tolist()), dtype=float)
        found += (q[:4] <= 0.1).sum()
        false += (q[4:] <= 0.1).sum()
        # The 32 draws of one claim resolve 1/33, which no correction over 200 claims survives.
        alone = q_values([(1 + (d >= o).sum()) / 33 for o, d in zip(observed, draws, strict=True)])
        assert min(value for value in alone if value is not None) > 0.1
    assert found >= 0.9 * 80
    assert false <= 0.2 * found


def test_weights_count_where_a_part_of_the_panel_was_chosen(compare: Compare) -> None:
    rng = np.random.default_rng(13)
    n = 300
    y, prediction, other = rng.random(n), rng.random(n).round(1), rng.normal(size=(3, n))
    weights = rng.integers(1, 4, n).astype(float)
    thin = compare(y, prediction, weights, threshold=0.8)
    # A position of weight 3 is the same as three positions.
    rows = np.repeat(np.arange(n), weights.astype(int))
    full = compare(y[rows], prediction[rows], threshold=0.8)
    metrics = [F1, METRICS.get("average_precision"), METRICS.get("pearson")]
    weighted = pairing_null(metrics, thin, other, weighted=True)
    repeated = pairing_null(metrics, full, other[:, rows])
    for metric in metrics:
        assert weighted[metric.name].observed == pytest.approx(repeated[metric.name].observed)
        assert weighted[metric.name].values == pytest.approx(repeated[metric.name].values, abs=1e-5)
