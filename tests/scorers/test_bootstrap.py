from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from scorers.bootstrap import TAIL, Resampler, _quantile, intervals
from scorers.metrics import METRICS, Comparison, Totals, evaluate

Compare = Callable[..., Comparison]
HEADLINE = ("f1", "average_precision", "pearson")


def clustered(
    rng: np.random.Generator, documents: int, *, precision: float, recall: float, rate: float = 0.02, length: int = 64
) -> tuple[Comparison, np.ndarray]:
    """Documents that differ in how often the unit is active and in how well it is described."""
    shape = (documents, length)
    active = rng.random(shape) < np.minimum(rate * rng.gamma(1.0, 1.0, documents), 0.5)[:, None]
    hit = active & (rng.random(shape) < rng.beta(8 * recall, 8 * (1 - recall), documents)[:, None])
    false = ~active & (rng.random(shape) < rate * recall * (1 / precision - 1) * rng.gamma(1.0, 1.0, (documents, 1)))
    y = (np.where(active, 1 + 0.3 * rng.random(shape), 0.1 * rng.random(shape))).ravel()
    p = np.where(hit | false, 1.0, 0.0).ravel()
    return Comparison(y, active.ravel(), p, p > 0.5, np.ones(y.size)), np.repeat(np.arange(documents), length)


def ends(names: Iterable[str], comparison: Comparison, documents: Any, **options: Any) -> dict[str, Any]:
    return dict(intervals([METRICS.get(name) for name in names], comparison, documents, **options))


def value(name: str, comparison: Comparison) -> float:
    result, reason = evaluate(METRICS.get(name), comparison)
    assert result is not None, reason
    return result


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    setting: dict[str, Any] = {"precision": 0.75, "recall": 0.7}
    population, _ = clustered(rng, 20_000, **setting)
    truth = {name: value(name, population) for name in HEADLINE}
    runs, covered, tails = 250, dict.fromkeys(HEADLINE, 0), dict.fromkeys(HEADLINE, 0)
    for _ in range(runs):
        sample, documents = clustered(rng, 150, **setting)
        for name, interval in ends(HEADLINE, sample, documents, resamples=200, rng=rng).items():
            assert interval.low is not None
            assert interval.high is not None
            covered[name] += interval.low <= truth[name] <= interval.high
            tails[name] += truth[name] > interval.high
    for name in HEADLINE:
        # 95 % with a standard error of 1.3 % over 250 runs; both tails must have their share.
        assert 0.92 <= covered[name] / runs <= 0.98, (name, covered[name] / runs)
        assert tails[name] / runs <= 0.06


def test_a_rule_without_a_seen_error_does_not_get_a_certain_interval() -> None:
    # Precision 0.97 and few documents that matter: about a third of the samples hold no false alarm at all.
    rng = np.random.default_rng(6)
    setting: dict[str, Any] = {"precision": 0.97, "recall": 0.97, "rate": 0.002}
    population, _ = clustered(rng, 30_000, **setting)
    truth = {name: value(name, population) for name in ("f1", "precision")}
    too_high = dict.fromkeys(truth, 0)
    runs = 120
    for _ in range(runs):
        sample, documents = clustered(rng, 150, **setting)
        for name, interval in ends(truth, sample, documents, resamples=200, rng=rng).items():
            assert interval.low is None or interval.low < 1
            too_high[name] += interval.low is not None and interval.low > truth[name]
    assert max(too_high.values()) / runs <= 0.05


def test_one_heavy_unseen_document_widens_the_interval(compare: Compare) -> None:
    y = np.tile([1.0, 0, 0, 0], 40)
    documents = np.repeat(np.arange(40), 4)
    lows = []
    for heaviest in (1.0, 30.0):
        weights = np.where(documents < 20, 1.0, heaviest)
        active = (y > 0.5) & (documents < 20)
        c = Comparison(y * active, active, y * active, active, weights)
        lows.append(ends(["f1"], c, documents, rng=np.random.default_rng(0))["f1"].low)
    assert lows[0] > 0.75 > 0.4 > lows[1]


def test_no_errors_among_n_gives_the_binomial_end(compare: Compare) -> None:
    # 100 documents of one position each, all active and all found. In a quarter of the resamples there is one more
    # miss, of exponential weight x: 1/4 exp(-x) = 0.025 at x = log(10), so the lower end is 1 - 2.3/100.
    n = 100
    c = compare([1.0] * n + [0.0], [1.0] * n + [0.0])
    interval = ends(["recall"], c, np.arange(n + 1), resamples=4000, rng=np.random.default_rng(0))["recall"]
    assert interval.low == pytest.approx(1 - np.log(10) / n, abs=0.004)
    assert interval.high == 1


