"""Replays of finished campaigns: the same content from what was recorded, or where it differs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from agent import load_spec, run_campaign
from agent.replay import Replayed, replay_campaign
from store import schema
from tests.serving import Faults, ProgrammableServer

Replay = Callable[..., Replayed | None]


@pytest.fixture(scope="module")
def finished(tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a campaign of two units and a control of each kind."""
    path = tmp_path_factory.mktemp("finished") / "ng.db"
    spec = load_spec(None, {**tiny, "units": ["mlp:1:0-1"], "controls": 0.3, "budget": {"seconds": 1000}})
    summary = run_campaign(spec, db=path, home=tiny_home)
    assert summary is not None
    assert summary.status == "done"
    return path


@pytest.fixture
def replay(finished: Path, tmp_path: Path, tiny_home: Path) -> Replay:
    """Replays the campaign of a copy of that database."""
    shutil.copy(finished, tmp_path / "ng.db")

    def go(**given: Any) -> Replayed | None:
        with store.open_database(tmp_path / "ng.db") as source:
            return replay_campaign(source, "tiny", home=tiny_home, **given)

    return go


@pytest.mark.slow
def test_a_replay_says_the_same_and_leaves_nothing_behind(replay: Replay, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    found = replay()
    assert found is not None
    assert (found.same, found.differences, found.answers, found.out) == (True, [], 0, None)
    assert found.investigations == 2 + 4
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_replay_can_be_kept_and_what_differs_is_told_by_its_place(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db, db.transaction() as session:
        which = sa.select(schema.Description.id).limit(1).scalar_subquery()
        session.execute(sa.update(schema.Description).where(schema.Description.id == which).values(label="another"))
    out = tmp_path / "again.db"
    found = replay(out=out, workers=2)
    assert found is not None
    assert (found.same, found.out) == (False, str(out))
    [line] = found.differences
    assert "/label: 'another' ≠ " in line
    with store.open_database(out) as db:
        assert store.get_campaign(db, "tiny").status == "done"


def test_a_replay_needs_a_fresh_file(replay: Replay, tmp_path: Path) -> None:
    with pytest.raises(store.StoreError, match=r"There is a file .*ng\.db already"):
        replay(out=tmp_path / "ng.db")


def test_only_what_is_finished_can_be_replayed(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db, db.transaction() as session:
        session.execute(sa.update(schema.Campaign).values(status="open"))
    with pytest.raises(store.StoreError, match="'tiny' is not finished"):
        replay()


def test_a_replay_can_be_stopped(replay: Replay) -> None:
    stop = threading.Event()
    stop.set()
    assert replay(stop=stop) is None


@pytest.fixture(scope="module")
def asked(
    tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """A campaign that asked a language model which misbehaved now and then, and its database. The model is gone."""
    path = tmp_path_factory.mktemp("asked") / "ng.db"
    with ProgrammableServer(faults=Faults(0.15, kinds=("truncated", "refusal", "500", "reset"), seed=3)) as server:
        endpoint = f"openai:{server.model}@{server.url}"
        settings = {
            **tiny, "units": ["mlp:1:0-2"], "controls": 0.3, "workers": 3, "diagnostics": ["detection"],
            "llm": {"endpoints": endpoint, "timeout": 5.0, "price": {"prompt": 1.0, "completion": 2.0}},
        }  # fmt: skip
        summary = run_campaign(load_spec(None, settings), db=path, home=tiny_home)
    assert summary is not None
    assert summary.status == "done"
    return settings, path


@pytest.mark.slow
def test_language_models_are_not_needed_twice(
    asked: tuple[dict[str, Any], Path], tmp_path: Path, tiny_home: Path
) -> None:
    out = tmp_path / "again.db"
    with store.open_database(asked[1]) as source:
        found = replay_campaign(source, "tiny", home=tiny_home, out=out)
        assert found is not None
        assert found.differences == []
        [before] = store.llm_costs(source, "tiny", ())
    with store.open_database(out) as db:
        after = store.progress(db, store.get_campaign(db, "tiny").id)
    assert before.tokens > 0
    # What an attempt asked that failed, and was followed by another, is not asked again.
    assert 20 < found.answers <= before.calls + before.known
    assert (after.llm_calls, after.tokens) == (0, 0)
    assert not after.dollars


@pytest.mark.slow
def test_a_campaign_that_was_killed_says_what_one_says_that_ran_through(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    with ProgrammableServer(latency=0.02) as server:
        llm = {"endpoints": f"openai:{server.model}@{server.url}"}
        changes = {"units": ["mlp:1:0"], "controls": 0.0, "llm": llm}
        assert start(tmp_path / "through.db", **changes).end()["status"] == "done"
        all_of_it = len(server.requests)
        process = start(tmp_path / "killed.db", **changes)
        while len(server.requests) < 1.5 * all_of_it and process.process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert start(tmp_path / "killed.db", **changes).end()["status"] == "done"
    with store.open_database(tmp_path / "through.db") as through, store.open_database(tmp_path / "killed.db") as killed:
        contents = [store.campaign_content(db, "tiny") for db in (through, killed)]
        assert store.differences(contents[0], contents[1]) == []
        assert contents[0]["investigations"]
        one, other = (store.llm_costs(db, "tiny", ())[0] for db in (through, killed))
        assert one.calls + one.known == other.calls + other.known
