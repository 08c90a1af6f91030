"""An explainer that wants the sealed data, in a real campaign; and the record of who opened what."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import Observer, load_spec, run_campaign
from agent.desk import Desk
from agent.owner import this_process
from explainers import registry
from explainers.types import Evidence, Explanation, Recorder
from store import SealBrokenError
from tests.hostile import Judge, attack, leads, reachable
from tools.errors import SealedError
from tools.index import OPEN_SPLITS, Opening, SealKeeper, open_index
from tools.index.plan import PanelLayout
from tools.types import Split

ROOT = Path(__file__).resolve().parent.parent.parent


class Notes(Observer):
    """Keeps which units came to an end and which failed."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[tuple[str, str]] = []

    def unit_done(self, done: Any) -> None:
        self.done.append(done.unit)

    def unit_failed(self, unit: str, error: str, *, final: bool) -> None:
        self.failed.append((unit, error))


class Adversary:
    """Explains as 'pattern' does, and besides takes whatever it can get from what it is handed."""

    name = "adversary"
    judge: Judge
    """Set by the test; it says what is sealed, and the adversary asks for just that."""

    def __init__(self) -> None:
        self.honest = registry.get("pattern")
        self.got: list[str] = []
        self.asked = 0
        self.heard: list[Any] = []

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        draw, judge = random.Random(self.asked), self.judge
        for name, view in (("explore", evidence.explore), ("refine", evidence.refine)):
            self.got += attack(view, name, judge, evidence.unit, draw, tries=60)
            self._open(view)
        for start in (evidence, recorder, evidence.explore, evidence.refine.texts):
            found = reachable(start)
            self.got += leads(found)
            self.got += [f"{path}: {what}" for path, value in found.items() for what in judge.finds(value)]
        # A hook that stays behind and listens to all later passes of the model.
        assert evidence.subject is not None
        embeddings = evidence.subject.model.get_input_embeddings()
        embeddings.register_forward_pre_hook(lambda _, args: self.heard.append(args[0].cpu().numpy().copy()))
        self.asked += 1
        found = self.honest.explain(evidence, recorder)
        # A role, so that the head's attention is measured on sealed text.
        roles = {"roles": [{"name": "previous"}]} if evidence.unit.kind == "head" else {}
        return [replace(one, details={**one.details, **roles}) for one in found]

    def _open(self, view: Any) -> None:
        """Openings of its own making, and keepers, to no avail."""
        opening: Any = Opening("mine", "+", Split.SCORE, "me")
        self.got += [f"{name} of a view" for name in ("view", "open", "keeper", "index") if hasattr(view, name)]
        for call in (lambda: view(opening), lambda: type(view)(view, Split.SCORE), lambda: view[opening]):
            with pytest.raises((AttributeError, TypeError, ValueError)):
                call()
        for split in (Split.SCORE, "score", 2):
            with pytest.raises((AttributeError, TypeError, ValueError)):
                view.split = split
        with pytest.raises((AttributeError, TypeError, SealedError)):
            SealKeeper(view.view, lambda opening: None).open(Split.SCORE, claim="mine", polarity="+", by="me")


class Confused(Adversary):
    """Tells of an experiment on a sealed context, to have it looked up for the record."""

    name = "confused"

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        example = {"context": min(self.judge.sealed), "position": 1, "document": 0, "effects": []}
        event = {"window": 1, "replacements": 1, "silenced_at": 0.5, "seed": 0, "effects": [], "examples": [example]}
        recorder.event("edit_check", event)
        return self.honest.explain(evidence, recorder)


@pytest.fixture
def employ(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Adversary]], Adversary]:
    """Registers an explainer for the test, and returns the one that campaigns will get."""

    def go(kind: type[Adversary]) -> Adversary:
        one = kind()
        monkeypatch.setitem(registry._factories, kind.name, lambda: one)
        return one

    return go


Campaign = Callable[..., Notes]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds one index."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def judge(tiny: dict[str, Any], home: Path, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Knows what is sealed in that index, which an honest campaign has built."""
    spec = load_spec(None, {**tiny, "units": UNITS})
    run_campaign(spec, db=tmp_path_factory.mktemp("db") / "ng.db", home=home, observer=Notes())
    (manifest,) = home.glob("indexes/*/manifest.json")
    return Judge.of(open_index(manifest.parent))


@pytest.fixture
def campaign(tiny: dict[str, Any], judge: Judge, home: Path, tmp_path: Path) -> Campaign:
    """Runs a campaign on that index with another explainer."""

    def go(explainer: str) -> Notes:
        spec, notes = load_spec(None, {**tiny, "units": UNITS, "explainer": explainer, "max_failures": 1}), Notes()
        run_campaign(spec, db=tmp_path / "ng.db", home=home, observer=notes)
        assert len(list(home.glob("indexes/*/manifest.json"))) == 1
        return notes

    return go


UNITS = ["mlp:1:0-1", "head:1:0"]


def rows(path: Path, query: str) -> list[Any]:
    with sqlite3.connect(path) as connection:
        return connection.execute(query).fetchall()


