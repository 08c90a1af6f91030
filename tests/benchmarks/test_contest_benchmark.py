"""The policy `llm` against its matched control: how tokens are matched, and the whole on one unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contest.__main__ import compare_llm, summary
from benchmarks.contest.llm import DRAWN, MOST, Spent, matched_samples
from benchmarks.planted import run
from tools.planted import PlantedSpec


def test_the_control_draws_as_many_as_the_agents_tokens_buy() -> None:
    spent = {
        "mlp:0:1+": Spent(explaining=4_000, contest=6_200),
        "mlp:0:1-": Spent(explaining=4_000),
        "mlp:0:2+": Spent(explaining=10, contest=10_000),
        "mlp:0:3+": Spent(contest=100),
    }
    assert matched_samples(spent) == {"mlp:0:1+": DRAWN + 3, "mlp:0:1-": DRAWN, "mlp:0:2+": MOST}


@pytest.mark.slow
def test_both_spend_the_same_tokens_and_the_agent_finds_the_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = run.sampled
    monkeypatch.setattr(
        run, "sampled", lambda truths, n: [one for one in sampled(truths, n) if one.family == "rule with exception"]
    )
    [pair] = compare_llm(11, PlantedSpec(seed=11), tmp_path, 1, 15_000)
    assert pair.control_tokens == pytest.approx(pair.agent_tokens, rel=0.15)
    assert pair.agent_tokens > 5_000
    assert pair.agent.exception_recall is not None
    assert pair.agent.near_f1 is not None
    assert pair.control.near_f1 is not None
    assert pair.agent.near_f1 > pair.control.near_f1
    assert summary([pair])["tokens"] == [pair.agent_tokens, pair.control_tokens]
