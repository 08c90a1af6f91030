from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from explainers.llm.accounts import charged_to, current_account
from explainers.llm.kit import LlmKit
from explainers.llm.likeness import Bm25
from explainers.llm.prompts import Prompts
from explainers.llm.types import Call, MemoryAccount, Usage
from explainers.prompted.predictors import predictor_for
from explainers.prompted.simulate import Calibration
from explainers.types import Explanation
from scorers.errors import ScorerError
from scorers.simulation import DEFAULT_METRICS, SCORERS, HeldOut, held_out, score_simulation
from scorers.types import Score
from scorers.verdict import Verdict, judge
from scorers.windowed import agreement, cross_calibrated, score_windows
from scorers.windows import draw_windows
from tools.types import UnitId

UNIT = UnitId("mlp:0", 0)
OTHERS = [UnitId("mlp:0", i) for i in range(40)]
THRESHOLD = 0.75
DIAGNOSTICS = ("ev_correlation", "r2", "r2_calibrated")
Plant = Callable[..., Any]


def by_metric(scores: tuple[Score, ...]) -> dict[str, Any]:
    return {score.metric: score for score in scores}


def score(planted: Any, predictor: Any = None, **options: Any) -> dict[str, Any]:
    given = {"null_units": OTHERS, "resamples": 200, **options}
    return by_metric(score_windows(predictor or planted.predictor, planted.view, UNIT, "+", THRESHOLD, **given))


def test_scores_say_what_simulation_s_say_on_a_hundredth_of_the_positions(plant: Plant) -> None:
    planted = plant(contexts=1000, panel=375)
    whole = by_metric(
        score_simulation(planted.predictor, planted.view, UNIT, "+", THRESHOLD, null_units=OTHERS, resamples=200)
    )
    planted.predictor.asked = 0
    scores = score(planted)
    assert list(scores) == [*DEFAULT_METRICS, *DIAGNOSTICS]
    for name in DEFAULT_METRICS:
        assert scores[name].value == pytest.approx(whole[name].value, abs=0.12)
        assert scores[name].headline == whole[name].headline
        assert scores[name].low <= scores[name].value <= scores[name].high
    f1 = scores["f1"]
    assert f1.scorer == "windows"
    assert [null.name for null in f1.nulls] == ["rotation", "pairing"]
    assert f1.p_value < 0.001
    assert f1.nulls[1].p_value == pytest.approx(1 / 40, abs=0.01)
    assert planted.predictor.asked == f1.cost["positions"] == f1.n_examples
    assert f1.cost["windows"] == 96
    assert f1.cost["positions_full"] == whole["f1"].n_examples
    assert not any(scores[name].headline for name in DIAGNOSTICS)
    for one in scores.values():
        assert Score.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.slow
def test_verdicts_from_windows_are_mostly_those_of_the_whole_sample(plant: Plant) -> None:
    """Over descriptions from perfect to worthless of units from dense to rare; where they differ, windows say less."""
    same = runs = 0
    for prevalence in (0.03, 0.005, 0.0015):
        for precision, recall in ((1, 1), (0.8, 0.8), (0.3, 0.4), (0.1, 0.9), (0.02, 0.02)):
            for seed in range(3):
                planted = plant(
                    seed=seed, contexts=1000, panel=375, prevalence=prevalence, precision=precision, recall=recall
                )
                given = (planted.predictor, planted.view, UNIT, "+", THRESHOLD)
                whole = judge(score_simulation(*given, null_units=OTHERS, resamples=200)).verdict
                part = judge(score_windows(*given, null_units=OTHERS, resamples=200)).verdict
                same += whole is part
                runs += 1
                assert {whole, part} != {Verdict.SUPPORTED, Verdict.REFUTED}
    assert same / runs >= 0.85


def test_descriptions_of_other_units_are_not_supported(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99)
    verdicts, p_values = [], []
    for other in OTHERS[1:21]:
        scores = score_windows(
            planted.predictor, planted.view, other, "+", THRESHOLD, null_units=OTHERS, resamples=100
        )  # fmt: skip
        verdicts.append(judge(scores).verdict)
        p_values.append(by_metric(scores)["f1"].p_value)
    assert Verdict.SUPPORTED not in verdicts
    assert sum(p <= 0.05 for p in p_values) <= 4


