"""The benchmark of generated functions: its measures, its references, and a small run of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import store
from benchmarks.find.measure import Ground, nmse
from benchmarks.find.references import OracleExplainer, RandomExplainer
from benchmarks.find.run import run, summarise, table
from explainers.types import Evidence, NullRecorder
from neurogloss.render.page import describe_place
from store.queries import find_units, unit_page
from tools.functions import FindSpec, FunctionTruth, build, load_truth
from tools.subject import load_subject
from tools.types import UnitId

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return build(FindSpec())


@pytest.fixture(scope="module")
def truth(folder: Path) -> dict[str, FunctionTruth]:
    return load_truth(folder)


@pytest.fixture(scope="module")
def ground(folder: Path, truth: dict[str, FunctionTruth]) -> Ground:
    return Ground(load_subject(str(folder), device="cpu"), FindSpec(), list(truth.values()))


def evidence(unit: str) -> Evidence:
    return Evidence(UnitId.parse(unit), "+", None, None, None, 0.5, seed=0)  # type: ignore[arg-type]


def test_nmse_by_hand_and_an_undefined_prediction_is_infinitely_wrong() -> None:
    y = np.array([1.0, -2.0, 2.0])
    assert nmse(y, np.array([1.0, -2.0, 1.0])) == pytest.approx(1 / 9)
    assert nmse(y, np.zeros(3)) == 1
    assert nmse(y, np.array([1.0, np.nan, 2.0])) == math.inf
    assert nmse(np.zeros(2), np.zeros(2)) == 0


def test_the_oracle_succeeds_on_every_function_and_is_off_by_the_noise_alone(
    folder: Path, truth: dict[str, FunctionTruth], ground: Ground
) -> None:
    oracle = OracleExplainer(truth=str(folder))
    for unit, one in truth.items():
        (told,) = oracle.explain(evidence(unit), NullRecorder())
        mark = ground.mark(unit, told.details, oracle, {}, [])
        assert mark.success, unit
        if one.noise == 0:
            assert mark.nmse == pytest.approx(0, abs=1e-9)
        if one.corruption is not None:
            assert mark.overlap == 1
            assert mark.local_success
        assert not mark.false_part


def test_random_functions_succeed_on_at_most_one_in_ten(truth: dict[str, FunctionTruth], ground: Ground) -> None:
    explainer = RandomExplainer()
    marks = [
        ground.mark(u, explainer.explain(evidence(u), NullRecorder())[0].details, explainer, {}, []) for u in truth
    ]  # fmt: skip
    assert np.mean([mark.success for mark in marks]) <= 0.1
    assert np.mean([mark.local_success for mark in marks if mark.overlap is not None]) <= 0.1


def test_a_formula_right_everywhere_but_in_the_corrupted_part_fails_there(
    truth: dict[str, FunctionTruth], ground: Ground
) -> None:
    unit, one = next((u, t) for u, t in truth.items() if t.category == "corrupted" and t.corruption.instead is not None)  # type: ignore[union-attr]
    details = {"formula": str(one.formula * one.scale)}
    mark = ground.mark(unit, details, RandomExplainer(), {}, [])
    assert mark.local_nmse is not None
    assert mark.local_nmse > 0.1
    assert not mark.local_success
    assert mark.overlap == 0


def test_a_part_named_where_nothing_is_corrupted_is_counted(truth: dict[str, FunctionTruth], ground: Ground) -> None:
    unit = next(u for u, t in truth.items() if t.category == "atom")
    details = {"formula": "1", "interval": [None, -100.0]}
    assert ground.mark(unit, details, RandomExplainer(), {}, []).false_part


def test_a_formula_that_cannot_be_read_counts_as_wrong(ground: Ground) -> None:
    for text in ("import os", "length()", "log(x)"):
        mark = ground.mark("fn:numeric:0", {"formula": text}, RandomExplainer(), {}, [])
        assert mark.nmse == math.inf
        assert not mark.success
        assert mark.to_json()["nmse"] is None
    assert ground.mark("fn:numeric:0", {}, RandomExplainer(), {}, []).nmse is None


def test_inputs_asked_that_were_held_out_are_counted(ground: Ground) -> None:
    mark = ground.mark("fn:numeric:0", {}, RandomExplainer(), {}, ["1", "1.5", "-2", "-2.5"])
    assert (mark.queries, mark.held_out_queries) == (4, 2)


def test_a_campaign_of_the_symbolic_explainer_is_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent.parent.parent))
    settings = {
        "panel": {"explore_tokens": 6000, "refine_tokens": 1500, "score_tokens": 1500, "audit_tokens": 500},
        "resamples": 50,
    }
    spec = FindSpec(documents=400)
    marks, seconds = run("symbolic", spec, tmp_path, sample=2, settings=settings)
    assert len(marks) == 4
    assert seconds > 0
    assert sum(mark.success for mark in marks) >= 3
    assert all(mark.queries > 0 and mark.held_out_queries == 0 for mark in marks)
    assert all(mark.f1 is not None for mark in marks)
    rows = summarise(marks)
    assert rows[-1]["functions"] == 4
    assert rows[-1]["success"] == np.mean([mark.success for mark in marks])
    assert "success" in table(rows)
    json.dumps(rows)
    with store.open_database(tmp_path / "symbolic.db") as db:
        numeric = [found.unit.unit for found in find_units(db, "fn:numeric:*")]
        assert set(numeric) == {mark.unit for mark in marks if mark.domain == "numeric"}
        assert find_units(db, "fn:other:*") == []
        page = unit_page(db, numeric[0])
        assert describe_place(page.unit) == f"function {page.unit.unit_index} of numbers"
        assert {row.kind for row in page.experiments} == {"queries", "predictions"}


@pytest.mark.slow
def test_the_command_prints_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.find", "--explainer", "find-oracle", "--sample", "3", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["explainers"]["find-oracle"]["summary"][-1]["success"] == 1.0
