"""``neurogloss campaign replay``: what it prints and the status with which it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import agent.replay
from agent.replay import Replayed

Run = Callable[..., Any]


def outcome(**changes: Any) -> Replayed:
    given: dict[str, Any] = {
        "campaign": "first", "same": True, "differences": [], "investigations": 7, "answers": 1234, "out": None,
    }  # fmt: skip
    return Replayed(**{**given, **changes})


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Callable[[Replayed | None], None]:
    """Sets what a replay comes to."""

    def to(found: Replayed | None) -> None:
        monkeypatch.setattr(agent.replay, "replay_campaign", lambda *given, **options: found)

    return to


def test_the_same_is_status_0(run: Run, example_db: Path, replays: Callable[[Replayed | None], None]) -> None:
    replays(outcome(out="again.db"))
    answer = run("campaign", "replay", "first", "--db", example_db)
    assert answer.code == 0
    told = " ".join(answer.out.split())
    assert "The same: campaign 'first', 7 investigations, 1,234 answers of language models from the record." in told
    assert "The replay is kept in again.db." in told


def test_different_is_status_1_and_says_where(
    run: Run, example_db: Path, replays: Callable[[Replayed | None], None]
) -> None:
    hostile = f"/investigations/f00d mlp:0:0/label: '\x1b[2J[red]{'x' * 400}' ≠ 'b'"
    replays(outcome(same=False, differences=[hostile, "/status: 'done' ≠ 'open'"]))
    answer = run("campaign", "replay", "first", "--db", example_db)
    assert answer.code == 1
    assert "Different: campaign 'first'" in answer.out
    assert "/status: 'done' ≠ 'open'" in answer.out
    assert "\x1b" not in answer.out
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    value = run("campaign", "replay", "first", "--db", example_db, "--json")
    assert value.code == 1
    assert json.loads(value.out)["differences"][0] == hostile


def test_stopped_is_status_130(run: Run, example_db: Path, replays: Callable[[Replayed | None], None]) -> None:
    replays(None)
    assert run("campaign", "replay", "first", "--db", example_db).code == 130


def test_what_cannot_be_replayed_is_told(run: Run, example_db: Path) -> None:
    unknown = run("campaign", "replay", "nonesuch", "--db", example_db)
    assert (unknown.code, unknown.out) == (2, "")
    assert "There is no campaign 'nonesuch'" in unknown.err
    open_one = run("campaign", "replay", "first", "--db", example_db)
    assert open_one.code == 2
    assert "'first' is not finished" in open_one.err
