"""Blind controls: they run among the units, nobody who works on them can tell, and the end of the campaign shows them.

The subject is a random model, of which anything learned is as true as of its twin; so the explainers here are made for
the test and say of a unit what the test wants said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import explainers.registry
import store
from agent import load_spec, resume_spec
from agent.controls import APPLIES, plan_controls, queue, twin_seed
from explainers.types import Evidence, Explanation, Recorder, TextSource
from scorers.simulation import SCORERS, score_simulation
from scorers.types import Score
from store.records import UnitRecord
from store.work import ControlRecord
from tools.index.reader import SplitView
from tools.types import FloatArray, IntArray, Split, UnitId
from tools.units import unit_activations

Run = Callable[..., Any]
UNITS = [*(UnitId("mlp:1", i) for i in range(6)), *(UnitId("head:1", i) for i in range(2))]
PATTERNS = ["mlp:1:0-5", "head:1:0-1"]


class Memory:
    """Predicts what it was told of each position, and nothing anywhere else."""

    name = "memory"

    def __init__(self, known: Sequence[Sequence[float]]) -> None:
        self.known = {(int(context), int(position)): value for context, position, value in known}

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        found = [self.known.get(key, 0.0) for key in zip(contexts.tolist(), positions.tolist(), strict=True)]
        return np.array(found, dtype=np.float32)


class Memoriser:
    """Describes a unit by a list of where it was active: on explore, or where it has no business to look."""

    name = "memoriser"
    seen: list[Evidence]

    def __init__(self, leaking: bool = False) -> None:
        self.leaking = leaking
        type(self).seen = []

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        type(self).seen.append(evidence)
        view: Any = evidence.explore
        if self.leaking:
            # By foul means: the files of the other splits lie beside those of this one.
            sealed = SplitView(view._contents, Split.SCORE)
            view = type(view)(sealed, view._cast)
        sample = view.sample(evidence.unit)
        values = evidence.sign * sample.values
        active = values > evidence.threshold
        known = [
            [int(c), int(p), float(v)]
            for c, p, v in zip(sample.contexts[active], sample.positions[active], values[active], strict=True)
        ]
        return [Explanation(self.name, "a list", "Where it was.", None, None, None, {"known": known, "literals": 1})]

    def predictor(self, explanation: Explanation) -> Memory:
        return Memory(explanation.details["known"])


Calls = list[dict[str, Any]]
CALLS: Calls = []


def inspecting(predictor: Any, view: Any, unit: UnitId, polarity: str, threshold: float, **given: Any) -> Any:
    """The ordinary scorer, which also notes what it was given."""
    CALLS.append({"predictor": predictor, "view": view, "unit": unit, "given": given})
    return score_simulation(predictor, view, unit, polarity, threshold, **given)


def gullible(predictor: Any, view: Any, unit: UnitId, polarity: str, threshold: float, **given: Any) -> Any:
    """Finds everything excellent."""
    return tuple(
        Score(
            scorer="gullible", metric=metric, value=0.97, low=0.9, high=1.0, n_examples=900, n_documents=90,
            n_active=50, null_mean=0.02, p_value=0.0005, split=str(view.split), predictor=predictor.name,
            protocol_hash="g", headline=True,
        )
        for metric in ("f1", "average_precision", "pearson")
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    explainers.registry.names()
    explainers.registry._factories["memoriser"] = Memoriser
    SCORERS.add("inspecting", inspecting)
    SCORERS.add("gullible", gullible)
    yield
    del explainers.registry._factories["memoriser"]
    for name in ("inspecting", "gullible"):
        del SCORERS._entries[name]


def spec_of(tiny: Mapping[str, Any], **changes: Any) -> Any:
    return load_spec(None, {**tiny, "units": PATTERNS, "controls": 0.1, **changes})


# --- which controls there are


def test_there_is_a_control_of_each_kind_and_they_follow_from_the_seed(tiny: dict[str, Any]) -> None:
    spec = spec_of(tiny)
    planned = plan_controls(spec, UNITS)
    assert sorted(control.kind for control in planned) == sorted(APPLIES)
    assert planned == plan_controls(spec, UNITS)
    assert planned != plan_controls(spec_of(tiny, seed=1), UNITS)
    assert {control.of for control in planned} <= set(UNITS)
    assert len({control.unit for control in planned}) == len(planned)
    assert plan_controls(spec_of(tiny, controls=0), UNITS) == ()


def test_their_number_is_the_share_that_was_asked_for(tiny: dict[str, Any]) -> None:
    units = [UnitId("mlp:0", i) for i in range(200)]
    kinds = [control.kind for control in plan_controls(spec_of(tiny), units)]
    assert {kind: kinds.count(kind) for kind in APPLIES} == {
        "shuffled": 6, "direction": 6, "swapped": 6, "constant": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("units", "kinds"),
    [
        ([UnitId("head:0", 0), UnitId("head:0", 1)], {"shuffled", "swapped", "constant"}),
        ([UnitId("head:0", 0)], {"shuffled", "constant"}),
        ([UnitId("mlp:0", 0), UnitId("mlp:1", 0)], {"shuffled", "direction", "constant"}),
        ([UnitId("dir:mine", 0)], set()),
    ],
)
def test_a_kind_that_does_not_apply_is_left_out(tiny: dict[str, Any], units: list[UnitId], kinds: set[str]) -> None:
    assert {control.kind for control in plan_controls(spec_of(tiny), units)} == kinds


def test_controls_stand_anywhere_among_the_units_whose_order_stays(tiny: dict[str, Any]) -> None:
    units = [UnitId("mlp:0", i) for i in range(200)]
    spec = spec_of(tiny)
    records = [UnitRecord(str(unit), 0) for unit in units]
    mixed = queue(spec, records, plan_controls(spec, units), lambda unit: 0)
    assert [record for record in mixed if isinstance(record, UnitRecord)] == records
    places = np.array([place for place, record in enumerate(mixed) if isinstance(record, ControlRecord)])
    assert len(places) == 20
    assert places.min() < 60
    assert places.max() > 160
    assert (np.diff(places) > 1).sum() > 12


# --- nobody can tell


@pytest.fixture(scope="module")
def inspected(
    tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Evidence], Calls, Path]:
    """What explainers and scorers were handed in a campaign in which every other investigation is a control's."""
    from agent import run_campaign

    path = tmp_path_factory.mktemp("inspected") / "ng.db"
    CALLS.clear()
    spec = spec_of(tiny, controls=1.0, explainer="memoriser", scorer="inspecting")
    summary = run_campaign(spec, db=path, home=tiny_home)
    assert summary is not None
    assert summary.status == "done"
    assert summary.outcome is not None
    assert summary.outcome["controls"]["controls"] == 8
    return list(Memoriser.seen), list(CALLS), path


