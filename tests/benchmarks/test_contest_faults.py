"""Agentic investigations go on through faults of the language model and kills: complete, once, and to the cent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import store
from benchmarks.contest_faults import NAME, counted, plan_of, rows, run_killed
from tests.serving import Faults, ProgrammableServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def tiny(tiny_gpt2_folder: Path, tiny_corpus_file: Path) -> dict[str, Any]:
    """A random GPT-2 on 400 short documents."""
    return {
        "subject": str(tiny_gpt2_folder), "corpus": str(tiny_corpus_file), "resamples": 50, "null_units": 4,
        "controls": 0.0,
        "panel": {"explore_tokens": 2000, "refine_tokens": 1000, "score_tokens": 1000, "audit_tokens": 500},
    }  # fmt: skip


def content(home: Path) -> Any:
    """All but where the language model is served."""
    with store.open_database(home / "neurogloss.db", create=False) as db:
        whole = store.campaign_content(db, NAME)
    whole["spec"]["llm"]["endpoints"] = None
    return whole


def test_faults_and_kills_leave_a_complete_campaign_with_each_trial_once_and_exact_costs(
    tiny: dict[str, Any], llm_server: ProgrammableServer, tmp_path: Path
) -> None:
    llm_server.faults = Faults(0.3, seed=3, storm=3, retry_after=0.02)
    plan = plan_of(llm_server, units=["mlp:0:0-7", "mlp:1:0-7"], **tiny)
    kills = run_killed(plan, tmp_path, kills=5, seed=1)
    assert kills == 5
    found = counted(tmp_path, llm_server, kills=kills, concurrency=plan["llm"]["concurrency"])
    assert found.complete, found
    assert found.done >= 8, rows(tmp_path, "SELECT reason FROM investigations WHERE status = 'failed'")
    assert not found.doubled
    assert found.trials > found.done
    assert found.trials_failed
    assert found.exact, found
    met = Counter(seen.fault for seen in llm_server.requests)
    assert 0.2 < 1 - met[None] / met.total() < 0.5


def test_a_killed_campaign_holds_what_an_undisturbed_one_does(
    tiny: dict[str, Any], llm_server: ProgrammableServer, tmp_path: Path
) -> None:
    """Where answers are the same whenever they are asked for: connections fail, and are tried again."""
    faults = Faults(0.2, ("429", "500", "reset"), seed=5, retry_after=0.02)
    llm_server.faults = faults
    plan = plan_of(llm_server, units=["mlp:1:0-7"], **tiny)
    plan["llm"] |= {"retries": 8}
    assert run_killed(plan, tmp_path / "killed", kills=1, seed=2) == 1
    with ProgrammableServer(faults=faults) as other:
        plan["llm"] |= {"endpoints": [f"openai:{other.model}@{other.url}"]}
        assert run_killed(plan, tmp_path / "whole", kills=0, seed=0) == 0
    assert not store.differences(content(tmp_path / "whole"), content(tmp_path / "killed"))
    [trials] = rows(tmp_path / "whole", "SELECT count(*) AS n FROM experiments WHERE arguments LIKE '%\"question\"%'")
    assert trials["n"] > 8