def test_answers_that_could_not_be_had_count_as_wrong(plant: Plant) -> None:
    planted = plant(precision=0.99, recall=0.99)
    table = np.where(np.random.default_rng(0).random(planted.active.shape) < 0.05, np.nan, 1.5 * planted.active)
    holed, whole = score(planted, planted.predicting(table)), score(planted)
    assert holed["f1"].unparseable == pytest.approx(0.05, abs=0.02)
    for name in ("f1", "precision", "pearson", "ev_correlation"):
        assert holed[name].value < whole[name].value
    silent = score(planted, planted.predicting(np.full(table.shape, np.nan)))
    assert silent["f1"].value == 0
    assert silent["f1"].unparseable == 1
    assert silent["f1"].p_value > 0.5


def test_correlation_over_top_and_random_windows_is_that_of_their_tokens_pooled(plant: Plant) -> None:
    planted = plant(contexts=1000, panel=375)
    draw = draw_windows(planted.view, held_out(planted.view, UNIT, "+", THRESHOLD), others=OTHERS)
    active = sorted((w for w in draw.windows if w.active), key=lambda w: -w.peak)
    common = [w for w in draw.windows if w.stratum == "common"]
    n = min(len(active), len(common))
    cells = sorted({(w.context, p) for w in [*active[:n], *common[:n]] for p in range(w.start, w.stop)})
    at, position = np.array(cells).T
    truth = np.maximum(planted.view.values[0][at, position], 0)
    said = planted.predictor.table[at, position]
    assert score(planted)["ev_correlation"].value == pytest.approx(np.corrcoef(truth, said)[0, 1], abs=1e-5)


def test_calibration_is_fitted_on_documents_that_it_is_not_applied_to() -> None:
    documents = np.repeat(np.arange(6), 5)
    rng = np.random.default_rng(1)
    raw = rng.random(30) * 3
    values = 0.5 * raw + 1 + 0.1 * rng.normal(size=30)
    weights = rng.random(30) + 0.5
    part = HeldOut(UNIT, "+", 0.5, documents, np.tile(np.arange(1, 6), 6), documents, values, weights)
    raw[7] = np.nan
    found = cross_calibrated(part, raw)
    assert np.isnan(found[7])
    assert np.isnan(found).sum() == 1
    lines = []
    for document in range(6):
        rows = np.flatnonzero((documents == document) & ~np.isnan(raw))
        slope, intercept = np.polyfit(raw[rows], found[rows], 1)
        lines.append((round(float(slope), 6), round(float(intercept), 6)))
    assert len(set(lines)) == 2
    for line in set(lines):
        others = np.isin(documents, [d for d in range(6) if lines[d] != line]) & ~np.isnan(raw)
        # numpy's fit minimises the sum of (w * residual)^2.
        slope, intercept = np.polyfit(raw[others], values[others], 1, w=np.sqrt(weights[others]))
        assert line == pytest.approx((slope, intercept), abs=1e-5)
    one = replace(part, documents=np.zeros(30, dtype=np.int64))
    assert np.array_equal(cross_calibrated(one, raw), raw, equal_nan=True)


def test_calibration_by_hand() -> None:
    line = Calibration.fit(np.array([0.0, 2.0, 4.0, np.nan]), np.array([1.0, 2.0, 3.0, 100.0]))
    assert (line.slope, line.intercept) == (0.5, 1.0)
    weighted = Calibration.fit(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 4.0]), np.array([1.0, 2.0, 1.0]))
    # Means of y at 0 and at 1 are 0 and (2 * 1 + 4) / 3 = 2.
    assert (weighted.slope, weighted.intercept) == pytest.approx((2.0, 0.0))
    assert line(np.array([-4.0, 2.0])).tolist() == [0, 2]
    flat = Calibration.fit(np.full(3, 0.7), np.array([1.0, 2.0, 3.0]))
    assert (flat.slope, flat.intercept) == (0.0, 2.0)
    assert Calibration.fit(np.full(2, np.nan), np.zeros(2)) == Calibration()


def test_calibration_mends_the_size_of_predictions_and_nothing_else(plant: Plant) -> None:
    planted = plant(contexts=1000, panel=375, prevalence=0.03)
    shrunk = score(planted, planted.predicting(0.4 * planted.predictor.table + 0.3))
    plain = score(planted)
    assert shrunk["r2_calibrated"].value > shrunk["r2"].value
    assert shrunk["pearson"].value == pytest.approx(plain["pearson"].value)
    assert shrunk["r2_calibrated"].value == pytest.approx(plain["r2_calibrated"].value, abs=0.02)


