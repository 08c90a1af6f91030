from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorers.errors import ScorerError
from scorers.metrics import METRICS, Comparison, Totals, coarsen, evaluate

Compare = Callable[..., Comparison]


def value(name: str, comparison: Comparison) -> float:
    result, reason = evaluate(METRICS.get(name), comparison)
    assert result is not None, reason
    return result


def reference(name: str, c: Comparison) -> float | None:
    """The definitions, position by position, with nothing shared with the code under test."""
    rows = list(zip(c.activation, c.active, c.prediction, c.predicted, c.weights, strict=True))
    tp = sum(w for _, a, _, p, w in rows if a and p)
    fp = sum(w for _, a, _, p, w in rows if not a and p)
    fn = sum(w for _, a, _, p, w in rows if a and not p)
    tn = sum(w for _, a, _, p, w in rows if not a and not p)
    total = tp + fp + fn + tn
    mean_y = sum(w * y for y, _, _, _, w in rows) / total
    mean_p = sum(w * p for _, _, p, _, w in rows) / total
    ss_y = sum(w * (y - mean_y) ** 2 for y, _, _, _, w in rows)
    ss_p = sum(w * (p - mean_p) ** 2 for _, _, p, _, w in rows)
    yy, pp = sum(w * y * y for y, _, _, _, w in rows), sum(w * p * p for _, _, p, _, w in rows)
    if name == "f1":
        return 2 * tp / (2 * tp + fp + fn) if tp + fn else None
    if name == "iou":
        return tp / (tp + fp + fn) if tp + fn else None
    if name == "precision":
        return tp / (tp + fp) if tp + fn and tp + fp else None
    if name == "recall":
        return tp / (tp + fn) if tp + fn else None
    if name == "balanced_accuracy":
        return (tp / (tp + fn) + tn / (tn + fp)) / 2 if tp + fn and tn + fp else None
    if name == "pearson":
        cov = sum(w * (y - mean_y) * (p - mean_p) for y, _, p, _, w in rows)
        return cov / (ss_y * ss_p) ** 0.5 if ss_y > 1e-9 and ss_p > 1e-9 else None
    if name == "cosine":
        return sum(w * y * p for y, _, p, _, w in rows) / (yy * pp) ** 0.5 if yy and pp else None
    if name == "r2":
        return 1 - sum(w * (y - p) ** 2 for y, _, p, _, w in rows) / ss_y if ss_y > 1e-9 else None
    if name == "auroc":
        pairs = [
            (wi * wj, 1.0 if pi > pj else 0.5 if pi == pj else 0.0)
            for _, ai, pi, _, wi in rows
            for _, aj, pj, _, wj in rows
            if ai and not aj
        ]
        return sum(w * won for w, won in pairs) / sum(w for w, _ in pairs) if pairs else None
    assert name == "average_precision"
    if not tp + fn:
        return None
    result, before = 0.0, 0.0
    for level in sorted({p for _, _, p, _, _ in rows}, reverse=True):
        found = sum(w for _, a, p, _, w in rows if a and p >= level)
        seen = sum(w for _, _, p, _, w in rows if p >= level)
        result += (found - before) / (tp + fn) * found / seen
        before = found
    return result


def test_values_worked_out_by_hand(compare: Compare) -> None:
    # Weights 1..5; active: 1st, 2nd, 5th (weight 8); predicted: 1st, 3rd (weight 4); both: 1st (weight 1).
    c = compare([2, 1, 0, 0, 1], [1, 0, 1, 0.2, 0], [1, 2, 3, 4, 5])
    assert value("precision", c) == pytest.approx(1 / 4)
    assert value("recall", c) == pytest.approx(1 / 8)
    assert value("f1", c) == pytest.approx(2 / 12)
    assert value("iou", c) == pytest.approx(1 / 11)
    assert value("balanced_accuracy", c) == pytest.approx((1 / 8 + 4 / 7) / 2)
    # Levels: 1 (positive 1, negative 3), 0.2 (0, 4), 0 (7, 0).
    assert value("average_precision", c) == pytest.approx(1 / 8 * 1 / 4 + 7 / 8 * 8 / 15)
    assert value("auroc", c) == pytest.approx((1 * (4 + 1.5)) / (8 * 7))
    assert value("cosine", c) == pytest.approx(2 / np.sqrt(11 * 4.16))


