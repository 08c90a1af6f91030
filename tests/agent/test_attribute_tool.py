"""The typed tool `attribute`: what it is asked for, what it says, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.toolbox import Workbench, call
from tools.ablation import Reference
from tools.attribution import Options, TokenTarget, UnitTarget, attribute
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import unit_activations

TEXT = "Ann saw the red ball in the park."
OTHERS = ["Bob ate the green apple at home.", "My friend likes the small house on Monday."]


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def workbench(subject: Subject) -> Iterator[Workbench]:
    with Workbench.open(subject) as bench:
        yield bench


def used(workbench: Workbench, **arguments: Any) -> Any:
    result = call(workbench, "attribute", {"text": TEXT, **arguments})
    assert result.ok, result.error
    assert result.cost.forward_passes > 0
    return result


def test_a_unit_is_explained_where_it_is_strongest(workbench: Workbench) -> None:
    subject, ids, unit = workbench.subject, workbench.subject.encode(TEXT), UnitId("mlp:1", 3)
    result = used(workbench, target="mlp:1:3", reference=OTHERS, k=4, draws=4, seed=5)
    values = unit_activations(subject, [unit], [ids])[0][0]
    place = 1 + int(np.abs(values[1:]).argmax())
    assert result.data["position"] == place
    options = Options(reference=Reference.of(subject, OTHERS, ""), draws=4, window=48, seed=5)
    expected = attribute(subject, ids, UnitTarget(unit, place), "occlusion", options=options)
    order = expected.ranked()[:4]
    assert [row["position"] for row in result.data["parts"]] == [expected.positions[i] for i in order]  # type: ignore[index]
    assert [row["score"] for row in result.data["parts"]] == pytest.approx(expected.scores[order].tolist(), rel=1e-3)
    assert result.data["tried_out"]["insertion"] == pytest.approx(expected.check.insertion, rel=1e-3)  # type: ignore[union-attr]
    assert result.seed == 5
    assert "tried out" in result.summary
    again = used(workbench, target="mlp:1:3", reference=OTHERS, k=4, draws=4, seed=5)
    assert again.digest == result.digest


def test_the_likeliest_token_is_explained_where_none_is_named(workbench: Workbench) -> None:
    subject, ids = workbench.subject, workbench.subject.encode(TEXT)
    result = used(workbench, method="direct")
    logits = subject.capture(*subject.pad([ids]), [], logits=True).logits
    assert logits is not None
    best = int(logits[0, -1].argmax())
    expected = attribute(subject, ids, TokenTarget(best), "direct")
    assert result.data["value"] == pytest.approx(expected.value, rel=1e-3)
    assert result.data["kind"] == "component"
    units = used(workbench, units="mlp:1:*;head:1:*", k=3).data
    assert units["method"] == "ig"
    assert units["parts_in_all"] == 68
    assert {"part", "score", "strongest_at"} == set(units["parts"][0])


def test_an_anchor_says_what_is_enough(workbench: Workbench) -> None:
    result = used(workbench, target="mlp:1:3", method="anchor", reference=OTHERS, window=4)
    assert set(result.data["anchor"]) == {"positions", "precision", "bound", "certified", "base", "texts"}
    assert "texts drawn anew" in result.summary


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "mlp:9:3"}, "layers 0-2"),
        ({"target": "not one token"}, "single token"),
        ({"position": 99}, "beyond the text"),
        ({"target": "mlp:1:3", "wrong": "a"}, "belongs to a token"),
        ({"target": "mlp:1:3", "method": "normxlogit"}, "needs the head"),
        ({"method": "occlusion", "units": "mlp:1:*"}, "does not attribute to units"),
        ({"units": "mlp:1:*", "baseline": "mean"}, "needs reference texts"),
        ({"method": "guess"}, "do not fit"),
        ({"draws": 10_000}, "do not fit"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_an_answer(workbench: Workbench, arguments: dict[str, Any], words: str) -> None:
    result = call(workbench, "attribute", {"text": TEXT, **arguments})
    assert not result.ok
    assert words in str(result.error)
