from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scorers.metrics import METRICS, Metric
from scorers.sanity import MARKED_FALL, PREVALENCES, falls, may_headline


@pytest.mark.parametrize("name", METRICS.names())
def test_only_a_metric_that_notices_bad_labels_may_headline(name: str) -> None:
    metric = METRICS.get(name)
    assert metric.headline == may_headline(metric), {p: falls(metric, p) for p in PREVALENCES}


def test_the_falls_are_those_of_an_ideal_unit() -> None:
    missing, extra = falls(METRICS.get("f1"), 0.01)
    assert missing == pytest.approx(1 / 3, abs=1e-9)
    assert extra == pytest.approx(1 / 3, abs=1e-9)
    missing, extra = falls(METRICS.get("pearson"), 0.01)
    assert missing == pytest.approx(1 - 0.5**0.5, abs=0.01)
    assert extra == pytest.approx(1 - 0.5**0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "test"),
    [("recall", "extra"), ("precision", "missing"), ("auroc", "extra"), ("balanced_accuracy", "extra")],
)
def test_each_diagnostic_fails_the_test_it_is_known_to_fail(name: str, test: str) -> None:
    missing, extra = falls(METRICS.get(name), 0.01)
    assert {"missing": missing, "extra": extra}[test] < MARKED_FALL


def test_a_gullible_metric_may_not_headline() -> None:
    gullible = Metric("gullible", "always pleased", lambda t: 0 * t[0] + 0.9, ())
    assert not may_headline(gullible)


def test_every_metric_that_is_promised_is_there() -> None:
    promised = {
        "f1", "precision", "recall", "iou", "average_precision", "pearson", "cosine", "r2", "auroc",
        "balanced_accuracy",
    }  # fmt: skip
    assert promised <= set(METRICS.names())
    assert {name for name in promised if METRICS.get(name).headline} == {
        "f1", "iou", "average_precision", "pearson", "cosine", "r2",
    }  # fmt: skip
    assert all(METRICS.get(name).source for name in promised)


def test_a_metric_that_does_not_fall_cannot_be_registered_as_a_headline() -> None:
    from scorers.errors import ScorerError
    from scorers.sanity import add_metric

    gullible = Metric("gullible", "always pleased", lambda t: 0 * t[0] + 0.9, (), headline=True)
    with pytest.raises(ScorerError, match="'gullible' hardly falls"):
        add_metric(gullible)
    assert "gullible" not in METRICS.names()


def test_scores_of_diagnostic_metrics_do_not_headline(plant: Callable[..., Any]) -> None:
    from scorers.simulation import score_simulation
    from tools.types import UnitId

    planted = plant(contexts=80, panel=60)
    scores = score_simulation(
        planted.predictor, planted.view, UnitId("mlp:0", 0), "+", 0.75, resamples=20, metrics=METRICS.names()
    )
    for score in scores:
        assert score.headline == may_headline(METRICS.get(score.metric)), score.metric