def public(thing: Any) -> dict[str, str]:
    """Public attributes of an object that are no methods, as text."""
    names = [name for name in dir(thing) if not name.startswith("_")]
    return {name: repr(value) for name in names if not callable(value := getattr(thing, name))}


@pytest.mark.slow
def test_an_inspecting_explainer_sees_nothing_that_tells_a_control(
    inspected: tuple[list[Evidence], Calls, Path],
) -> None:
    seen, _, _ = inspected
    real = {str(unit) for unit in UNITS}
    times: dict[str, int] = defaultdict(int)
    for evidence in seen:
        times[f"{evidence.unit}{evidence.polarity}"] += 1
    assert {str(evidence.unit) for evidence in seen} <= real
    assert max(times.values()) > 1, "controls came under the ids of real units"
    first = seen[0]
    for evidence in seen:
        for field in fields(Evidence):
            one, other = getattr(first, field.name), getattr(evidence, field.name)
            assert type(one) is type(other) or field.name in ("edges", "written", "promotion"), field.name
            text = f"{field.name} {public(other)} {other!r}".lower()
            for word in ("dir:", "control", "shuffl", "swap", "constant", "twin"):
                assert word not in text.replace("checkpoint", ""), (word, evidence.unit, field.name)
        assert evidence.subject is not None
        assert first.subject is not None
        own, shown = public(first.subject), public(evidence.subject)
        assert own.keys() == shown.keys()
        for name in ("name", "fingerprint", "directions", "n_layers", "d_model", "context", "vocabulary", "device"):
            assert own[name] == shown[name], name
        assert vars(first.subject).keys() == vars(evidence.subject).keys()
        assert vars(first.explore).keys() == vars(evidence.explore).keys()
        assert evidence.explore.texts.pieces(int(evidence.explore.panel_contexts[0]))


