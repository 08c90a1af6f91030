from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorers.errors import ScorerError
from scorers.sequential import score_early
from scorers.simulation import DEFAULT_METRICS, SCORERS, score_simulation, wrong_answers
from scorers.types import Score, protocol_hash
from scorers.verdict import Verdict, judge
from tools.types import UnitId

UNIT = UnitId("mlp:0", 0)
OTHERS = [UnitId("mlp:0", i) for i in range(40)]
Plant = Callable[..., Any]


def by_metric(scores: tuple[Score, ...]) -> dict[str, Any]:
    return {score.metric: score for score in scores}


@pytest.fixture(scope="module")
def good(plant: Plant) -> tuple[Any, dict[str, Score]]:
    planted = plant()
    scores = score_simulation(planted.predictor, planted.view, UNIT, "+", 0.75, null_units=OTHERS, resamples=400)
    return planted, by_metric(scores)


def test_a_good_description_scores_what_it_was_made_to(good: tuple[Any, dict[str, Score]]) -> None:
    planted, scores = good
    truth, said = planted.active[:, 1:], planted.predictor.table[:, 1:] > 0.75
    both = (truth & said).sum()
    for name, value in {
        "precision": both / said.sum(), "recall": both / truth.sum(), "f1": 2 * both / (said.sum() + truth.sum()),
    }.items():  # fmt: skip
        assert scores[name].low <= value <= scores[name].high
        assert scores[name].value == pytest.approx(value, abs=0.1)
    assert list(scores) == list(DEFAULT_METRICS)
    assert {name for name, score in scores.items() if score.headline} == {"f1", "average_precision", "pearson"}
    assert judge(list(scores.values())).verdict is Verdict.SUPPORTED


def test_a_score_says_how_it_came_about(good: tuple[Any, dict[str, Score]]) -> None:
    planted, scores = good
    f1 = scores["f1"]
    sample = planted.view.sample(UNIT)
    assert (f1.n_examples, f1.n_documents) == (len(sample), len(np.unique(sample.documents)))
    assert f1.n_active == int((sample.values > 0.75).sum())
    assert planted.predictor.asked == f1.cost["positions"] == len(sample)
    assert (f1.split, f1.predictor, f1.unparseable, f1.q_value, f1.e_value) == ("score", "table", 0, None, None)
    assert [null.name for null in f1.nulls] == ["rotation", "pairing"]
    assert f1.p_value == f1.nulls[0].p_value < 0.001
    assert f1.null_mean == f1.nulls[0].mean < 0.1
    # The unit itself is no other unit.
    assert f1.nulls[1].draws == len(OTHERS) - 1
    assert f1.nulls[1].p_value == pytest.approx(1 / 40)


def test_scores_survive_json(good: tuple[Any, dict[str, Score]]) -> None:
    for score in good[1].values():
        assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score


def test_the_same_seed_gives_the_same_scores(plant: Plant) -> None:
    planted = plant(contexts=120, panel=60)

    def run(seed: int) -> list[Score]:
        scores = score_simulation(planted.predictor, planted.view, UNIT, "+", 0.75, resamples=100, seed=seed)
        return [replace(score, cost={}) for score in scores]

    assert run(1) == run(1)
    assert [s.value for s in run(1)] == [s.value for s in run(2)]
    assert [s.low for s in run(1)] != [s.low for s in run(2)]


def test_descriptions_of_other_units_are_not_supported(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99)
    verdicts, p_values = [], []
    for other in OTHERS[1:21]:
        scores = score_simulation(planted.predictor, planted.view, other, "+", 0.75, null_units=OTHERS, resamples=200)
        verdicts.append(judge(scores).verdict)
        p_values.append(by_metric(scores)["f1"].p_value)
    assert Verdict.SUPPORTED not in verdicts
    assert sum(p <= 0.05 for p in p_values) <= 4


def test_the_interval_covers_the_whole_split_s_value(plant: Plant) -> None:
    covered = 0
    for seed in range(60):
        planted = plant(seed=seed, contexts=300, panel=100, units=1, prevalence=0.02)
        truth, said = planted.active[:, 1:], planted.predictor.table[:, 1:] > 0.75
        value = 2 * (truth & said).sum() / (truth.sum() + said.sum())
        f1: Any = score_simulation(
            planted.predictor, planted.view, UNIT, "+", 0.75, resamples=200, metrics=["f1"]
        )[0]  # fmt: skip
        covered += f1.low <= value <= f1.high
    assert covered >= 55


def test_strong_examples_do_not_hide_a_description_that_is_far_too_narrow(plant: Plant) -> None:
    planted = plant(contexts=800, panel=200, prevalence=0.02)
    values = planted.view.values[0]
    narrow = planted.predicting(1.5 * (values > np.sort(values.ravel())[-40]))
    scores = by_metric(score_simulation(narrow, planted.view, UNIT, "+", 0.75, resamples=200))
    # On the strongest blocks alone recall is about one half; over the split it is 40 of about a thousand.
    assert scores["recall"].value < 0.1
    assert scores["f1"].high < 0.3
    assert judge(list(scores.values())).verdict is Verdict.REFUTED


def test_the_negative_tail_is_scored_by_its_own_description(plant: Plant) -> None:
    planted = plant()
    flipped = replace(planted.view, values=-planted.view.values)
    minus = by_metric(score_simulation(planted.predictor, flipped, UNIT, "-", 0.75, resamples=50, null_units=OTHERS))
    plus = by_metric(score_simulation(planted.predictor, flipped, UNIT, "+", 0.75, resamples=50))
    assert minus["f1"].value > 0.6
    assert minus["f1"].nulls[1].p_value < 0.05
    assert plus["f1"].value is None
    assert "active at no sampled position" in plus["f1"].reason
    assert judge(list(plus.values())).verdict is Verdict.UNTESTED


