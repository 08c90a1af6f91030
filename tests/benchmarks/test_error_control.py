"""The parts of the benchmark of error control, small: what they measure must be what they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.error_control import cost, discoveries
from benchmarks.error_control.__main__ import main
from benchmarks.error_control.coverage import coverage
from benchmarks.error_control.peeking import peeking
from benchmarks.error_control.simulate import THRESHOLD, UNIT, Corpus, SimulatedView, Truth, draw, whole_f1
from scorers.metrics import METRICS, Comparison
from scorers.permutation import rotation_null
from scorers.verdict import Verdict


def test_drawn_documents_are_as_they_were_ordered() -> None:
    rng = np.random.default_rng(0)
    for truth in (Truth(0.01, 0.7, 0.6), Truth(0.1, 0.9, 0.8), Truth(0.003, 1, 1)):
        drawn = draw(rng, truth, Corpus(documents=8000))
        assert drawn.active.mean() == pytest.approx(truth.prevalence, rel=0.15)
        assert whole_f1(drawn) == pytest.approx(truth.f1, abs=0.05)


def test_a_simulated_sample_stands_for_its_split() -> None:
    rng = np.random.default_rng(1)
    corpus = Corpus(documents=300, panel=60)
    drawn = draw(rng, Truth(0.02, 1, 1), corpus)
    sample = SimulatedView(drawn, corpus, rng).sample(UNIT)
    # Blocks begin at position 0, which does not count; so the weights add up to the split but for a hair.
    assert sample.weights.sum() == pytest.approx(300 * 255, rel=0.01)
    assert (sample.weights == 1).sum() == pytest.approx(24 * 32, abs=24)
    active = sample.values > THRESHOLD
    assert np.average(active, weights=sample.weights) == pytest.approx(drawn.active.mean(), rel=0.4)


def test_the_fast_rotation_p_values_are_those_of_the_scorers() -> None:
    rng = np.random.default_rng(2)
    corpus = Corpus(documents=8)
    units = [draw(rng, Truth(p, 0.7, 0.7), corpus) for p in (0.01, 0.05, 0.2)]
    fast = discoveries.rotation_p_values([u.active.ravel() for u in units], [u.predicted.ravel() for u in units])
    for i, unit in enumerate(units):
        for j, other in enumerate(units):
            y, said = unit.values.ravel(), other.predicted.ravel()
            c = Comparison(y, y > THRESHOLD, said.astype(float), said, np.ones(len(y)))
            null = rotation_null([METRICS.get("f1")], c, shortest=discoveries.SHORTEST)["f1"]
            assert fast[i, j] == pytest.approx(null.p_value)


def test_realised_rates_are_counted_right() -> None:
    # False claims of p = 0.001 beside true ones of 0.0001, two of each ten: half of what naive p-values find is false.
    false, true = np.array([0.001, 0.9, 0.9, 0.9, 0.9]), np.array([1e-4])
    banks = [discoveries.Bank({"p": false}, {"p": true}) for _ in range(discoveries.PARTS)]
    rows = discoveries.realised(banks, ("naive", "bh"), 40, np.random.default_rng(3))
    by_key = {(row["method"], row["true_share"], row["level"]): row for row in rows}
    assert by_key["naive", 0.4, 0.05]["fdr"] == pytest.approx(0.2 * 120 / (80 + 0.2 * 120), abs=0.03)
    assert by_key["naive", 0.4, 0.05]["power"] == 1
    assert by_key["naive", 0.0, 0.05]["fdr"] == 1
    assert not by_key["naive", 0.0, 0.05]["holds"]
    assert by_key["naive", 0.0, 0.05]["power"] is None


def test_error_control_holds_on_small_banks() -> None:
    rng = np.random.default_rng(4)
    banks = discoveries.rotation_banks(rng, 24)
    rows = discoveries.realised(banks, ("naive", "bh"), 100, rng)
    for row in rows:
        if row["method"] == "bh" and row["true_share"] >= 0.1:
            # Small banks: twice the error that the benchmark allows.
            assert row["fdr"] <= row["level"] + 2 * row["two_se"]
            assert row["power"] >= 0.8
    naive = next(r for r in rows if (r["method"], r["true_share"], r["level"]) == ("naive", 0.02, 0.05))
    assert naive["fdr"] > 0.5


def test_coverage_has_a_row_for_each_cell() -> None:
    rows = coverage(np.random.default_rng(5), 4, documents=150, resamples=60, population=4000)
    assert len(rows) == 25
    assert np.mean([row["covered"] for row in rows]) > 0.8
    for row in rows:
        assert row["covered"] + row["too_high"] + row["too_low"] == pytest.approx(1)


def test_looking_twenty_times_misleads_p_values_only() -> None:
    rows = peeking(np.random.default_rng(6), 40, population=8000)
    often = {(row["null"], row["test"]): row["false_alarms"] for row in rows if row["looks"] == 20}
    once = {(row["null"], row["test"]): row["false_alarms"] for row in rows if row["looks"] == 1}
    assert np.mean([v for (_, test), v in often.items() if test == "p-value"]) > 0.08
    assert max(v for (_, test), v in often.items() if test == "e-process") <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)
    assert all(often[key] >= once[key] for key in once)


def test_sequential_and_whole_scores_of_simulated_claims_agree() -> None:
    rng = np.random.default_rng(7)
    given = [c for c in cost.claims(rng, 1, documents=300) if c.kind in ("right", "nearly right", "false")]
    rows = cost.compare(given, resamples=100)
    table = {row["kind"]: row for row in cost.summary(rows)}
    assert table["all"]["agree"] >= 0.9
    assert table["right"]["median_share"] < 0.5
    assert table["right"]["supported_sequential"] == table["right"]["supported_fixed"] == 1
    assert table["false"]["supported_sequential"] == 0
    assert {row["fixed"] for row in rows} <= {str(v) for v in Verdict}


@pytest.mark.slow
def test_the_whole_benchmark_runs_and_says_what_does_not_hold(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    from pathlib import Path

    file = Path(str(tmp_path)) / "figures.json"
    status = main(["--campaigns", "100", "--runs", "20", "--looks", "100", "--claims", "3", "--json", str(file)])
    shown = capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert set(figures) == {"seed", "discoveries", "coverage", "peeking", "cost", "faults"}
    assert (status == 0) == (figures["faults"] == [])
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.slow
def test_sequential_scores_of_planted_units_agree_at_less_cost(tmp_path: object) -> None:
    from pathlib import Path

    from benchmarks.error_control.planted import planted_claims

    rows = cost.compare(planted_claims("planted", Path(str(tmp_path)), per_family=1), resamples=100)
    table = {row["kind"]: row for row in cost.summary(rows)}
    assert table["all"]["agree"] >= 0.97
    assert table["all"]["median_share"] <= 0.5
    assert table["the truth"]["supported_sequential"] >= 0.9
    assert table["random"]["supported_sequential"] <= 0.05
    for row in table.values():  # of some thirty claims each, one may differ
        assert abs(row["supported_sequential"] - row["supported_fixed"]) * row["claims"] < max(
            1.5, 0.03 * row["claims"]
        )