POSITION = st.tuples(
    st.sampled_from([-1.0, 0.0, 0.3, 0.8, 1.0, 2.5]), st.sampled_from([0.0, 0.2, 0.7, 1.0, 3.0]), st.integers(1, 4)
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(POSITION, min_size=2, max_size=12))
@pytest.mark.parametrize("name", METRICS.names())
def test_equals_its_definition_and_weights_count_as_repetitions(
    name: str, rows: list[tuple[float, float, int]], compare: Compare
) -> None:
    y, p, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    weighted, reason = evaluate(METRICS.get(name), compare(y, p, w))
    expected = reference(name, compare(y, p, w))
    if expected is None:
        assert weighted is None
        assert reason
        return
    assert weighted == pytest.approx(expected, abs=1e-9)
    repeated = w.astype(int)
    assert value(name, compare(np.repeat(y, repeated), np.repeat(p, repeated))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_large_offset_or_scale_of_activations_costs_no_precision(name: str, compare: Compare) -> None:
    rng = np.random.default_rng(0)
    y = 1e4 + rng.random(400)
    p = y + 0.3 * rng.normal(size=400)
    c = compare(y, p, rng.integers(1, 30, 400), threshold=1e4 + 0.5)
    assert value(name, c) == pytest.approx(reference(name, c), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "activation", "prediction", "why"),
    [
        ("f1", [0, 0.1, 0.2], [1, 0, 0], "active at no sampled position"),
        ("average_precision", [0, 0.1, 0.2], [1, 0, 0], "active at no sampled position"),
        ("precision", [1, 0, 0], [0, 0, 0], "predicts activity at no"),
        ("pearson", [2, 2, 2], [1, 0, 0], "activation does not vary"),
        ("pearson", [1, 0, 0], [0.7, 0.7, 0.7], "prediction does not vary"),
        ("r2", [0, 0, 0], [0, 0, 1], "activation does not vary"),
        ("cosine", [1, 0, 1], [0, 0, 0], "prediction is zero"),
        ("auroc", [1, 1, 2], [1, 0, 0], "active at every"),
        ("balanced_accuracy", [1, 1, 2], [1, 0, 0], "active at every"),
    ],
)
def test_an_undefined_metric_is_none_with_a_reason(
    name: str, activation: Any, prediction: Any, why: str, compare: Compare
) -> None:
    result, reason = evaluate(METRICS.get(name), compare(activation, prediction))
    assert result is None
    assert reason is not None
    assert why in reason


def test_a_constant_prediction_has_chance_ranking_and_no_hits(compare: Compare) -> None:
    c = compare([1, 0, 0, 0], [0, 0, 0, 0])
    assert value("auroc", c) == 0.5
    assert value("average_precision", c) == pytest.approx(0.25)
    assert value("f1", c) == 0


def test_sign_is_kept_so_a_description_of_the_other_tail_fails(compare: Compare) -> None:
    c = compare([-2, -3, 1, 0, 0, 0], [2, 3, 0, 0, 0, 0])
    assert value("f1", c) == 0
    assert value("pearson", c) < 0


def test_many_comparisons_at_once_give_each_its_own_value(compare: Compare) -> None:
    one, two = compare([1, 0, 2, 0], [1, 1, 0, 0]), compare([0, 1, 2, 0], [1, 0, 1, 0])
    centre = (0.0, 0.0)
    both = Totals(
        np.stack([c.columns(centre).sum(axis=0) for c in (one, two)]),
        np.stack([Totals.of(c).positives for c in (one, two)]),
        np.stack([Totals.of(c).negatives for c in (one, two)]),
        centre,
    )
    for metric in METRICS:
        assert metric.values(both) == pytest.approx([value(metric.name, one), value(metric.name, two)])


def test_misshapen_or_infinite_input_is_refused(compare: Compare) -> None:
    with pytest.raises(ScorerError, match="parallel"):
        compare([1, 0], [1, 0, 1])
    with pytest.raises(ScorerError, match="non-empty"):
        compare([], [])
    with pytest.raises(ScorerError, match="finite"):
        compare([1, 0], [np.nan, 0])
    with pytest.raises(ScorerError, match="positive"):
        compare([1, 0], [1, 0], [1, 0])


def test_an_unknown_metric_is_named_with_those_there_are() -> None:
    with pytest.raises(ScorerError, match=r"no metric 'accuracy'.*f1"):
        METRICS.get("accuracy")


def test_coarsening_leaves_few_values_and_keeps_their_order() -> None:
    rng = np.random.default_rng(0)
    fine = rng.random(5000)
    coarse = coarsen(fine, 64)
    assert len(np.unique(coarse)) <= 64
    order = np.argsort(-fine)
    assert (np.diff(coarse[order]) <= 0).all()
    # Finest at the top, where rare activity is ranked.
    assert len(np.unique(coarse[order][:50])) > 20
    few = np.round(fine, 1)
    assert (coarsen(few, 64) == few).all()
