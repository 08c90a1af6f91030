"""A campaign from end to end on a random model: nothing twice, budgets, failures, stops."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import store
from agent import Estimate, IndexProgress, Observer, load_spec, resume_spec, run_campaign
from explainers.registry import get as get_explainer
from explainers.types import Evidence, Explanation, Recorder
from scorers.errors import ScorerError
from store.canonical import campaign_content, differences
from store.queries import best_descriptions, list_campaigns, unit_page
from tools.errors import CorpusError, SubjectError, UnitError

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def tiny(tiny: dict[str, Any]) -> dict[str, Any]:
    """With short contests: what is tested here goes on around investigations."""
    return {**tiny, "contest": {"rounds": 1, "forward_passes": 2}}


def rows(db: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(db) as connection:
        return connection.execute(query).fetchall()


def same(first: Path, second: Path, name: str = "tiny") -> list[str]:
    with store.open_database(first) as one, store.open_database(second) as other:
        return differences(campaign_content(one, name), campaign_content(other, name))


def test_describes_neurons_and_heads_with_scores_and_evidence(run: Run, tmp_path: Path) -> None:
    summary, notes = run()
    assert summary.status == "done"
    assert (summary.tally.done, summary.tally.failed, summary.tally.pending) == (4, 0, 0)
    assert notes.phases == ["subject", "corpus", "estimate", "index", "investigate", "close"]
    assert {done.unit for done in notes.done} == {"mlp:1:0", "mlp:1:1", "mlp:1:2", "head:1:0"}
    assert notes.summary == summary
    with store.open_database(tmp_path / "ng.db") as db:
        described = best_descriptions(db, campaign="tiny", limit=None)
        assert {row.unit for row in described} == {done.unit for done in notes.done}
        for row in described:
            page = unit_page(db, row.unit)
            assert page.unit.n_tokens
            assert {example.split for example in page.examples} == {"explore"}
            if row.state == "alive":
                assert row.f1 is not None
                assert row.f1_q is not None
                assert any(e.source == "top" for e in page.examples)
                assert page.hypotheses
        scored = rows(tmp_path / "ng.db", "SELECT DISTINCT split FROM scores WHERE headline")
        assert scored == [("score",)]


def test_openings_are_on_record_for_each_scored_claim(run: Run, tmp_path: Path) -> None:
    run(units=["mlp:1:0-1"])
    db = tmp_path / "ng.db"
    scored = rows(
        db, "SELECT DISTINCT d.claim, d.polarity FROM descriptions d JOIN scores s ON s.description_id = d.id"
    )
    opened = rows(db, "SELECT claim, polarity FROM openings")
    assert scored
    assert sorted(opened) == sorted(scored)


def test_second_run_does_nothing_and_says_so(run: Run, tmp_path: Path) -> None:
    run()
    query = "SELECT id, attempts, finished_at FROM investigations"
    before = rows(tmp_path / "ng.db", query)
    summary, notes = run()
    assert summary.already_done
    assert summary.status == "done"
    assert not notes.phases
    assert not notes.done
    assert rows(tmp_path / "ng.db", query) == before


def test_no_checkpoint_is_left_behind(run: Run, tmp_path: Path) -> None:
    run()
    assert rows(tmp_path / "ng.db", "SELECT count(*) FROM checkpoints") == [(0,)]
    assert rows(tmp_path / "ng.db", "SELECT count(*) FROM writes") == [(0,)]


def test_estimate_comes_before_work_and_can_be_declined(tiny: dict[str, Any], tmp_path: Path, observer: Any) -> None:
    asked: list[Estimate] = []

    def no(estimate: Estimate) -> bool:
        asked.append(estimate)
        return False

    spec = load_spec(None, tiny)
    assert run_campaign(spec, db=tmp_path / "ng.db", home=tmp_path, observer=observer, confirm=no) is None
    (estimate,) = asked
    assert (estimate.units, estimate.to_do) == (4, 4)
    assert estimate.index_tokens > 1000
    assert estimate.seconds > estimate.index_seconds > 0
    assert "index" not in observer.phases
    with store.open_database(tmp_path / "ng.db") as db:
        assert not list_campaigns(db)


def test_index_that_is_there_costs_nothing(run: Run) -> None:
    run()
    _, notes = run(name="again", resamples=60)
    assert notes.estimates[0].index_tokens == 0


def test_budget_of_units_stops_and_more_budget_goes_on(run: Run, tmp_path: Path) -> None:
    summary, notes = run(budget={"units": 2})
    assert summary.status == "stopped: budget"
    assert "2 units" in summary.reason
    assert notes.limits == ["units"]
    assert summary.spent["units"] == 2
    again, notes = run(budget={"units": 2})
    assert again.status == "stopped: budget"
    assert not notes.done
    assert "index" not in notes.phases
    rest, notes = run()
    assert rest.status == "done"
    assert rest.tally.done == 4
    assert len({done.unit for done in notes.done}) == 2


@pytest.mark.parametrize("limit", [{"tool_calls": 1}, {"seconds": 1e-6}])
def test_budget_of_calls_and_seconds_stops(run: Run, limit: dict[str, float]) -> None:
    summary, notes = run(budget=limit)
    assert summary.status == "stopped: budget"
    assert notes.limits == list(limit)
    assert 0 < summary.tally.done < 4


class Failing:
    """Describes all units but one."""

    name = "pattern"

    def __init__(self, inner: Any, unit: str, times: int = 99) -> None:
        self.inner, self.unit, self.left = inner, unit, times

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        if str(evidence.unit) == self.unit and self.left:
            self.left -= 1
            raise RuntimeError("the explainer broke")
        found: list[Explanation] = self.inner.explain(evidence, recorder)
        return found


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Failing]:
    def use(unit: str, times: int = 99) -> Failing:
        fake = Failing(get_explainer("pattern"), unit, times)
        monkeypatch.setattr("agent.campaign.make_explainer", lambda spec, kit: fake)
        return fake

    return use


def test_failure_is_a_status_and_the_campaign_goes_on(
    run: Run, tmp_path: Path, failing: Callable[..., Failing]
) -> None:
    failing("mlp:1:2")
    summary, notes = run(max_failures=2)
    assert summary.status == "done"
    assert (summary.tally.done, summary.tally.failed) == (3, 1)
    assert [(unit, final) for unit, _, final in notes.failed] == [("mlp:1:2", False), ("mlp:1:2", True)]
    query = "SELECT reason, tool_calls FROM investigations WHERE status = 'failed'"
    ((reason, calls),) = rows(tmp_path / "ng.db", query)
    assert reason == "RuntimeError in step 'propose': the explainer broke"
    assert calls > 0
    assert not rows(
        tmp_path / "ng.db",
        "SELECT d.id FROM descriptions d JOIN units u ON u.id = d.unit_id WHERE u.unit = 'mlp:1:2'",
    )


@pytest.mark.slow
def test_failure_that_passes_is_retried_and_leaves_no_trace(
    run: Run, tmp_path: Path, tiny: dict[str, Any], tiny_home: Path, failing: Callable[..., Failing]
) -> None:
    failing("mlp:1:2", times=1)
    summary, notes = run()
    assert (summary.tally.done, summary.tally.failed) == (4, 0)
    assert len(notes.failed) == 1
    run_campaign(load_spec(None, tiny), db=tmp_path / "plain.db", home=tiny_home)
    assert not same(tmp_path / "ng.db", tmp_path / "plain.db")


@pytest.mark.slow
def test_failed_units_can_be_tried_again(
    run: Run, tmp_path: Path, tiny: dict[str, Any], tiny_home: Path, failing: Callable[..., Failing]
) -> None:
    fake = failing("mlp:1:2")
    run(max_failures=1)
    fake.left = 0
    spec = load_spec(None, tiny)
    again = run_campaign(spec, db=tmp_path / "ng.db", home=tiny_home, retry_failed=True)
    assert again is not None
    assert (again.tally.done, again.tally.failed) == (4, 0)


@pytest.mark.slow
def test_workers_make_no_difference(run: Run, tmp_path: Path, tiny: dict[str, Any], tiny_home: Path) -> None:
    run(workers=3)
    run_campaign(load_spec(None, tiny), db=tmp_path / "one.db", home=tiny_home)
    assert not same(tmp_path / "ng.db", tmp_path / "one.db")


@pytest.mark.slow
def test_stop_event_ends_after_the_step_in_flight_and_loses_nothing(
    run: Run, tmp_path: Path, tiny: dict[str, Any], tiny_home: Path, observer: Any
) -> None:
    stop = threading.Event()

    class Stopper(type(observer)):  # type: ignore[misc]
        def unit_done(self, done: Any) -> None:
            super().unit_done(done)
            stop.set()

    summary, _ = run(stop=stop, notes=Stopper())
    assert summary.status == "interrupted"
    assert 0 < summary.tally.done < 4
    assert summary.tally.leased == 0
    rest, _ = run()
    assert rest.status == "done"
    run_campaign(load_spec(None, tiny), db=tmp_path / "plain.db", home=tiny_home)
    assert not same(tmp_path / "ng.db", tmp_path / "plain.db")


def test_stop_while_indexing_keeps_what_is_built(tiny: dict[str, Any], tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopper(Observer):
        def index_progress(self, progress: IndexProgress) -> None:
            stop.set()

    spec = load_spec(None, {**tiny, "batch_tokens": 256})
    summary = run_campaign(spec, db=tmp_path / "ng.db", home=tmp_path, observer=Stopper(), stop=stop)
    assert summary is not None
    assert summary.status == "interrupted"
    rest = run_campaign(spec, db=tmp_path / "ng.db", home=tmp_path)
    assert rest is not None
    assert rest.status == "done"


@pytest.mark.slow
def test_resume_spec_finds_the_campaign_again(run: Run, tmp_path: Path, tiny_home: Path) -> None:
    run(budget={"units": 1}, workers=2)
    with store.open_database(tmp_path / "ng.db") as db:
        spec = resume_spec(store.get_campaign(db, "tiny"), {"budget": {}})
        summary = run_campaign(spec, db=db, home=tiny_home)
    assert summary is not None
    assert (summary.status, summary.tally.done) == ("done", 4)


def test_same_name_with_other_settings_is_refused(run: Run) -> None:
    run(units=["mlp:1:0"])
    with pytest.raises(store.StoreError, match="differs in: units"):
        run(units=["mlp:1:1"])


@pytest.mark.slow
def test_sample_takes_so_many_of_each_group(run: Run) -> None:
    summary, notes = run(units=["mlp:*:*", "head:0:*"], sample=2)
    groups = [done.rpartition(":")[0] for done in {done.unit for done in notes.done}]
    assert sorted(groups) == ["head:0"] * 2 + [f"mlp:{layer}" for layer in range(3) for _ in range(2)]
    assert summary.tally.total == 8


def test_shuffled_twin_is_another_subject(run: Run, tmp_path: Path) -> None:
    run(units=["mlp:1:0"])
    summary, _ = run(units=["mlp:1:0"], name="twin", shuffle_weights=3)
    assert summary.status == "done"
    assert rows(tmp_path / "ng.db", "SELECT count(DISTINCT fingerprint) FROM subjects") == [(2,)]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"units": ["mlp:9:*"]}, UnitError),
        ({"units": ["neuron:1:2"]}, UnitError),
        ({"subject": "/nowhere/model"}, SubjectError),
        ({"corpus": "/nowhere/texts.jsonl"}, CorpusError),
    ],
)
def test_bad_input_leaves_no_campaign(run: Run, tmp_path: Path, change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        run(**change)
    with store.open_database(tmp_path / "ng.db") as db:
        assert not list_campaigns(db)


def test_corpus_of_three_sentences_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "three.txt"
    path.write_text("One sentence.\n\nAnother one.\n\nA third.\n")
    with pytest.raises(CorpusError, match="too small"):
        run(corpus=str(path))


def test_index_of_another_version_in_the_data_folder_does_no_harm(tiny: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "indexes" / "0123456789abcdef"
    other.mkdir(parents=True)
    (other / "manifest.json").write_text('{"format": 0, "files": {}}')
    spec = load_spec(None, {**tiny, "units": "mlp:1:0"})
    summary = run_campaign(spec, db=tmp_path / "ng.db", home=tmp_path)
    assert summary is not None
    assert summary.status == "done"


def test_scores_sequentially_and_controls_errors_by_e_values_when_asked(run: Run, tmp_path: Path) -> None:
    summary, _ = run(units=["mlp:1:0-1"], scoring="sequential", error_method="e-bh")
    assert summary.status == "done"
    found = rows(
        tmp_path / "ng.db", "SELECT s.e_value, s.q_value FROM scores s WHERE s.metric = 'weighted_f1' AND s.headline"
    )
    assert found
    assert all(e is not None and q is not None for e, q in found)
    assert summary.outcome["error_method"] == "e-bh"


def test_an_unknown_scorer_is_told_before_anything_is_spent(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ScorerError, match=r"no scorer 'flattery'\. Known: simulation"):
        run(scorer="flattery")
    assert rows(tmp_path / "ng.db", "SELECT count(*) FROM campaigns") == [(0,)]
