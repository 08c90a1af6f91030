"""Weights, quantiles and histograms against figures worked out by hand, and for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.index.manifest import compress, expand_ranges
from tools.index.weighting import HISTOGRAM_BINS, QUANTILES, weigh_panel, weighted_histogram, weighted_quantiles

FLOATS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


def test_weight_of_the_panel_by_hand() -> None:
    # 100 tokens; 20 in strongest blocks, 4 of them in the panel of 14: the other 10 stand for 80.
    assert weigh_panel(100, 20, np.array([True] * 4 + [False] * 10)) == (8.0, False)
    # The panel is the population.
    assert weigh_panel(14, 4, np.array([True] * 4 + [False] * 10)) == (1.0, False)
    assert weigh_panel(4, 4, np.array([True] * 4)) == (1.0, False)
    # Strongest blocks cover the panel of 4 but not the population of 24: the panel stands for 24 - (12 - 4).
    assert weigh_panel(24, 12, np.array([True] * 4)) == (4.0, True)


def test_quantiles_by_hand() -> None:
    values, weights = np.array([3.0, 1.0, 2.0], dtype=np.float32), np.array([1.0, 90.0, 9.0])
    found = weighted_quantiles(values, weights)
    assert (found["0.0005"], found["0.5"], found["0.95"], found["0.99"], found["0.999"]) == (1.0, 1.0, 2.0, 2.0, 3.0)


@given(FLOATS)
def test_quantiles_with_equal_weights_are_the_ordinary_ones(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float32)
    found = list(weighted_quantiles(values, np.ones(len(values))).values())
    assert found == sorted(found)
    assert found == np.quantile(values, list(QUANTILES.values()), method="inverted_cdf").tolist()


@given(FLOATS, st.integers(1, 10**6), st.randoms(use_true_random=False))
def test_histogram_counts_add_up(numbers: list[float], tokens: int, draw: np.random.Generator) -> None:
    values = np.array(numbers, dtype=np.float32)
    weights = np.array([draw.random() + 0.01 for _ in numbers])
    edges, counts = weighted_histogram(values, weights, float(values.min()), float(values.max()), tokens)
    assert len(counts) == len(edges) - 1 == HISTOGRAM_BINS
    assert sum(counts) == tokens
    assert min(counts) >= 0
    assert edges[0] <= values.min() <= values.max() <= edges[-1]


def test_histogram_by_hand() -> None:
    values = np.array([0.0, 0.5, 59.9, 60.0], dtype=np.float32)
    edges, counts = weighted_histogram(values, np.array([10.0, 10.0, 1.0, 1.0]), 0.0, 60.0, 44)
    assert edges[:3] == pytest.approx((0.0, 1.0, 2.0))
    assert (counts[0], counts[-1]) == (40, 4)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_ranges_round_trip(indices: set[int]) -> None:
    assert expand_ranges(compress(sorted(indices))) == sorted(indices)


def test_ranges_by_hand() -> None:
    assert compress([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