def test_adversary_gets_nothing_sealed(
    campaign: Campaign, employ: Callable[[type[Adversary]], Adversary], judge: Judge, tmp_path: Path
) -> None:
    adversary = employ(Adversary)
    adversary.judge = judge
    notes = campaign("adversary")
    assert notes.failed == []
    assert notes.done
    assert adversary.asked >= len(UNITS)
    assert adversary.got == []
    # It heard the model at work, and the head's description was tested by passes over sealed text, unheard.
    scored = rows(tmp_path / "ng.db", "SELECT metric FROM scores JOIN descriptions d ON d.id = description_id")
    assert ("edge_mass",) in scored
    assert adversary.heard
    assert [what for ids in adversary.heard for what in judge.finds(ids)] == []
    # Nor does the record hold any sealed text.
    texts = rows(tmp_path / "ng.db", "SELECT split, document FROM examples")
    assert texts
    assert {split for split, _ in texts} <= set(OPEN_SPLITS)
    assert not {document for _, document in texts} & judge.documents


def test_experiment_on_a_sealed_context_is_refused(
    campaign: Campaign, employ: Callable[[type[Adversary]], Adversary], judge: Judge, tmp_path: Path
) -> None:
    employ(Confused).judge = judge
    notes = campaign("confused")
    assert notes.failed
    assert all("SealedError" in error for _, error in notes.failed)
    assert rows(tmp_path / "ng.db", "SELECT id FROM openings") == []


def test_second_opening_of_a_claim_is_refused_and_a_revised_claim_is_a_new_version(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[SealBrokenError] = []

    class Greedy(Desk):
        """Opens what it has opened, and then again for a claim that it has changed since."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            once = self.open_sealed

            def twice(claim: str, polarity: str, predictions: str | None) -> Any:
                view = once(claim, polarity, predictions)
                with pytest.raises(SealBrokenError, match="opened before") as caught:
                    once(claim, polarity, predictions)
                broken.append(caught.value)
                assert once(f"{claim}, revised", polarity, predictions).split == view.split
                return view

            self.open_sealed = twice

    monkeypatch.setattr("agent.workers.Desk", Greedy)
    run(units=["mlp:1:0-1"])
    found = rows(
        tmp_path / "ng.db",
        "SELECT claim, version, split, opened_by, created_at, investigation_id, polarity FROM openings ORDER BY id",
    )
    assert len(broken) * 2 == len(found) > 0
    for first, revised in zip(found[::2], found[1::2], strict=True):
        assert (first[1], revised[1]) == (1, 2)
        assert revised[0] == f"{first[0]}, revised"
        assert first[5:] == revised[5:]
    assert {row[2] for row in found} == {"score"}
    assert {row[3] for row in found} == {this_process()}
    assert all(row[4] for row in found)


KILLED_WITHIN = """
import json, os, signal, sys
from pathlib import Path
import agent.workers
from agent import Observer, load_spec, run_campaign

class Doomed(agent.workers.Desk):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        once = self.open_sealed
        def open_and_die(claim, polarity, predictions):
            once(claim, polarity, predictions)
            os.kill(os.getpid(), signal.SIGKILL)
        self.open_sealed = open_and_die

agent.workers.Desk = Doomed
options = json.loads(sys.argv[1])
run_campaign(load_spec(None, options["spec"]), db=options["db"], home=Path(options["home"]), observer=Observer())
"""


@pytest.mark.slow
def test_claim_that_was_opened_before_a_kill_is_the_same_opening_after_it(
    run: Callable[..., Any], tiny: dict[str, Any], tiny_home: Path, tmp_path: Path
) -> None:
    spec = {**tiny, "units": ["mlp:1:0"], "workers": 1}
    options = {"spec": spec, "db": str(tmp_path / "ng.db"), "home": str(tiny_home)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WITHIN, json.dumps(options)], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    query = "SELECT id, claim, polarity, version, split, created_at FROM openings ORDER BY id"
    holder = "SELECT opened_by, description_id FROM openings ORDER BY id"
    before, (held_before,) = rows(tmp_path / "ng.db", query), rows(tmp_path / "ng.db", holder)
    assert held_before[1] is None
    run(units=["mlp:1:0"], workers=1)
    after, held_after = rows(tmp_path / "ng.db", query), rows(tmp_path / "ng.db", holder)
    assert len(before) == 1
    assert after[0] == before[0]
    assert len(set(after)) == len({row[1:3] for row in after})
    assert held_after[0][0] == this_process() != held_before[0]
    assert held_after[0][1] is not None


def test_investigations_read_no_sealed_activations_before_they_open_the_seal(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threshold, triage, duplicates, rivals and marks: all are there before the first read of a sealed file."""
    order: list[str] = []
    real_open = SealKeeper.open
    steps = ("triage", "propose", "choose", "write", "score")
    real_enter = Desk.enter

    class Layout(PanelLayout):
        @classmethod
        def of(cls, texts: Any, panel: np.ndarray[Any, Any], which: int) -> PanelLayout:
            order.append(f"view {tuple(Split)[which]}")
            return PanelLayout.of(texts, panel, which)

    def opened(self: SealKeeper, split: Split, **names: Any) -> Any:
        order.append("opening")
        return real_open(self, split, **names)

    def enter(self: Desk, stage: str) -> Any:
        order.append(stage)
        return real_enter(self, stage)

    # Of those who read an index; whoever builds it, if no other test has, knows all splits.
    monkeypatch.setattr("tools.index.reader.PanelLayout", Layout)
    monkeypatch.setattr(SealKeeper, "open", opened)
    monkeypatch.setattr(Desk, "enter", enter)
    run(units=["mlp:1:0"], workers=1)
    assert [step for step in order if step in steps] == list(steps)
    assert order.index("view explore") < order.index("triage")
    assert "view audit" not in order
    assert order.index("view score") > order.index("opening") > order.index("score") > order.index("write")
