from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorers.errors import ScorerError
from scorers.sequential import score_early, score_sequential
from scorers.simulation import DEFAULT_METRICS, SCORERS, score_simulation
from scorers.stratified_bets import ACTIVE, LARGEST, SILENT, Bar, Bet, Design, confidence_sequence
from scorers.types import DoubleArray, Score
from scorers.verdict import Verdict, VerdictRule, judge
from tools.types import UnitId

UNIT = UnitId("mlp:0", 0)
OTHERS = [UnitId("mlp:0", i) for i in range(40)]
Plant = Callable[..., Any]
NOTHING = np.zeros(3)


def documents(rng: np.random.Generator, n: int, *, prevalence: float, precision: float, recall: float) -> DoubleArray:
    """[n, 3] hits, misses and false alarms in documents of 256 positions that differ in how active they are."""
    active = rng.poisson(256 * prevalence * rng.gamma(2.0, 0.5, n))
    hits = rng.binomial(active, recall)
    alarms = rng.poisson(256 * prevalence * recall * (1 / precision - 1) * rng.gamma(2.0, 0.5, n))
    return np.stack([hits, active - hits, alarms], axis=1).astype(float)


def design(counts: DoubleArray) -> Design:
    active = counts[:, :2].sum(axis=1)
    return Design(tuple(active[active > 0].tolist()), int((active == 0).sum()))


def evidence(bar: Bar, side: int, counts: DoubleArray, **options: Any) -> float:
    bet = Bet(bar, side, design(counts), NOTHING, **options)
    active = counts[:, :2].sum(axis=1) > 0
    bet.add(ACTIVE, counts[active])
    bet.add(SILENT, counts[~active])
    return bet.e_value


@given(f1=st.floats(0.05, 0.95), density=st.floats(0, 0.9), counts=st.tuples(*[st.floats(0, 50)] * 3))
@settings(max_examples=100, deadline=None)
def test_the_balance_is_positive_exactly_above_the_bar(f1: float, density: float, counts: Any) -> None:
    hits, misses, alarms = counts
    total = 2 * hits + misses + alarms
    if hits + misses < 0.1:
        return
    value = 2 * hits / total
    chance = 2 * density * (hits + alarms) / total
    for bar, above in ((Bar.plain(f1), value - f1), (Bar.corrected(f1, density), value - chance - f1 * (1 - chance))):
        if abs(above) > 1e-9:
            assert (float(bar.balance(np.array(counts))) > 0) == (above > 0)


@pytest.mark.parametrize("prevalence", [0.002, 0.02])
@pytest.mark.parametrize("side", [1, -1])
def test_evidence_is_fair_where_the_f1_is_the_bar(prevalence: float, side: int) -> None:
    rng = np.random.default_rng([7, side + 1, round(1000 * prevalence)])
    # Recall 0.5 and precision 0.5: F1 is 0.5. The strata's shares are the sample's own.
    ends = []
    for _ in range(600):
        counts = documents(rng, 60, prevalence=prevalence, precision=0.5, recall=0.5)
        if counts[:, :2].any():
            ends.append(evidence(Bar.plain(0.5), side, counts))
    ends_array = np.array(ends)
    assert ends_array.mean() <= 1 + 4 * ends_array.std() / np.sqrt(len(ends))
    assert (ends_array >= 20).mean() <= 0.05


def test_evidence_grows_for_what_is_true_and_not_for_what_is_not() -> None:
    rng = np.random.default_rng(8)
    for prevalence in (0.003, 0.02, 0.2):
        good = documents(rng, 90, prevalence=prevalence, precision=0.95, recall=0.9)
        bad = documents(rng, 90, prevalence=prevalence, precision=0.05, recall=0.05)
        assert evidence(Bar.corrected(0.3, prevalence), 1, good) > 40
        assert evidence(Bar.corrected(0.3, prevalence), -1, good) < 1
        assert evidence(Bar.corrected(0.3, prevalence), 1, bad) < 1
    assert evidence(Bar.corrected(0.3, 0.2), -1, bad) > 40


def test_documents_without_activity_must_be_looked_at() -> None:
    # All hits, and not one document seen in which a false alarm could be: the null says they are full of them.
    counts = np.array([[3.0, 0, 0]] * 30)
    bet = Bet(Bar.plain(0.5), 1, Design((3.0,) * 30, 600), NOTHING)
    bet.add(ACTIVE, counts)
    assert bet.e_value < 20
    bet.add(SILENT, np.zeros((300, 3)))
    assert bet.e_value > 20


