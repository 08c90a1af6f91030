"""A finished campaign on other versions of its subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

import store
from agent import load_spec, run_campaign
from agent.recheck import Recheck, decide, recheck
from scorers.paired import Difference
from store.errors import StoreError
from tools.drift import Match, UnitMatch
from tools.errors import SubjectError
from tools.types import UnitId


def match(own: float, best: float, *, slope: float = 1.0) -> UnitMatch:
    unit = UnitId("mlp:1", 3)
    nothing = torch.zeros(1).numpy()
    return UnitMatch(unit, own, slope, Match(UnitId("mlp:1", 9), best), (), 1.0, nothing, nothing)


@pytest.mark.parametrize(
    ("own", "best", "slope", "high", "expected"),
    [
        (0.99, 0.3, 1.0, 0.02, ("stable", None)),
        (0.99, 0.99, 1.0, 0.02, ("stable", None)),
        (0.97, 0.3, 0.4, 0.02, ("weakened", None)),
        (0.95, 0.3, 1.0, -0.08, ("weakened", None)),
        (0.7, 0.3, 1.0, 0.0, ("weakened", None)),
        (-0.98, 0.3, 0.0, -0.8, ("moved", "mlp:1:3-")),
        (0.1, 0.98, 0.0, -0.8, ("moved", "mlp:1:9+")),
        (0.1, -0.98, 0.0, -0.8, ("moved", "mlp:1:9-")),
        (0.6, 0.98, 0.5, -0.8, ("moved", "mlp:1:9+")),
        (0.1, 0.4, 0.1, -0.8, ("gone", None)),
    ],
)
def test_the_status_follows_from_similarity_strength_and_loss(
    own: float, best: float, slope: float, high: float, expected: tuple[str, str | None]
) -> None:
    status, why, moved = decide(match(own, best), "+", slope, Difference(0.9, 0.9 + high, high - 0.05, high))
    assert (status, moved) == expected
    assert why


@pytest.fixture(scope="module")
def finished(tiny: dict[str, Any], tiny_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recheck") / "ng.db"
    spec = load_spec(None, {**tiny, "units": ["mlp:1:0-5", "head:1:0-1"], "controls": 0.0})
    summary = run_campaign(spec, db=path, home=tiny_home)
    assert summary is not None
    assert summary.status == "done"
    return path


def version(folder: Path, source: Path) -> Path:
    """Neurons 0 and 40 of layer 1 change places, neuron 1 is deleted; the rest is as it was."""
    model = GPT2LMHeadModel.from_pretrained(source)
    with torch.no_grad():
        mlp = model.transformer.h[1].mlp
        for tensor in (mlp.c_fc.weight.T, mlp.c_fc.bias, mlp.c_proj.weight):
            tensor[[0, 40]] = tensor[[40, 0]].clone()
        mlp.c_fc.weight[:, 1] = 0
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def by_unit(found: Recheck) -> dict[str, str]:
    return {f"{row.unit}{row.polarity}": row.status for row in found.rows}


@pytest.mark.slow
def test_edits_are_told_and_kept(finished: Path, tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    other = version(tmp_path / "other", tiny_gpt2_folder)
    with store.open_database(finished) as db:
        found = recheck(db, "tiny", str(other), device="cpu")
        statuses = by_unit(found)
        assert {status for unit, status in statuses.items() if unit.startswith("mlp:1:0")} == {"moved"}
        assert {row.moved_to for row in found.rows if row.unit == "mlp:1:0"} <= {"mlp:1:40+", "mlp:1:40-"}
        assert {status for unit, status in statuses.items() if unit.startswith("mlp:1:1")} == {"gone"}
        rest = {status for unit, status in statuses.items() if not unit.startswith(("mlp:1:0", "mlp:1:1"))}
        assert rest == {"stable"}
        kept = store.rechecks_of(db, campaign="tiny")
        assert {f"{row.unit}{row.polarity}": row.status for row in kept} == statuses
        assert kept[0].subject == found.subject
        [one] = [row for row in store.rechecks_of(db, unit="mlp:1:1") if row.polarity == "+"] or [None]
        assert one is None or one.f1_new == 0
        assert sum(found.counts.values()) == len(found.rows)


@pytest.mark.slow
def test_another_number_format_raises_no_alarm(finished: Path, tiny_gpt2_folder: Path) -> None:
    with store.open_database(finished) as db:
        found = recheck(db, "tiny", str(tiny_gpt2_folder), device="cpu", dtype="bfloat16")
    assert set(by_unit(found).values()) == {"stable"}
    assert found.delta < 0.05


@pytest.mark.slow
def test_what_cannot_be_rechecked_is_told(finished: Path, tiny_gpt2_folder: Path) -> None:
    with store.open_database(finished) as db:
        with pytest.raises(SubjectError, match="very subject"):
            recheck(db, "tiny", str(tiny_gpt2_folder), device="cpu")
        with pytest.raises(StoreError, match="no campaign"):
            recheck(db, "other", str(tiny_gpt2_folder), device="cpu")
        with pytest.raises(StoreError, match="no tested descriptions"):
            recheck(db, "tiny", str(tiny_gpt2_folder), device="cpu", dtype="bfloat16", only="untested")
