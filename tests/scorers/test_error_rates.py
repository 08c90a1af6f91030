from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scorers.error_rates import METHODS, benjamini_hochberg, q_values, storey, true_null_share, with_q_values
from scorers.errors import ScorerError
from scorers.types import Score


def test_worked_out_by_hand() -> None:
    # p = .01 .02 .03 .5, m = 4: p m / rank = .04 .04 .04 .5
    assert q_values([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.04, 0.04, 0.5, 0.04])
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert q_values([0.03, 0.01, 0.5, 0.02], "by") == pytest.approx([0.04 * harmonic] * 2 + [1.0, 0.04 * harmonic])


@pytest.mark.parametrize(("method", "theirs"), [("bh", "fdr_bh"), ("by", "fdr_by")])
def test_agrees_with_statsmodels(method: str, theirs: str) -> None:
    p = np.random.default_rng(0).random(200) ** 2
    assert METHODS[method](p) == pytest.approx(multipletests(p, method=theirs)[1])


def test_untested_claims_take_no_part() -> None:
    assert q_values([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert q_values([None]) == [None]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ScorerError, match="no error-rate method 'holm'"):
        q_values([0.1], "holm")
    with pytest.raises(ScorerError, match="between 0 and 1"):
        q_values([0.1, float("nan")])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("true_share", [0.0, 0.02, 0.1, 0.4])
def test_realised_false_discovery_rate_stays_below_nominal(method: str, true_share: float) -> None:
    rng = np.random.default_rng([1, round(100 * true_share)])
    campaigns, m = 1500, 200
    n_true = round(true_share * m)
    z = rng.normal(size=(campaigns, m))
    z[:, :n_true] += 4
    q = np.stack([METHODS[method](p) for p in stats.norm.sf(z)])
    for alpha in (0.05, 0.1, 0.2):
        found = q <= alpha
        shares = found[:, n_true:].sum(axis=1) / np.maximum(1, found.sum(axis=1))
        # Without true claims the rate is nominal itself, so 2 standard errors would fail one check in 44 by chance.
        assert shares.mean() <= alpha + 3 * shares.std() / np.sqrt(campaigns)


def test_naive_p_values_would_be_mostly_false() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(300, 200))
    z[:, :4] += 4
    naive = stats.norm.sf(z) <= 0.05
    assert (naive[:, 4:].sum(axis=1) / naive.sum(axis=1)).mean() > 0.6


def test_storey_gains_power_where_many_claims_are_true() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=1000)
    z[:600] += 3
    p = stats.norm.sf(z)
    assert 0.35 <= true_null_share(p) <= 0.5
    assert (storey(p) <= 0.1).sum() > (benjamini_hochberg(p) <= 0.1).sum()
    assert true_null_share(np.full(50, 0.9)) == 1


def test_each_metric_is_a_family_of_its_own() -> None:
    def score(metric: str, p: float | None) -> Score:
        return Score("simulation", metric, 0.5, 0.4, 0.6, 10, 5, 3, 0.1, p, "score", "rule", "h", True)

    done = with_q_values([score("f1", 0.01), score("pearson", 0.03), score("f1", 0.04), score("f1", None)])
    assert [s.q_value for s in done] == [pytest.approx(0.02), pytest.approx(0.03), pytest.approx(0.04), None]
