"""Seeds, budgets, owners, plain values and checkpoints: the small parts of a campaign."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.budget import Spent, exceeded
from agent.checkpoints import checkpoint_file, open_checkpoints, sweep, thread_id
from agent.owner import is_alive, this_process
from agent.plain import digest, plain
from agent.seeds import sample_units, seed_for
from agent.spec import Budget
from tools.types import Split, UnitId


def test_seeds_depend_on_campaign_unit_and_step_alone() -> None:
    assert seed_for(0, UnitId("mlp:1", 2), "explain +") == seed_for(0, "mlp:1:2", "explain +")
    seeds = {seed_for(c, u, s) for c in (0, 1) for u in ("mlp:1:2", "mlp:1:3") for s in ("explain +", "explain -")}
    assert len(seeds) == 8
    code = "from agent.seeds import seed_for; print(seed_for(0, 'mlp:1:2', 'x'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert int(told.stdout) == seed_for(0, "mlp:1:2", "x") < 2**48


def test_larger_sample_holds_the_smaller_one_in_the_order_given() -> None:
    units = [UnitId(f"mlp:{layer}", i) for layer in range(2) for i in range(50)]
    few, many = sample_units(units, 5, seed=3), sample_units(units, 9, seed=3)
    assert len(few) == 10
    assert set(few) < set(many)
    assert many == [unit for unit in units if unit in set(many)]
    assert sample_units(units, None, seed=3) == units
    assert sample_units(units, 5, seed=4) != few


def test_budget_counts_units_in_flight() -> None:
    assert exceeded(Budget(), Spent(10**6, 1e9, 10**9)) is None
    assert exceeded(Budget(units=3), Spent(units=2)) is None
    assert exceeded(Budget(units=3), Spent(units=2), in_flight=1) is not None
    reached = exceeded(Budget(seconds=10, tool_calls=5), Spent(1, 3.0, 5))
    assert reached is not None
    assert str(reached) == "the budget of 5 tool calls is used up (5 spent)"


def test_owner_is_alive_until_its_process_ends() -> None:
    assert is_alive(this_process())
    code = "from agent.owner import this_process; print(this_process())"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert not is_alive(gone)


def test_owner_elsewhere_or_unreadable_may_be_alive() -> None:
    machine, _, rest = this_process().partition("|")
    assert is_alive(f"{machine}-other|{rest}")
    assert is_alive("nonsense")
    # The same number given to a later process is another process.
    assert not is_alive(f"{machine}|{os.getpid()}|1") or not Path("/proc/self/stat").exists()


def test_plain_values() -> None:
    value: dict[Any, Any] = {
        "unit": UnitId("mlp:1", 2), "split": Split.SCORE, "array": np.array([1.5, np.nan]), "n": np.int64(3),
        "flag": np.bool_(True), "pair": (1, "a"), 5: {2, 1},
    }  # fmt: skip
    expected = {
        "unit": "mlp:1:2", "split": "score", "array": [1.5, None], "n": 3, "flag": True, "pair": [1, "a"], "5": [1, 2],
    }  # fmt: skip
    assert plain(value) == expected
    assert type(plain(Split.SCORE)) is str
    assert digest(value) == digest(expected)
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_checkpoints_of_a_server_database_are_in_the_data_folder(tmp_path: Path) -> None:
    server: Any = SimpleNamespace(is_sqlite=False, url="postgresql://host/name")
    path = checkpoint_file(server, tmp_path)
    assert path.parent == tmp_path / "checkpoints"
    assert path == checkpoint_file(server, tmp_path)
    local: Any = SimpleNamespace(is_sqlite=True, url=str(tmp_path / "ng.db"))
    assert checkpoint_file(local, tmp_path) == tmp_path / "ng.db"


def test_sweep_leaves_other_campaigns_alone(tmp_path: Path) -> None:
    with open_checkpoints(tmp_path / "c.db") as saver:
        for campaign in (1, 11):
            with saver.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO checkpoints (thread_id, checkpoint_id) VALUES (?, 'x')", (thread_id(campaign, 5),)
                )
        sweep(saver, 1)
        with saver.cursor() as cursor:
            left = cursor.execute("SELECT thread_id FROM checkpoints").fetchall()
    assert left == [(thread_id(11, 5),)]
