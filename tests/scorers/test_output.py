"""Scores and verdicts of output halves, on effects made for the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explainers.output.claim import NOTABLE, NOTABLE_KL
from scorers.errors import ScorerError
from scorers.output import DECIDES, OutputTest, score_output
from scorers.output_verdict import OutputRule, judge_output
from scorers.types import Score
from scorers.verdict import Verdict
from tools.effects import Effects, RandomEffects, Tokens
from tools.types import FloatArray, Site, Split

N, V, M, K = 32, 60, 8, 99
TOKENS = Tokens(np.array([3, 7, 9]), np.array([1, 1, -1], np.float32))


def effects(
    size: float, seed: int = 0, *, n: int = N, noise: float = 0.03, kl: float = 1e-5, later: float = 1e-6
) -> Effects:
    """The claimed tokens move by `size`, each in its direction."""
    rng = np.random.default_rng(seed)
    change = rng.normal(0, noise, (n, V)).astype(np.float32)
    change[:, TOKENS.ids] += size * TOKENS.signs
    around = rng.uniform(0.5, 1.5, (n, 4)).astype(np.float32)
    behind = np.where(np.arange(4) < 3, later * around, np.nan).astype(np.float32)
    loss = rng.normal(0.1, 0.1, n).astype(np.float32)
    return Effects(change, kl * around[:, 0], behind, loss, np.ones(n, np.float32), Site(1, "mlp_out"))


def of(kind: str, found: Effects, spread: float = 0.05, seed: int = 0) -> OutputTest:
    """A test of them, whose random writes shift tokens by `spread`."""
    rng = np.random.default_rng(seed + 1)
    n = len(found)
    few = np.arange(min(M, n))
    shape = (K, len(few))
    random = RandomEffects(
        rng.normal(0, spread, (K, 1)).astype(np.float32).repeat(len(few), 1),
        rng.uniform(0.3, 0.7, shape).astype(np.float32), rng.uniform(0, 2e-3, shape).astype(np.float32),
    )  # fmt: skip
    doses = np.linspace(0, 2, 5, dtype=np.float32)
    curve = (doses * float(TOKENS.shift(found.change).mean()))[None].repeat(len(few), 0)
    curve = curve + rng.normal(0, 0.01, curve.shape).astype(np.float32)
    if kind == "changes":
        return OutputTest("changes", np.arange(n), found, TOKENS, few, random, doses, curve)
    return OutputTest(kind, np.arange(n), found, None, few, random)  # type: ignore[arg-type]


def scored(test: OutputTest) -> dict[str, Score]:
    return {score.metric: score for score in score_output(test, split=Split.SCORE, settings={}, resamples=400)}


def verdict(test: OutputTest, rule: OutputRule | None = None) -> Verdict:
    return judge_output(test.kind, list(scored(test).values()), rule).verdict


def test_scores_of_tokens_that_change_as_claimed() -> None:
    found = effects(0.5)
    scores = scored(of("changes", found))
    shift = scores["output_shift"]
    assert shift.value == pytest.approx(float(TOKENS.shift(found.change).mean()))
    assert shift.low is not None
    assert shift.high is not None
    assert 0.45 < shift.low < shift.high < 0.55
    assert shift.p_value == pytest.approx(1 / (1 + K))
    assert len(shift.nulls[0].values) == K
    assert scores["output_rank"].value == pytest.approx(1.0)
    assert scores["output_dose"].value == pytest.approx(1.0)
    assert (scores["output_dose"].p_value or 1) < 1e-3
    assert next(iter(scores)) == "output_shift"
    assert not any(score.headline for score in scores.values())
    assert {score.n_documents for score in scores.values()} == {N, M}


def test_a_change_is_supported_refuted_or_undecided_by_its_interval() -> None:
    assert verdict(of("changes", effects(0.5))) is Verdict.SUPPORTED
    assert verdict(of("changes", effects(0.01))) is Verdict.REFUTED
    assert verdict(of("changes", effects(-0.5))) is Verdict.REFUTED  # the sign is kept
    at_the_floor = [verdict(of("changes", effects(NOTABLE, seed, noise=0.2))) for seed in range(20)]
    assert at_the_floor.count(Verdict.INCONCLUSIVE) >= 16
    assert verdict(of("changes", effects(0.5, n=6))) is Verdict.INCONCLUSIVE
    assert verdict(of("changes", effects(0.5, n=1))) is Verdict.INCONCLUSIVE


def test_a_change_that_any_write_of_the_size_makes_is_not_supported() -> None:
    assert verdict(of("changes", effects(0.5), spread=1.0)) is Verdict.INCONCLUSIVE


def test_no_effect_is_supported_only_where_the_data_exclude_one() -> None:
    still = effects(0.0, noise=0.005)
    assert verdict(of("nothing", still)) is Verdict.SUPPORTED
    assert verdict(of("nothing", effects(0.5))) is Verdict.REFUTED
    assert verdict(of("nothing", effects(0.0, noise=0.5))) is not Verdict.SUPPORTED
    assert verdict(of("nothing", replace(still, kl=np.full(N, 0.01, np.float32)))) is Verdict.REFUTED
    assert verdict(of("nothing", replace(still, later=np.full((N, 4), 0.01, np.float32)))) is Verdict.REFUTED
    assert verdict(of("nothing", effects(0.0, noise=0.005, n=5))) is Verdict.INCONCLUSIVE
    p = scored(of("nothing", still))["output_most"].p_value
    assert p == pytest.approx(1 / 401)


def test_equivalence_is_rarely_claimed_of_effects_as_large_as_the_bound() -> None:
    wrong = 0
    for seed in range(60):
        found = effects(0.0, seed, noise=0.02)
        kl = np.random.default_rng(seed).exponential(NOTABLE_KL, N).astype(np.float32)
        wrong += verdict(of("nothing", replace(found, kl=kl))) is Verdict.SUPPORTED
    assert wrong <= 6  # 5 % of 60, with room for three more


def test_later_effects_must_not_be_there_at_once() -> None:
    assert verdict(of("later", effects(0.0, later=0.01))) is Verdict.SUPPORTED
    assert verdict(of("later", effects(0.0, later=1e-6))) is Verdict.REFUTED
    assert verdict(of("later", effects(0.0, later=0.01, kl=0.01))) is Verdict.REFUTED


def test_predictions_that_vary_are_held_against_random_writes() -> None:
    assert verdict(of("varies", effects(0.0, kl=0.02))) is Verdict.SUPPORTED
    assert verdict(of("varies", effects(0.0, kl=1e-4))) is Verdict.REFUTED
    assert verdict(of("varies", effects(0.0, kl=0.0012))) is Verdict.INCONCLUSIVE  # any write does as much


def test_q_values_decide_where_there_are_any() -> None:
    scores = [
        replace(score, q_value=0.2) if score.metric == "output_shift" else score
        for score in scored(of("changes", effects(0.5))).values()
    ]
    judged = judge_output("changes", scores)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "q = 0.2" in judged.reasons[0]


def test_texts_that_end_at_the_place_leave_no_loss() -> None:
    found = replace(effects(0.5), loss=np.full(N, np.nan, np.float32), later=np.full((N, 4), np.nan, np.float32))
    scores = scored(of("changes", found))
    assert scores["output_loss"].value is None
    assert scores["output_loss"].reason
    assert verdict(of("changes", found)) is Verdict.SUPPORTED


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(ScorerError, match="random writes"):
        score_output(OutputTest("changes", np.arange(N), effects(0.5), TOKENS), split=Split.SCORE, settings={})
    empty = effects(0.5, n=0)
    with pytest.raises(ScorerError, match="0 places"):
        score_output(OutputTest("nothing", np.arange(0), empty), split=Split.SCORE, settings={})
    open_split = score_output(of("nothing", effects(0.0)), split=Split.EXPLORE, settings={}, resamples=50)
    with pytest.raises(ScorerError, match="explore"):
        judge_output("nothing", open_split)
    assert judge_output("changes", []).verdict is Verdict.UNTESTED
    assert set(DECIDES) == {"changes", "varies", "later", "nothing"}


def test_intervals_hold_the_true_shift_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = effects(0.0, seed, noise=0.01)
        change: FloatArray = found.change + rng.normal(0.3, 0.2, (N, 1)).astype(np.float32) * np.isin(
            np.arange(V), TOKENS.ids
        ) * np.where(np.arange(V) == 9, -1, 1)
        shift = scored(of("changes", replace(found, change=change.astype(np.float32))))["output_shift"]
        assert shift.low is not None
        assert shift.high is not None
        held += shift.low <= 0.3 <= shift.high
    assert held >= 88
