"""Replays of finished campaigns: the same content from what was recorded, or where it differs."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import store
from agent import load_spec, run_campaign
from agent.judging import judge
from agent.replay import Changes, Replayed, find_investigations, replay_campaign
from explainers import llm
from store import schema
from store.queries.citations import Ref
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


@pytest.mark.slow
def test_an_exact_replay_runs_nothing_and_has_the_same_hash(
    replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.open_database(tmp_path / "ng.db") as db:
        hashed = store.content_hash(db, "tiny")

    def refused(*given: Any, **options: Any) -> None:
        raise AssertionError("something was run on the model")

    out = tmp_path / "again.db"
    with monkeypatch.context() as patch:
        # Every forward pass of an investigation goes through one of these.
        patch.setattr("tools.subject.Subject.capture", refused)
        patch.setattr(sys.modules["tools.interventions.run"], "run_model", refused)
        # What is found out about the model itself by running it, when it is loaded.
        patch.setattr("tools.subject.Subject.causal", True)
        patch.setattr("tools.subject.Subject.unembedding", None)
        found = replay(mode="exact", out=out)
    assert found is not None
    assert (found.same, found.differences, found.hashes, found.claims) == (True, [], (hashed, hashed), [])
    assert found.investigations == 2 + 4
    assert found.played >= 3 * 2
    with store.open_database(out) as db:
        assert store.content_hash(db, "tiny") == hashed


@pytest.mark.slow
def test_one_investigation_is_done_again_and_all_of_the_campaign_compared(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db:
        campaign, [number] = find_investigations(db, "tiny/mlp:1:1")  # type: ignore[misc]
        assert campaign == "tiny"
        assert find_investigations(db, f"I{number}") == ("tiny", [number])
        assert find_investigations(db, "tiny") == ("tiny", None)
        for name, message in (("tiny/mlp:1:9", "has no unit mlp:1:9"), ("I999", "no investigation 999"),
                              ("none/x", "no campaign 'none'")):  # fmt: skip
            with pytest.raises(store.StoreError, match=message):
                find_investigations(db, name)
    found = replay(mode="exact", only=[number])
    assert found is not None
    assert (found.same, found.investigations, found.largest) == (True, 1, 0.0)


@pytest.mark.slow
def test_what_was_changed_in_the_database_is_found_by_an_exact_replay(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db, db.transaction() as session:
        of_units = sa.select(schema.Investigation.id).where(schema.Investigation.control.is_(None))
        row = session.scalars(
            sa.select(schema.Description)
            .where(schema.Description.rank == 1, schema.Description.investigation_id.in_(of_units))
            .order_by(schema.Description.id)
            .limit(1)
        ).one()
        row.verdict_input = "supported" if row.verdict_input != "supported" else "refuted"
    found = replay(mode="exact")
    assert found is not None
    assert not found.same
    assert [change.what for claim in found.claims for change in claim.changes] == ["verdict_input"]


@pytest.mark.slow
def test_what_is_withdrawn_is_withdrawn_in_the_replay_too(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db:
        claims = [row for row in store.campaign_evidence(db, "tiny") if row.scores]
        score = next(iter(claims[0].scores.values()))
        store.withdraw(db, Ref("score", score.score_id), "because", judge)
        tested = next(test for row in claims for test in row.tests)
        store.withdraw(db, Ref("experiment", tested.experiment_id), "because", judge)
    for mode in ("exact", "tools-live"):
        found = replay(mode=mode)
        assert found is not None
        assert (found.same, found.differences) == (True, [])


@pytest.mark.slow
def test_without_recordings_there_is_nothing_to_play_back(replay: Replay, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "ng.db") as db, db.transaction() as session:
        session.execute(sa.delete(schema.Recording))
    with pytest.raises(store.StoreError, match=r"Nothing is recorded of \d of \d investigations of 'tiny'"):
        replay(mode="exact")


def test_without_a_language_model_none_can_be_asked_again(replay: Replay) -> None:
    with pytest.raises(store.StoreError, match="'tiny' asks no language model"):
        replay(mode="llm-live", changes=Changes())


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
def test_answers_are_played_back_with_the_steps_that_asked(asked: tuple[dict[str, Any], Path], tiny_home: Path) -> None:
    with store.open_database(asked[1]) as source:
        found = replay_campaign(source, "tiny", home=tiny_home, mode="exact")
    assert found is not None
    assert (found.differences, found.same, found.asked) == ([], True, 0)


@pytest.mark.slow
def test_another_prompt_changes_claims_and_they_are_told(
    asked: tuple[dict[str, Any], Path], tiny_home: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    with ProgrammableServer() as server, store.open_database(asked[1]) as source:
        endpoint = f"openai:{server.model}@{server.url}"
        before = store.content_hash(source, "tiny")
        same = replay_campaign(source, "tiny", home=tiny_home, mode="llm-live", changes=Changes(llm=endpoint))
        assert same is not None
        assert same.asked > 10
        text = (Path(llm.__file__).parent / "prompts" / "explain-examples.md").read_text(encoding="utf-8")
        assert "{% for text in texts %}" in text
        fewer = text.replace("{% for text in texts %}", "{% for text in texts[:2] %}")
        (prompts / "explain-examples.md").write_text(fewer, encoding="utf-8")
        changed = replay_campaign(
            source, "tiny", home=tiny_home, mode="llm-live", changes=Changes(llm=endpoint, prompts=prompts)
        )
        assert store.content_hash(source, "tiny") == before
    assert changed is not None
    assert (changed.mode, changed.same, changed.largest) == ("llm-live", False, None)
    told = {change.what for claim in changed.claims for change in claim.changes}
    assert {"label", "input_half"} <= told  # somebody who sees two texts says something else
    # Asked the same again, it says the same, but for what it had not answered in the campaign.
    assert len(same.claims) < len(changed.claims)


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
