"""What came of steps is kept, and found only where everything before it came to the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
import torch

import store
from agent.state import State
from agent.tape import Playing, Recording, refuse_to_run
from explainers.llm.types import NotRecordedError
from store import schema
from store.records import SubjectRecord
from tools.subject import load_subject
from tools.types import Site

BEFORE = cast(State, {"triage": {"reason": None, "density": 0.1}, "cost": {"seconds": 1.0}})
FOUND = cast(State, {"profile": {"promotion": [["é\ud800", 0.1 + 0.2]]}, "cost": {"seconds": 2.0, "tool_calls": 3}})


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with store.open_database(tmp_path / "ng.db") as opened:
        subject = store.register_subject(opened, SubjectRecord("tiny", "f00d"))
        campaign = store.create_campaign(opened, "first", {}, "hash", subject_id=subject)
        store.add_investigations(opened, campaign.id, subject, ["mlp:0:1"])
        yield opened


def never() -> State:
    raise AssertionError("a step that is played back is not done")


def test_what_was_kept_is_played_back_to_the_last_bit(db: store.Database) -> None:
    assert Recording(db, 1, 0).through("gather", BEFORE, lambda: FOUND) == FOUND
    assert Playing(db, 1, 0).through("gather", BEFORE, never) == FOUND


def test_a_step_that_is_done_again_is_kept_once(db: store.Database) -> None:
    tape = Recording(db, 1, 0)
    for _ in range(2):
        tape.through("gather", BEFORE, lambda: FOUND)
    with db.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(schema.Recording)) == 1


def test_seconds_before_a_step_do_not_matter(db: store.Database) -> None:
    Recording(db, 1, 0).through("gather", BEFORE, lambda: FOUND)
    assert Playing(db, 1, 0).through("gather", cast(State, {**BEFORE, "cost": {}}), never) == FOUND


@pytest.mark.parametrize(
    ("step", "salt", "triage"),
    [
        ("propose", 0, BEFORE["triage"]),
        ("gather", 1, BEFORE["triage"]),
        ("gather", 0, {"reason": None, "density": 0.2}),
    ],
)
def test_another_step_attempt_or_state_finds_nothing(db: store.Database, step: str, salt: int, triage: Any) -> None:
    Recording(db, 1, 0).through("gather", BEFORE, lambda: FOUND)
    with pytest.raises(NotRecordedError, match=rf"What step '{step}' came to is not on record"):
        Playing(db, 1, salt).through(step, cast(State, {**BEFORE, "triage": triage}), never)


def test_steps_that_run_no_model_are_neither_kept_nor_played(db: store.Database) -> None:
    Recording(db, 1, 0).through("verdict", BEFORE, lambda: FOUND)
    assert store.recorded_steps(db, 1, ["verdict"]) == {}
    assert Playing(db, 1, 0).through("verdict", BEFORE, lambda: FOUND) == FOUND


def test_a_recording_that_was_changed_is_found_out(db: store.Database) -> None:
    Recording(db, 1, 0).through("gather", BEFORE, lambda: FOUND)
    other = Recording(db, 1, 0).through
    other("gather", cast(State, {**BEFORE, "triage": {}}), lambda: cast(State, {"profile": {}}))
    with db.transaction() as session:
        first, second = session.scalars(sa.select(schema.Recording).order_by(schema.Recording.id))
        first.data = second.data
    with pytest.raises(NotRecordedError, match="was changed: its digest is another"):
        Playing(db, 1, 0).through("gather", BEFORE, never)


def test_the_model_refuses_to_run_whoever_asks(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    ids = torch.tensor([[1, 2, 3]])
    assert subject.capture(ids, None, [Site(0, "resid_post")])
    refuse_to_run(subject)
    runs: list[Callable[[], object]] = [
        lambda: subject.capture(ids, None, [Site(0, "resid_post")]),
        lambda: subject.model(input_ids=ids),
        lambda: subject.model.base_model(input_ids=ids),
    ]
    for run in runs:
        with pytest.raises(NotRecordedError, match="An exact replay runs nothing on the model"):
            run()
