"""Dead, dense and duplicate units, and which tails are described, on activations whose nature is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from agent.triage import density, duplicates, polarities, threshold, triage
from tools.types import FloatArray, Sample, UnitId, UnitStatistics

KEYS = ("0.0005", "0.001", "0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99", "0.999", "0.9995")
UNIT = UnitId("mlp:0", 7)


def statistics(values: FloatArray, unit: UnitId = UNIT) -> UnitStatistics:
    quantiles = {key: float(np.quantile(values, float(key), method="inverted_cdf")) for key in KEYS}
    return UnitStatistics(
        unit=unit, tokens=len(values), mean=float(values.mean()), variance=float(values.var()),
        minimum=float(values.min()), maximum=float(values.max()), nonzero=float((values != 0).mean()),
        quantiles=quantiles, histogram_edges=(0.0, 1.0), histogram_counts=(len(values),),
    )  # fmt: skip


def sample(values: FloatArray) -> Sample:
    n = len(values)
    zeros = np.zeros(n, dtype=np.int64)
    return Sample(zeros, np.arange(1, n + 1), values.astype(np.float32), np.ones(n, dtype=np.float32), zeros)


def decide(values: FloatArray, unit: UnitId = UNIT, copy: UnitId | None = None, wanted: str = "both"):  # type: ignore[no-untyped-def]
    return triage(statistics(values, unit), sample(values), copy, wanted)


RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(20_000).astype(np.float32)
SPARSE = np.where(RNG.random(20_000) < 0.01, 3 + RNG.random(20_000), 0).astype(np.float32)


def test_unit_that_is_never_active_is_dead() -> None:
    found = decide(np.zeros(48_000, dtype=np.float32))
    assert (found.state, found.reason, found.tails) == ("dead", "never active on 48,000 tokens", ())


def test_sparse_unit_is_alive_on_its_one_tail() -> None:
    found = decide(SPARSE)
    assert (found.state, found.reason) == ("alive", None)
    (tail,) = found.tails
    assert tail.polarity == "+"
    assert tail.density == pytest.approx((tail.threshold < SPARSE).mean())


def test_unit_on_most_of_the_time_is_dense() -> None:
    on = np.where(RNG.random(20_000) < 0.6, 1 + 0.1 * NOISE, 0).astype(np.float32)
    found = decide(on)
    assert found.state == "dense"
    assert found.reason == f"active on {(on > 0).mean():.0%} of tokens"


def test_head_is_never_dense() -> None:
    assert decide((1 + 0.1 * np.abs(NOISE)).astype(np.float32), UnitId("head:0", 1)).reason is None


def test_symmetric_unit_has_two_tails_and_a_dip_is_no_tail() -> None:
    assert polarities(statistics(NOISE), "both") == ["+", "-"]
    dip = np.where(SPARSE > 0, SPARSE, -0.17 * np.abs(NOISE) / 5).astype(np.float32)
    assert polarities(statistics(dip), "both") == ["+"]
    assert polarities(statistics(dip), "-") == ["-"]
    assert polarities(statistics(-SPARSE), "both") == ["-"]
    assert decide(SPARSE, wanted="-").reason == "has no tail of polarity -"


def test_rare_unit_is_not_taken_for_an_empty_one() -> None:
    rare = np.zeros(20_000, dtype=np.float32)
    rare[[5, 900, 12_000]] = [2.0, 3.0, 4.0]
    assert threshold(statistics(rare), "+") == 2.0
    assert threshold(statistics(rare), "-") == 0.0
    assert decide(rare).state == "alive"


def test_density_is_that_of_the_corpus_not_of_the_sample() -> None:
    values = np.array([0, 0, 5, 5], dtype=np.float32)
    zeros = np.zeros(4, dtype=np.int64)
    weighted = Sample(zeros, np.arange(4), values, np.array([49, 49, 1, 1], dtype=np.float32), zeros)
    assert density(weighted, 1.0, "+") == pytest.approx(0.02)
    assert density(weighted, 1.0, "-") == 0.0


def test_duplicates_are_found_and_point_to_the_lowest() -> None:
    table = RNG.standard_normal((40, 5_000)).astype(np.float32)
    table[9] = 2 * table[3] + 0.02 * table[11]
    table[30] = table[3] + 1
    table[20] = -table[5]  # the opposite is no copy
    table[25] = 0.9 * table[7] + 0.5 * table[8]  # correlation 0.87
    units = [UnitId("mlp:2", i) for i in range(40)]

    def rows(wanted: Sequence[UnitId]) -> FloatArray:
        return table[[unit.index for unit in wanted]]

    found = duplicates(units, rows, seed=1)
    assert found == {units[9]: units[3], units[30]: units[3]}
    assert duplicates(list(reversed(units)), rows, seed=2) == found


def test_units_seen_active_only_once_are_no_copies() -> None:
    table = np.zeros((3, 5_000), dtype=np.float32)
    table[:2, 17] = 4.0
    table[2] = RNG.standard_normal(5_000)
    units = [UnitId("sae:x", i) for i in range(3)]
    assert not duplicates(units, lambda wanted: table[[unit.index for unit in wanted]], seed=0)


def test_heads_are_no_copies_by_their_norms() -> None:
    table = np.tile(RNG.random(5_000).astype(np.float32), (2, 1))
    units = [UnitId("head:0", i) for i in range(2)]
    assert not duplicates(units, lambda wanted: table[[unit.index for unit in wanted]], seed=0)


def test_copy_is_not_investigated() -> None:
    found = decide(SPARSE, copy=UnitId("mlp:0", 2))
    assert (found.state, found.reason, found.duplicate_of) == ("duplicate", "a copy of mlp:0:2", "mlp:0:2")
