"""The verb `chat`: one question, piped questions, kept conversations; with and without a language model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.neurogloss.conftest import Run
from tests.serving import ProgrammableServer, Talker


@pytest.fixture
def db(example_db: Path, tmp_path: Path) -> Path:
    own = tmp_path / "own.db"
    shutil.copy(example_db, own)
    return own


def test_a_command_is_answered_within_80_columns(run: Run, db: Path) -> None:
    answer = run("--db", db, "chat", "/unit mlp:2:18")
    assert answer.code == 0
    assert "F1 0.12 [0.04, 0.18]" in answer.out
    assert "[score:" in answer.out
    assert "left out" not in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines())
    assert "\x1b" not in answer.out


def test_a_unit_with_hostile_text_is_shown_safely(run: Run, db: Path) -> None:
    answer = run("--db", db, "chat", "/examples mlp:2:17")
    assert answer.code == 0
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(answer.out + answer.err)


def test_json_is_one_object_a_turn(run: Run, db: Path) -> None:
    answer = run("--db", db, "chat", "--json", stdin="/unit mlp:2:17\n/nonsense\nwhat fires on articles?\n")
    assert answer.code == 0
    first, second, third = (json.loads(line) for line in answer.out.splitlines())
    assert first["tools"][0]["tool"] == "unit"
    assert {cite["table"] for cite in first["cites"]} >= {"units", "descriptions", "scores"}
    assert first["removed"] == []
    assert first["numbers"] > 5
    assert "no command /nonsense" in second["error"]
    assert "No language model" in third["answer"]
    assert first["chat"] == third["chat"]


def test_a_conversation_is_listed_and_gone_on_with(run: Run, db: Path) -> None:
    assert run("--db", db, "chat", "/campaign").code == 0
    listed = run("--db", db, "chat", "--list")
    assert "/campaign" in listed.out
    again = run("--db", db, "chat", "--resume", "1", "/history")
    assert "/campaign" in again.out
    missing = run("--db", db, "chat", "--resume", "9", "/history")
    assert missing.code == 2
    assert "no chat 9" in missing.err


def test_a_language_model_is_asked(run: Run, db: Path) -> None:
    with ProgrammableServer(Talker()) as server:
        name = f"openai:{server.model}@{server.url}"
        answer = run("--db", db, "chat", "--llm", name, "--llm-price", "1,2", "What does mlp:2:18 do?")
        assert answer.code == 0
        assert "F1 is 0.12 [0.04, 0.18] on 90 documents" in " ".join(answer.out.split())
        assert "2 LLM calls" in answer.err
        spent = run("--db", db, "chat", "--llm", name, "--budget-llm-calls", "1", "Which are refuted?")
        assert spent.code == 2
        assert "budget of 1 calls" in spent.err


def test_an_endpoint_that_is_down_ends_a_single_question_with_a_message(run: Run, db: Path) -> None:
    answer = run("--db", db, "chat", "--llm", "openai:m@http://127.0.0.1:9", "hello")
    assert answer.code == 2
    assert "is down" in answer.err
    assert "/help" in answer.out


def test_what_cannot_be_is_said(run: Run, db: Path, tmp_path: Path) -> None:
    assert run("--db", tmp_path / "none.db", "chat", "hello").code == 2
    for arguments, why in (
        (["/frobnicate"], "no command"),
        ([" "], "empty"),
        (["--llm", "nonsense", "hello"], "names no endpoint"),
        (["--llm-price", "1,2", "hello"], "--llm"),
        (["--campaign", "other", "/units"], "other"),
    ):
        answer = run("--db", db, "chat", *arguments)
        assert answer.code == 2, arguments
        assert why in answer.err, (arguments, answer.err)


def test_what_is_expensive_is_not_done_where_nobody_can_be_asked(
    run: Run, db: Path, tiny_gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROGLOSS_CONFIRM_PASSES", "1")
    line = '/activate mlp:1:3 "Ann saw" "the ball"'
    told = ["--db", str(db), "chat", line, "--subject", str(tiny_gpt2_folder), "--device", "cpu"]
    answer = run(*told)
    assert answer.code == 0
    assert "--yes" in answer.err
    assert "did not want" in answer.out
    answer = run(*told, "--yes")
    assert "on 2 texts" in answer.out