def test_false_alarms_count_against_and_strong_blocks_shift_the_bar() -> None:
    counts = np.array([[2.0, 1, 0]] * 25 + [[0.0, 0, 0]] * 25)
    plain = evidence(Bar.plain(0.5), 1, counts)
    worse = counts.copy()
    worse[25:, 2] = 1
    assert evidence(Bar.plain(0.5), 1, worse) < plain
    shifted = Bet(Bar.plain(0.5), 1, design(counts), np.array([0.5, 0, 0]))
    shifted.add(ACTIVE, counts[:25])
    shifted.add(SILENT, counts[25:])
    assert shifted.e_value > plain


def test_hits_beyond_what_is_counted_are_allowed_for() -> None:
    few_full = Design((1.0,) * 30 + (3.0,) * 3 + (8.0,), 10)
    most, beyond = few_full.creditable(0.4)
    assert most == 1
    assert beyond == pytest.approx((3 * 2 + 7) / 34)
    # "F1 is at least 0.3" is true where the full documents alone are hit: no evidence against it.
    counts = np.array([[0.0, 1, 0]] * 30 + [[3.0, 0, 0]] * 3 + [[8.0, 0, 0]])
    bet = Bet(Bar.plain(0.3), -1, few_full, NOTHING)
    bet.add(ACTIVE, counts)
    assert bet.e_value < 2


def test_a_null_that_nothing_could_fulfil_is_excluded() -> None:
    # The strong blocks alone lie so far above the bar that no panel could make up for them.
    bet = Bet(Bar.plain(0.2), 1, Design((1.0, 1.0), 0), np.array([1e6, 0, 0]))
    bet.add(ACTIVE, np.array([[0.0, 1, 0]]))
    assert bet.e_value == LARGEST


def test_a_confidence_sequence_holds_the_truth_and_narrows() -> None:
    rng = np.random.default_rng(9)
    bars = [Bar.plain(f) for f in np.linspace(0, 1, 26)[:-1]]
    widths = []
    for n in (30, 300):
        counts = documents(rng, n, prevalence=0.02, precision=0.7, recall=0.7)
        active = counts[:, :2].sum(axis=1) > 0
        low, high = confidence_sequence(bars, design(counts), NOTHING, (counts[active], counts[~active]), enough=40)
        assert low is not None
        assert high is not None
        assert low / 25 < 0.7 < high / 25
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_a_good_description_is_supported_at_less_cost(plant: Plant) -> None:
    planted = plant(precision=0.95, recall=0.95, panel=200)
    full = score_simulation(planted.predictor, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=200)
    asked = planted.predicting(planted.predictor.table)
    result = score_sequential(asked, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=200)
    assert result.verdict == "success"
    assert judge(result.scores).verdict is judge(full).verdict is Verdict.SUPPORTED
    assert asked.asked == result.positions <= 0.6 * result.positions_full
    assert result.positions_full == full[0].n_examples
    assert result.e_value >= 40
    assert [s.metric for s in result.scores] == list(DEFAULT_METRICS)


def test_a_score_stopped_early_says_so(plant: Plant) -> None:
    planted = plant(precision=0.95, recall=0.95, panel=200)
    result = score_sequential(planted.predictor, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=100)
    f1: Any = next(s for s in result.scores if s.metric == "f1")
    assert f1.scorer == "sequential"
    assert f1.cost["positions"] == f1.n_examples == result.positions
    assert f1.cost["positions_full"] == result.positions_full > result.positions
    assert f1.e_value == result.e_chance > 1000
    assert f1.p_value == pytest.approx(1 / f1.e_value)
    assert f1.low <= f1.value <= f1.high
    assert [null.name for null in f1.nulls] == ["betting", "pairing"]
    assert {s.p_value for s in result.scores} == {f1.p_value}
    assert Score.from_json(f1.to_json()) == f1


def test_what_was_asked_for_stands_for_the_whole(plant: Plant) -> None:
    values, recalls = [], []
    for seed in range(12):
        planted = plant(seed=seed, contexts=500, panel=200, units=1, prevalence=0.02, precision=0.8, recall=0.8)
        full = score_simulation(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=50)
        early = score_sequential(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=50, seed=seed)
        by_metric = [{s.metric: s.value for s in scores} for scores in (full, early.scores)]
        values.append([scores["f1"] for scores in by_metric])
        recalls.append([scores["recall"] for scores in by_metric])
    for pairs in (np.array(values), np.array(recalls)):
        difference = pairs[:, 1] - pairs[:, 0]
        # Stopping for success favours high values; of 12 runs the mean may be off by chance too.
        assert abs(difference.mean()) < 0.05