def test_an_inspecting_scorer_sees_nothing_that_tells_a_control(
    inspected: tuple[list[Evidence], Calls, Path],
) -> None:
    _, calls, _ = inspected
    first = calls[0]
    for call in calls:
        assert str(call["unit"]) in {str(unit) for unit in UNITS}
        assert type(call["predictor"]) is type(first["predictor"])
        assert type(call["view"]) is type(first["view"])
        assert vars(call["view"]).keys() == vars(first["view"]).keys()
        assert call["given"].keys() == first["given"].keys()
        group = sum(unit.group == call["unit"].group for unit in UNITS)
        assert len(call["given"]["null_units"]) == min(4, group - 1)
        told = repr({**call, "view": public(call["view"])}).lower().replace(__name__.rpartition(".")[2], "")
        assert "control" not in told


def test_index_and_forward_passes_agree_on_what_stands_in_for_a_unit(
    inspected: tuple[list[Evidence], Calls, Path],
) -> None:
    """An explainer that edits text and looks at the subject finds the control there as well."""
    different = 0
    for evidence in inspected[0]:
        if evidence.unit.kind != "mlp" or evidence.subject is None:
            continue
        view: Any = evidence.explore
        context = int(view.panel_contexts[0])
        [run] = unit_activations(evidence.subject, [evidence.unit], [view.texts.ids(context).tolist()])
        kept = view.panel(evidence.unit)[0, : run.shape[1]]
        np.testing.assert_allclose(run[0, 1:], kept[1:], atol=2e-4)
        plain = view._source.__func__  # the real unit's numbers, past what stands in for it
        assert plain is not None
        real = SplitView(view._contents, Split.EXPLORE).panel(evidence.unit)[0, : run.shape[1]]
        different += not np.allclose(kept, real, atol=1e-3)
    assert different, "some of the evidence was of random directions"


def test_the_database_keeps_controls_apart_and_says_how_to_make_them_again(
    inspected: tuple[list[Evidence], Calls, Path], tiny: dict[str, Any]
) -> None:
    spec = spec_of(tiny, controls=1.0)
    with store.open_database(inspected[2]) as db:
        rows = store.control_rows(db, "tiny")
        assert {row.control for row in rows} == set(APPLIES)
        assert [row.status for row in rows if row.control == "constant"] == ["skipped"]
        assert {row.status for row in rows if row.control != "constant"} <= {"done", "skipped"}
        assert len(store.best_descriptions(db, limit=None)) == len(store.campaign_evidence(db, "tiny", controls=False))
        assert {found.unit.unit for found in store.find_units(db, limit=None)} == {str(unit) for unit in UNITS}
        made = {row.control: store.unit_page(db, row.unit).statistics["control"] for row in rows}
        assert made["shuffled"]["shuffle_seed"] == twin_seed(spec)
        assert made["direction"]["site"] == "mlp_act.1"
        assert made["direction"]["length"] == pytest.approx(1.0)
        assert set(made["swapped"]) == {"described", "tested"}
        assert made["constant"]["level"] > 0
        # What is known of a real unit is what its own investigation found.
        unit = store.unit_page(db, rows[0].control_of)
        assert "control" not in unit.statistics
        assert len(unit.investigations) == 1


def test_a_swapped_description_is_tested_on_the_unit_that_it_was_not_made_of(
    inspected: tuple[list[Evidence], Calls, Path],
) -> None:
    with store.open_database(inspected[2]) as db:
        swapped = [row for row in store.control_rows(db, "tiny") if row.control == "swapped"]
        for row in swapped:
            made = store.unit_page(db, row.unit).statistics["control"]
            assert made["tested"] == row.control_of != made["described"]
            assert made["tested"].rpartition(":")[0] == made["described"].rpartition(":")[0]
        tested = {str(call["unit"]) for call in inspected[1]}
        assert {row.control_of for row in swapped if row.verdicts} & tested


