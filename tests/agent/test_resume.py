"""Campaigns in processes of their own: killed, interrupted, side by side."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import store
from store.canonical import campaign_content, differences

Start = Callable[..., Any]
UNITS = ["mlp:1:0-7", "head:1:0-1"]


@pytest.fixture(scope="module")
def undisturbed(start: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the campaign finds when nothing happens to it.

    In a process like those it is compared with: the last bits of a matrix product depend on the threads that made it.
    """
    path = tmp_path_factory.mktemp("plain") / "ng.db"
    assert start(path, units=UNITS, controls=0.3).end()["status"] == "done"
    return content(path)


def content(path: Path) -> dict[str, Any]:
    with store.open_database(path) as db:
        return campaign_content(db, "tiny")


@pytest.mark.slow
def test_resumes_after_kill(start: Start, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(5)
    db = tmp_path / "ng.db"
    for _ in range(4):
        process = start(db, units=UNITS, controls=0.3)
        if not process.until("started", chance.randint(1, 3)):
            break
        time.sleep(chance.uniform(0, 0.6))
        process.kill()
    last = start(db, units=UNITS, controls=0.3).end()
    assert last["status"] == "done"
    assert not differences(undisturbed, content(db))


@pytest.mark.slow
def test_interrupt_stops_cleanly_and_the_same_command_goes_on(
    start: Start, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    db = tmp_path / "ng.db"
    process = start(db, units=UNITS, controls=0.3)
    assert process.until("done", 2)
    process.interrupt()
    stopped = process.end()
    assert stopped["status"] == "interrupted"
    assert stopped["tally"]["leased"] == 0
    assert stopped["tally"]["pending"] > 0
    assert start(db, units=UNITS, controls=0.3).end()["status"] == "done"
    assert not differences(undisturbed, content(db))


@pytest.mark.slow
def test_two_processes_share_the_work(start: Start, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    db = tmp_path / "ng.db"
    pair = [start(db, units=UNITS, controls=0.3) for _ in range(2)]
    ends = [process.end() for process in pair]
    assert "done" in {end["status"] for end in ends}
    done = [line.split()[1] for process in pair for line in process.lines if line.startswith("done ")]
    assert sorted(set(done)) == sorted(undisturbed_units(undisturbed))
    tails = [line for process in pair for line in process.lines if line.startswith("done ")]
    assert len(tails) == len(set(tails))
    assert not differences(undisturbed, content(db))
    with sqlite3.connect(db) as connection:
        assert connection.execute("SELECT DISTINCT attempts FROM investigations").fetchall() == [(1,)]


def undisturbed_units(found: dict[str, Any]) -> list[str]:
    """The units; its blind controls are no news of any process."""
    jobs = json.loads(json.dumps(found))["investigations"]
    assert sorted({job["control"] for job in jobs.values() if job["control"]}) == [
        "constant", "direction", "shuffled", "swapped",
    ]  # fmt: skip
    return [key.split()[1] for key, job in jobs.items() if job["control"] is None]
