"""``neurogloss campaign replay``: what it prints and the status with which it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import agent.replay
from agent.claim_changes import Change, ClaimChange
from agent.replay import Replayed

Run = Callable[..., Any]


def outcome(**changes: Any) -> Replayed:
    given: dict[str, Any] = {
        "campaign": "first", "mode": "tools-live", "same": True, "differences": [], "largest": 0.0, "claims": [],
        "investigations": 7, "answers": 1234, "asked": 0, "played": 0, "hashes": ("a" * 64, "a" * 64), "out": None,
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
    assert (
        "The same: campaign 'first', 7 investigations (tools-live), 1,234 answers of language models from the record."
        in told
    )
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


def test_claims_that_are_others_are_told_with_both_ends_and_sent_to_no_terminal(
    run: Run, example_db: Path, replays: Callable[[Replayed | None], None]
) -> None:
    long = "x" * 100
    changes = (
        Change("label", "the article \x1b[2J", "a [red] noun"), Change("verdict_input", "supported", None),
        Change("weighted_f1", [0.8, 0.7, 0.9], [0.5, None, None]), Change("input_half", long, long + "y"),
    )  # fmt: skip
    claims = [ClaimChange("mlp:0:1+", "changed", changes), ClaimChange("mlp:0:2+", "gone", ())]
    replays(outcome(mode="llm-live", same=False, largest=None, claims=claims, asked=12))
    answer = run("replay", "first", "--mode", "llm-live", "--db", example_db)
    assert answer.code == 1
    assert "2 claims are others: campaign 'first'" in answer.out
    assert "12 calls to language models" in " ".join(answer.out.split())
    assert "label: the article ␛[2J → a [red] noun" in answer.out
    assert "fires on is: supported → none" in answer.out
    assert "F1: 0.80 [0.70, 0.90] → 0.50" in answer.out
    assert "mlp:0:2+ is there no longer" in answer.out
    assert "\x1b" not in answer.out
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    told = json.loads(run("replay", "first", "--mode", "llm-live", "--db", example_db, "--json").out)
    assert told["claims"][0]["changes"][2] == {"what": "weighted_f1", "before": [0.8, 0.7, 0.9],
                                               "after": [0.5, None, None]}  # fmt: skip


def test_an_exact_replay_tells_the_hash(run: Run, example_db: Path, replays: Callable[[Replayed | None], None]) -> None:
    replays(outcome(mode="exact", played=21))
    answer = run("replay", "first", "--db", example_db)
    assert answer.code == 0
    assert "7 investigations (exact), 21 steps played back" in " ".join(answer.out.split())
    assert "a" * 64 in answer.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mode", "sideways"), "--mode is one of exact, tools-live, llm-live, not 'sideways'."),
        (("--llm", "vllm:x"), "--llm, --llm-price and --prompts are for --mode llm-live"),
        (("--mode", "llm-live", "--prompts", "nowhere"), "There is no folder nowhere."),
    ],
)
def test_what_does_not_go_together_is_told(run: Run, example_db: Path, options: tuple[str, ...], message: str) -> None:
    answer = run("replay", "first", *options, "--db", example_db)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())


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