# --- what they bring to light


def outcome(run: Run, **changes: Any) -> dict[str, Any]:
    summary, _ = run(units=PATTERNS, controls=0.5, explainer="memoriser", **changes)
    assert summary.status == "done"
    found: dict[str, Any] = summary.outcome
    return found


def test_an_honest_scorer_accepts_no_control(run: Run, tmp_path: Path) -> None:
    fared = outcome(run)["controls"]
    assert (fared["controls"], fared["thrown_out"], fared["accepted"], fared["excess"]) == (4, 1, 0, False)
    assert fared["claims"] >= 3
    with store.open_database(tmp_path / "ng.db") as db:
        assert not any(row.accepted for row in store.control_rows(db, "tiny"))


def test_a_gullible_scorer_accepts_the_controls_and_is_caught(run: Run, tmp_path: Path) -> None:
    found = outcome(run, scorer="gullible")
    fared = found["controls"]
    assert fared["accepted"] == fared["claims"] >= 3
    assert fared["excess"]
    assert fared["p_value"] < 0.01
    assert fared["low"] > 0.25
    assert {kind: row["accepted"] > 0 for kind, row in fared["kinds"].items()} == {
        "shuffled": True, "direction": True, "swapped": True, "constant": False,
    }  # fmt: skip
    assert found["expected_false_by_controls"] == found["accepted"], "every accepted one may be false"
    with store.open_database(tmp_path / "ng.db") as db:
        controls = [row for row in store.campaign_evidence(db, "tiny") if row.control and row.tested]
        assert {row.verdict_input for row in controls} == {"supported"}


def test_an_explainer_that_was_leaked_the_sealed_data_is_caught(run: Run) -> None:
    fared = outcome(run, explainer_options={"leaking": True})["controls"]
    assert fared["excess"]
    assert fared["kinds"]["shuffled"]["accepted"] == fared["kinds"]["shuffled"]["claims"] > 0
    assert fared["kinds"]["direction"]["accepted"] == fared["kinds"]["direction"]["claims"] > 0
    # It learns the answers of the unit that it describes, which is not the one that is asked about.
    assert fared["kinds"]["swapped"]["accepted"] == 0


# --- the campaign around them


def test_nobody_is_told_of_a_control_while_the_campaign_runs(run: Run) -> None:
    summary, notes = run(units=PATTERNS, controls=0.5, explainer="memoriser")
    assert {done.unit for done in notes.done} <= {str(unit) for unit in UNITS}
    assert (summary.tally.total, summary.tally.done) == (8, 8)
    tails = [(done.unit, done.polarity) for done in notes.done]
    assert len(tails) == len(set(tails))
    assert notes.estimates[0].controls == 4


@pytest.mark.slow
def test_a_budget_of_units_is_not_spent_on_controls(run: Run, tmp_path: Path) -> None:
    some, _ = run(units=PATTERNS, controls=0.5, explainer="memoriser", budget={"units": 3})
    assert (some.status, some.tally.done, some.spent["units"], some.outcome) == ("stopped: budget", 3, 3, None)
    # The last unit's number is reached, and what is left are controls: they are still done, and the campaign closes.
    rest, _ = run(units=PATTERNS, controls=0.5, explainer="memoriser", budget={"units": 8})
    assert (rest.status, rest.tally.done) == ("done", 8)
    with store.open_database(tmp_path / "ng.db") as db:
        assert {row.status for row in store.control_rows(db, "tiny")} <= {"done", "skipped"}


def test_a_campaign_from_before_controls_goes_on_without_them(tiny: dict[str, Any], tmp_path: Path) -> None:
    before = load_spec(None, {**tiny, "controls": 0})
    plan = before.model_dump(mode="json", exclude={"name", "workers", "budget"})
    for name in ("controls", "scorer", "scoring", "error_method"):
        del plan[name]
    with store.open_database(tmp_path / "ng.db") as db:
        known = store.create_campaign(db, "tiny", plan, before.spec_hash, budget={})
        spec = resume_spec(known)
    assert spec.controls == 0
    assert spec.spec_hash == known.spec_hash
