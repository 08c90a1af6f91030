"""Two databases say the same whenever the same was found, however it came about."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import store
from store.records import Cost, InvestigationResult


def run(bench: Any, result: Callable[..., InvestigationResult], order: int, **changes: Any) -> None:
    jobs = [job for job in iter(lambda: store.lease_next(bench.db, bench.campaign_id, "me", 60), None)]
    random.Random(order).shuffle(jobs)
    for job in jobs:
        store.record_opening(bench.db, job, claim="claim-1", polarity="+", split="score")
        store.finish(bench.db, job, result(job.unit, cost=Cost(order, order), **changes))


def test_the_content_does_not_depend_on_order_costs_or_attempts(
    make: Callable[..., Any], tmp_path: Path, result: Callable[..., InvestigationResult]
) -> None:
    units = [f"mlp:0:{i}" for i in range(5)]
    one, other = make(tmp_path / "1.db", units), make(tmp_path / "2.db", units)
    job = store.lease_next(other.db, other.campaign_id, "unlucky", 60)
    assert job is not None
    store.fail(other.db, job, "HTTP 500", retry=True)
    run(one, result, 1)
    run(other, result, 2)
    # The reason of a failure that was mended is not a finding.
    contents = [store.campaign_content(bench.db, "first") for bench in (one, other)]
    assert store.differences(contents[0], contents[1]) == []
    assert store.content_hash(one.db, "first") == store.content_hash(other.db, "first")


def test_any_finding_that_differs_shows(
    make: Callable[..., Any], tmp_path: Path, result: Callable[..., InvestigationResult]
) -> None:
    one, other = make(tmp_path / "1.db", ["mlp:0:0"]), make(tmp_path / "2.db", ["mlp:0:0"])
    run(one, result, 1)
    run(other, result, 1, f1=0.81)
    assert store.content_hash(one.db, "first") != store.content_hash(other.db, "first")
    found = store.differences(store.campaign_content(one.db, "first"), store.campaign_content(other.db, "first"))
    assert any(line.endswith("/value: 0.8 ≠ 0.81") for line in found)
    assert all("/investigations/f00d mlp:0:0/descriptions/0/scores" in line for line in found)


def test_differences_are_told_by_path() -> None:
    assert store.differences({"a": [1, {"b": 2}], "c": 0}, {"a": [1, {"b": 3}, 4], "d": 0}) == [
        "/a: 2 items ≠ 3 items",
        "/a/1/b: 2 ≠ 3",
        "/c: only in the first",
        "/d: only in the second",
    ]
    assert len(store.differences(list(range(50)), list(range(1, 51)), limit=3)) == 3