def test_agreement_of_words_and_rule_by_hand() -> None:
    index = np.arange(6)
    part = HeldOut(UNIT, "+", 0.5, index, index + 1, index, np.zeros(6), np.array([1.0, 2, 3, 4, 5, 6]))
    words = np.array([1.0, 1, 0, 0, np.nan, 0])
    rule = np.array([1.0, 0, 1, 0, 1, 0])

    class View:
        split = "score"

    view: Any = View()
    found = agreement(part, words, rule, view=view, predictor="marks:m", resamples=50)
    # Both: the first (1). Words: 1 + 2. Rule: 1 + 3 + 5, the last of them without an answer.
    assert found.value == pytest.approx(2 * 1 / (3 + 9))
    assert found.unparseable == pytest.approx(1 / 6)
    assert (found.metric, found.headline) == ("rule_agreement", False)
    silent = agreement(part, words, np.zeros(6), view=view, predictor="marks:m", resamples=50)
    assert silent.value is None
    assert silent.reason == "the rule predicts activity at no sampled position"


def test_a_rule_is_compared_with_the_words_where_it_is_given(plant: Plant) -> None:
    planted = plant(prevalence=0.03)
    assert score(planted, rule=planted.predictor)["rule_agreement"].value == pytest.approx(1)
    other = planted.predicting(np.roll(planted.predictor.table, 5, axis=1))
    assert score(planted, rule=other)["rule_agreement"].value < 0.4


def test_cost_has_the_calls_and_their_tokens(plant: Plant) -> None:
    planted = plant(contexts=200, panel=60)
    account = MemoryAccount()

    class Asking:
        name = "marks:m"
        protocol: ClassVar = {"predictor": "marks", "prompt": "abc"}

        def predict(self, texts: Any, contexts: Any, positions: Any) -> Any:
            call = Call("predict", "m", "h", {}, {}, "done", None, Usage(900, 30), 0.1, None)
            current_account().record(call)
            return planted.predictor.predict(texts, contexts, positions)

    with charged_to(account):
        scores = score(planted, Asking())
    assert len(account.calls) == 1
    assert scores["f1"].cost["calls"] == 1
    assert scores["f1"].cost["tokens"] == 930
    assert "calls" not in score(planted)["f1"].cost
    # How the language model was asked is part of the protocol.
    assert scores["f1"].protocol_hash != score(planted)["f1"].protocol_hash


def test_windows_is_a_registered_scorer(plant: Plant) -> None:
    assert SCORERS.get("windows") is score_windows
    planted = plant(contexts=60, panel=40)
    with pytest.raises(ScorerError, match="no metric 'accuracy'"):
        score(planted, metrics=["accuracy"])
    with pytest.raises(ScorerError, match="that tail is empty"):
        score_windows(planted.predictor, planted.view, UNIT, "+", -1.0)


def test_a_unit_without_activity_has_reasons_and_no_numbers(plant: Plant) -> None:
    planted = plant(contexts=60, panel=40)
    still = replace(planted.view, values=np.zeros_like(planted.view.values))
    for one in score_windows(planted.predictor, still, UNIT, "+", 0.0, null_units=OTHERS, resamples=50):
        assert one.value is None
        assert one.reason


def test_requests_about_common_windows_are_the_same_for_all_units_up_to_the_description(plant: Plant) -> None:
    planted = plant(contexts=200, panel=60, prevalence=0.03)
    asked: list[list[Any]] = []

    class Texts:
        def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
            return [f" {context}.{position}" for position in range(64)][start:stop]

    class View:
        texts = Texts()

        def __getattr__(self, name: str) -> Any:
            return getattr(planted.view, name)

    class Model:
        model = "m"

        def ask_all(self, requests: Any, form: Any) -> Any:
            asked.append([request.messages for request in requests])
            return [form(marks=[]) for _ in requests]

    view: Any = View()
    model: Any = Model()
    kit = LlmKit(model, Prompts(), Bm25())
    for unit, words in ((OTHERS[0], "commas"), (OTHERS[1], "the names of months, in English")):
        told = Explanation("quantiles", words, f"Fires on {words}.", None, None, None, {"scale": 2.0})
        score_windows(
            predictor_for(kit, told), view, unit, "+", THRESHOLD, null_units=OTHERS, resamples=20, kit=kit
        )  # fmt: skip
    one, two = asked
    assert len(one) == len(two) == 6
    shared = total = 0
    for number, (first, second) in enumerate(zip(one, two, strict=True)):
        texts = [user.content.partition("DESCRIPTION")[0] for _, user in (first, second)]
        assert first[0] == second[0]
        assert (texts[0] == texts[1]) == (number < 4)
        assert "months" not in texts[1]
        shared += len(first[0].content) + (len(texts[0]) if number < 3 else 0)
        total += sum(len(message.content) for message in first)
    assert shared / total > 0.7