def test_a_constant_unit_has_reasons_and_no_numbers(plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    still = replace(planted.view, values=np.zeros_like(planted.view.values))
    for score in score_simulation(planted.predictor, still, UNIT, "+", 0.0, null_units=OTHERS, resamples=50):
        assert score.reason
        assert (score.value, score.low, score.high, score.p_value, score.nulls) == (None, None, None, None, ())


def test_an_answer_that_cannot_be_parsed_counts_as_wrong(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99)
    table = 1.5 * planted.active
    rng = np.random.default_rng(0)
    broken = np.where(rng.random(table.shape) < 0.02, np.nan, table)
    whole = by_metric(score_simulation(planted.predicting(table), planted.view, UNIT, "+", 0.75, resamples=50))
    holed = by_metric(score_simulation(planted.predicting(broken), planted.view, UNIT, "+", 0.75, resamples=50))
    assert whole["f1"].value == 1
    assert holed["f1"].unparseable == pytest.approx(0.02, abs=0.005)
    for name in DEFAULT_METRICS:
        assert holed[name].value < whole[name].value
    answers = wrong_answers(np.array([np.nan, np.nan, 2.0]), np.array([True, False, False]), 0.5)
    assert answers.tolist() == [0, 2, 2]
    none_parsed = wrong_answers(np.full(2, np.nan), np.array([True, False]), 0.0)
    assert none_parsed[0] == 0 < none_parsed[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polarity": "both"}, r"'\+' or '-'"),
        ({"threshold": -0.2}, "that tail is empty"),
        ({"metrics": ["accuracy"]}, "no metric 'accuracy'"),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict[str, Any], message: str, plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    given = {"polarity": "+", "threshold": 0.75, **change}
    with pytest.raises(ScorerError, match=message):
        score_simulation(planted.predictor, planted.view, UNIT, **given)


def test_a_predictor_that_answers_nonsense_is_named(plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    infinite = planted.predicting(np.full_like(planted.predictor.table, np.inf))
    with pytest.raises(ScorerError, match="'table' predicted an infinite"):
        score_simulation(infinite, planted.view, UNIT, "+", 0.75)
    flat = planted.predicting(np.zeros((*planted.predictor.table.shape, 2)))
    with pytest.raises(ScorerError, match="'table' gave predictions of shape"):
        score_simulation(flat, planted.view, UNIT, "+", 0.75)


def test_a_protocol_is_its_scorer_version_settings_and_metric(good: tuple[Any, dict[str, Score]]) -> None:
    base = protocol_hash("simulation", 1, {"resamples": 10}, "f1")
    assert base == protocol_hash("simulation", 1, {"resamples": 10}, "f1")
    others = [
        ("simulation", 2, 10, "f1"),
        ("edges", 1, 10, "f1"),
        ("simulation", 1, 11, "f1"),
        ("simulation", 1, 10, "iou"),
    ]
    assert len({base, *(protocol_hash(s, v, {"resamples": r}, metric) for s, v, r, metric in others)}) == 5
    assert len({score.protocol_hash for score in good[1].values()}) == len(DEFAULT_METRICS)


def test_simulation_is_a_registered_scorer() -> None:
    assert SCORERS.get("simulation") is score_simulation
    with pytest.raises(ScorerError, match=r"no scorer 'guess'\. Known: simulation"):
        SCORERS.get("guess")
    with pytest.raises(ValueError, match="registered already"):
        SCORERS.add("simulation", score_simulation)


def test_scores_a_real_index_through_its_seal(tiny_gpt2_folder: Any, tiny_corpus_file: Any, tmp_path: Any) -> None:
    from tools.corpora import load_corpus
    from tools.index import IndexSettings, Opening, build_index
    from tools.subject import load_subject
    from tools.types import Split

    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    units = [UnitId("mlp:1", i) for i in range(24)]
    index = build_index(subject, load_corpus(str(tiny_corpus_file)), units, tmp_path, IndexSettings(context=32))
    openings: list[Opening] = []
    view = index.keeper(openings.append).open(Split.SCORE, claim="mlp:1:0 v1", polarity="+", by="simulation")
    unit, threshold = units[0], view.statistics(units[0]).threshold("+")

    class Oracle:
        name = "oracle"

        def predict(self, texts: Any, contexts: Any, positions: Any) -> Any:
            sample = view.sample(unit)
            known = {(c, p): v for c, p, v in zip(sample.contexts, sample.positions, sample.values, strict=True)}
            return np.array([max(known[c, p], 0) for c, p in zip(contexts, positions, strict=True)])

    scores = by_metric(score_simulation(Oracle(), view, unit, "+", threshold, null_units=units, resamples=100))
    for name in DEFAULT_METRICS:
        assert scores[name].value == pytest.approx(1, abs=1e-6)
        assert scores[name].nulls[0].name == "rotation"
    assert scores["f1"].nulls[1].draws > 10
    early = by_metric(score_early(Oracle(), view, unit, "+", threshold, null_units=units, resamples=100))
    assert early["f1"].value == pytest.approx(1, abs=1e-6)
    assert judge(list(early.values())).verdict is judge(list(scores.values())).verdict
    assert early["f1"].cost["positions"] <= scores["f1"].n_examples