def test_resampled_totals_equal_those_of_documents_taken_twice(compare: Compare) -> None:
    from scorers.bootstrap import _Clusters, _with_phantoms

    rng = np.random.default_rng(1)
    y, p = rng.random(60).round(1), rng.random(60).round(1)
    w, document = rng.integers(1, 5, 60).astype(float), rng.integers(0, 6, 60)
    c = compare(y, p, w)
    counts = np.array([2, 0, 1, 3, 0, 1])
    rows = np.concatenate([np.flatnonzero(document == d) for d in range(6) for _ in range(counts[d])])
    explicit = Totals.of(compare(y[rows], p[rows], w[rows]))
    for ranked in (False, True):
        clusters = _Clusters(_with_phantoms(c, document), document, c.centre, ranked=ranked)
        family = [metric for metric in METRICS if metric.ranked is ranked]
        weights = np.concatenate([counts, np.zeros(3)])[None].astype(float)
        assert clusters.values(family, weights)[:, 0] == pytest.approx([float(m.values(explicit)) for m in family])


def test_tokens_of_one_document_are_not_independent_evidence() -> None:
    rng = np.random.default_rng(2)
    sample, documents = clustered(rng, 60, precision=0.7, recall=0.7, rate=0.05)
    # All of a document's agreement is shared: a description right on half the documents only.
    said = sample.active & (documents % 2 == 0)
    flipped = Comparison(sample.activation, sample.active, said.astype(float), said, sample.weights)
    by_document = ends(["f1"], flipped, documents, rng=rng)["f1"]
    by_token = ends(["f1"], flipped, np.arange(len(documents)), rng=rng)["f1"]
    assert by_document.high - by_document.low > 1.4 * (by_token.high - by_token.low)


def test_the_same_seed_gives_the_same_interval_and_the_value_lies_inside(compare: Compare) -> None:
    rng = np.random.default_rng(3)
    sample, documents = clustered(rng, 30, precision=0.6, recall=0.5)
    names = METRICS.names()
    first, second = (ends(names, sample, documents, resamples=200, rng=np.random.default_rng(9)) for _ in range(2))
    assert first == second
    assert list(first) == names
    for name in names:
        assert first[name].low <= value(name, sample) <= first[name].high


@pytest.mark.parametrize("n", [2, 3, 39, 40, 41, 50, 200, 1000, 1001, 2000])
def test_the_ends_are_quantiles_of_the_inverse_distribution(n: int) -> None:
    values = np.random.default_rng(n).random(n).round(2)
    for share in (TAIL, 1 - TAIL):
        assert _quantile(values, share) == np.quantile(values, share, method="inverted_cdf")


def test_metrics_of_one_unit_share_their_resamples(compare: Compare) -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(12), 5)
    c = compare(rng.random(60), rng.random(60).round(1), rng.integers(1, 5, 60))
    drawn = Resampler(lambda: np.random.default_rng(3), 200)
    names = ["f1", "average_precision", "pearson"]
    together = ends(names, c, documents, rng=drawn)
    for name in names:
        for one in (drawn, Resampler(lambda: np.random.default_rng(3), 200)):
            assert ends([name], c, documents, rng=one)[name] == together[name]
        alone = ends([name], c, documents, resamples=200, rng=np.random.default_rng(3))
        assert alone[name] == together[name]


def test_a_single_document_and_an_undefined_metric_have_no_interval(compare: Compare) -> None:
    c = compare([1, 0, 1], [1, 0, 0])
    alone = ends(["f1"], c, np.zeros(3, dtype=int), rng=np.random.default_rng(0))["f1"]
    assert (alone.low, alone.high) == (None, None)
    silent = compare([0, 0, 0], [1, 0, 0])
    none = ends(["f1"], silent, np.arange(3), rng=np.random.default_rng(0))["f1"]
    assert (none.low, none.high) == (None, None)


def test_an_interval_that_rests_on_one_document_spans_everything(compare: Compare) -> None:
    # A third of the resamples miss the only active document and say nothing.
    y = [1.0] + [0.0] * 29
    interval = ends(["f1"], compare(y, y), np.arange(30), rng=np.random.default_rng(0))["f1"]
    assert (interval.low, interval.high) == (0, 1)


def test_as_many_distinct_predictions_as_positions_are_resampled_quickly() -> None:
    rng = np.random.default_rng(4)
    n = 20_000
    y = rng.random(n)
    p = y + rng.random(n)
    c = Comparison(y, y > 0.98, p, p > 1.5, np.ones(n))
    interval = ends(["average_precision"], c, np.arange(n) // 100, resamples=400, rng=rng)["average_precision"]
    assert interval.low < value("average_precision", c) < interval.high
    assert interval.high - interval.low < 0.2
