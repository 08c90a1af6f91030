"""The figures of the benchmark of language models, against counts by hand."""

from __future__ import annotations

import pytest

from benchmarks.llm.ledger import CallTokens, Served
from benchmarks.llm.memory import growth
from benchmarks.llm.throughput import measure_client, render
from benchmarks.llm.tokens import figures, grouped
from benchmarks.llm.tokens import render as token_table
from tests.serving.tokens import PrefixCache


def call(job: int, purpose: str, prompt: int, cacheable: int, completion: int, *, failed: bool = False) -> CallTokens:
    return CallTokens(job, "+", False, purpose, purpose, prompt, cacheable, completion, prompt + completion, failed)


def test_tokens_are_counted_per_description() -> None:
    calls = [call(1, "explain", 1000, 0, 100), call(2, "explain", 1000, 640, 100), call(1, "predict", 3000, 1600, 20),
             call(1, "detection", 4000, 2000, 80, failed=True)]  # fmt: skip
    groups = grouped(calls)
    assert [(group.purpose, group.claims, group.each) for group in groups] == [
        ("detection", 1, 4080), ("predict", 1, 3020), ("explain", 2, 1100),
    ]  # fmt: skip
    found = figures(groups, claims=2)
    assert found["default"]["per_description"] == (2200 + 3020) / 2
    assert found["default"]["cacheable"] == pytest.approx(2240 / 5000)
    assert found["compared"]["per_description"] == (2200 + 4080) / 2
    assert found["all"]["failed"] == 1
    lines = token_table(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert "38,000" in lines[-1]


def test_a_beginning_counts_as_cacheable_only_where_an_earlier_prompt_had_it() -> None:
    tokenizer, cache = Served(), PrefixCache()
    system = {"role": "system", "content": "one two three four five six seven eight nine ten " * 4}
    first = tokenizer.chat([system, {"role": "user", "content": "alpha " * 40}])
    second = tokenizer.chat([system, {"role": "user", "content": "beta " * 40}])
    assert cache.seen(first) == 0
    shared = next(at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    assert cache.seen(second) == shared // 16 * 16 > 0
    assert cache.seen(second) == (len(second) - 1) // 16 * 16


def test_memory_that_fills_up_at_first_is_flat_and_one_that_goes_on_growing_is_not() -> None:
    flat = [(float(t), 100 if t < 5 else 200) for t in range(40)]
    assert growth(flat) == 0
    growing = [(float(t), 100 + 5 * t) for t in range(40)]
    assert (growth(growing) or 0) > 0.05
    assert growth(flat[:5]) is None


def test_the_client_is_measured_against_a_server_in_another_process() -> None:
    found = measure_client(askers=2, each=2, batch=4, concurrency=4, latency=0.01)
    assert found["calls"] == 16
    assert found["exact"]
    assert 0 < found["busy"] <= 1
    assert max(map(len, render(found).splitlines())) <= 80