def test_false_descriptions_are_never_supported_and_dense_ones_are_refuted_early(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99, prevalence=0.03, panel=200)
    for other in OTHERS[1:9]:
        result = score_sequential(planted.predictor, planted.view, other, "+", 0.75, null_units=OTHERS, resamples=50)
        full = score_simulation(planted.predictor, planted.view, other, "+", 0.75, null_units=OTHERS, resamples=50)
        assert result.verdict != "success"
        assert judge(result.scores).verdict is judge(full).verdict
    dense = plant(prevalence=0.3, precision=0.99, recall=0.99, panel=200, units=3)
    half = dense.predicting(np.where(dense.active, 0.0, 1.5))
    result = score_sequential(half, dense.view, UNIT, "+", 0.75, resamples=50)
    assert result.verdict == "futility"
    assert judge(result.scores).verdict is Verdict.REFUTED
    assert result.positions < 0.6 * result.positions_full
    assert result.e_against >= 40


def test_without_a_clear_answer_it_is_the_ordinary_score(plant: Plant) -> None:
    planted = plant(precision=0.5, recall=0.5, contexts=300, panel=100)
    full = score_simulation(planted.predictor, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=100, seed=3)
    result = score_sequential(
        planted.predictor, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=100, seed=3
    )
    assert result.verdict == "undecided"
    assert result.positions == result.positions_full
    for own, whole in zip(result.scores, full, strict=True):
        assert own.e_value == result.e_chance
        changed: dict[str, Any] = {"scorer": "", "protocol_hash": "", "cost": {}, "e_value": None}
        assert replace(own, **changed) == replace(whole, **changed)


def test_a_description_that_others_share_is_not_stopped_for_success(plant: Plant) -> None:
    planted = plant(precision=0.95, recall=0.95, panel=200)
    values = planted.view.values.copy()
    values[1:] = values[0]
    shared = replace(planted.view, values=values)
    result = score_sequential(planted.predictor, shared, UNIT, "+", 0.75, null_units=OTHERS, resamples=50)
    full = score_simulation(planted.predictor, shared, UNIT, "+", 0.75, null_units=OTHERS, resamples=50)
    assert judge(result.scores).verdict is judge(full).verdict is Verdict.INCONCLUSIVE
    assert result.verdict == "undecided"


def test_a_document_full_of_false_alarms_rules_out_an_early_success(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99, panel=200, contexts=400)
    table = planted.predictor.table.copy()
    # Half of the panel's documents hold a burst of false alarms each, more than any holds activity.
    table[::2, 20:50] = 1.5
    result = score_sequential(planted.predicting(table), planted.view, UNIT, "+", 0.75, resamples=50)
    assert result.verdict != "success"


def test_an_unreadable_answer_counts_as_wrong(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99, panel=200)
    silent = planted.predicting(np.full_like(planted.predictor.table, np.nan))
    result = score_sequential(silent, planted.view, UNIT, "+", 0.75, resamples=50)
    assert result.verdict != "success"
    assert result.scores[0].unparseable == 1
    assert result.scores[0].value == 0


def test_the_same_seed_asks_in_the_same_order(plant: Plant) -> None:
    planted = plant(contexts=300, panel=150, precision=0.9, recall=0.9)

    def run(seed: int) -> Any:
        result = score_sequential(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=50, seed=seed)
        return result.positions, [replace(s, cost={}) for s in result.scores]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_units_that_are_silent_on_the_panel_or_everywhere_are_scored_whole(plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    still = replace(planted.view, values=np.zeros_like(planted.view.values))
    result = score_sequential(planted.predictor, still, UNIT, "+", 0.0, resamples=20)
    assert result.verdict == "undecided"
    assert {s.value for s in result.scores} == {s.e_value for s in result.scores} == {None}


def test_it_is_a_registered_scorer_that_takes_a_rule(plant: Plant) -> None:
    assert SCORERS.get("sequential") is score_early
    planted = plant(precision=0.8, recall=0.8, panel=200)
    scores = score_early(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=50)
    assert judge(scores).verdict is Verdict.SUPPORTED
    strict = VerdictRule(target=0.95, floor=0.9)
    scores = score_early(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=50, rule=strict)
    assert judge(scores, strict).verdict is not Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("change", "message"),
    [({"polarity": "both"}, r"'\+' or '-'"), ({"threshold": -0.2}, "that tail is empty")],
)
def test_what_cannot_be_scored_is_refused(change: dict[str, Any], message: str, plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    given = {"polarity": "+", "threshold": 0.75, **change}
    with pytest.raises(ScorerError, match=message):
        score_sequential(planted.predictor, planted.view, UNIT, **given)
