"""The typed tools `ablate`, `patch`, `path_patch` and `circuit`: what they answer, cost, refuse and leave on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.toolbox import Workbench, call
from tests.tools.patching.test_sweep import IOI
from tools.ablation import Reference
from tools.ablation import ablate as ablate_sets
from tools.corpora import load_corpus
from tools.index import IndexSettings, build_index
from tools.patching import encode_pairs, sweep
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId

TEXTS = ["Ann saw the red ball in the park.", "Bob ate the green apple at home."]
PAIRS = [{"clean": p.clean, "corrupt": p.corrupt, "answer": p.answer, "wrong": p.wrong} for p in IOI]
USES: dict[str, dict[str, Any]] = {
    "ablate": {"units": ["head:0:1", "mlp:1:2-4"], "texts": TEXTS, "kind": "mean"},
    "patch": {"pairs": [{"clean": "Ann saw the red ball", "corrupt": "Bob saw the red ball"}], "positions": "each"},
    "path_patch": {"task": "induction", "n": 3, "senders": ["head:0:1", "mlp:0"],
                   "receivers": ["logits", "head:2:0:q+head:2:0:k"]},
    "decompose": {"task": "induction", "n": 3, "sources": ["head:0:1", "mlp:0"]},
    "circuit": {"task": "induction", "n": 40, "draws": 2, "tolerance": 0.4},
}  # fmt: skip


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def workbench(subject: Subject) -> Iterator[Workbench]:
    with Workbench.open(subject) as bench:
        yield bench


@pytest.fixture(scope="module")
def planted() -> Iterator[Workbench]:
    with Workbench.open(load_subject("planted", device="cpu")) as bench:
        yield bench


@pytest.mark.slow
@pytest.mark.parametrize("name", USES)
def test_tools_answer_alike_each_time_and_say_what_it_took(workbench: Workbench, name: str) -> None:
    first, second = (call(workbench, name, USES[name]) for _ in range(2))
    assert first.error is None
    assert first.digest == second.digest
    assert first.summary
    assert len(first.message()) < 24_000
    assert first.cost.forward_passes > 1
    assert first.cost.tokens > 10
    record = first.experiment()
    assert record.status == "done"
    assert record.arguments["subject"] == workbench.subject.fingerprint
    assert record.seed == 0


def test_ablate_measures_what_the_function_measures(workbench: Workbench, subject: Subject) -> None:
    result = call(workbench, "ablate", {"units": ["head:0:1", "mlp:1:3"], "texts": TEXTS, "kind": "mean", "k": 3})
    sequences = [subject.encode(text) for text in TEXTS]
    reference = Reference(tuple(map(tuple, sequences)), "the texts themselves")
    sets = [[UnitId.parse("head:0:1")], [UnitId.parse("mlp:1:3")]]
    truth = ablate_sets(subject, sets, sequences, "mean", reference)
    assert result.data["reference"] == reference.to_json()
    for row, one in zip(result.data["effects"], truth.effects, strict=True):
        assert row["kl"] == pytest.approx(one.kl, rel=1e-3)
        assert row["loss_change"] == pytest.approx(one.loss_change, rel=1e-3)
        assert len(row["lowered"]) == 3


def test_ablate_takes_its_reference_from_the_open_split_of_an_index(
    subject: Subject, tiny_corpus_file: Path, tmp_path: Path
) -> None:
    settings = IndexSettings(context=32, panel_tokens={Split.EXPLORE: 2000, Split.REFINE: 1000})
    index = build_index(subject, load_corpus(str(tiny_corpus_file)), [UnitId("mlp:1", 0)], tmp_path, settings)
    with Workbench.open(subject, index=index) as bench:
        result = call(bench, "ablate", {"units": ["head:0:1"], "texts": TEXTS})
    assert result.ok, result.error
    assert "explore split" in result.data["reference"]["source"]
    assert result.data["reference"]["contexts"] > 10


@pytest.mark.slow
def test_patch_tells_the_strongest_places_of_both_directions(planted: Workbench) -> None:
    result = call(planted, "patch", {"pairs": PAIRS, "site": "head_z", "positions": "each"})
    truth = sweep(planted.subject, encode_pairs(planted.subject, IOI), "head_z", channels="each")
    for direction in ("denoising", "noising"):
        best = result.data[direction][0]
        effects = truth.direction(direction)["logit_difference"].values
        assert abs(best["effect"]) == pytest.approx(abs(effects).max(), rel=1e-3)
    found = {(r["layer"], r["channel"], r["token"]) for r in result.data["noising"] if r["detected"]}
    assert found == {(0, 3, " Anna"), (1, 2, " to"), (2, 0, " to")}


def test_patch_screens_by_gradients_and_corrupts_by_noise(workbench: Workbench) -> None:
    result = call(workbench, "patch", {"task": "induction", "n": 3, "site": "resid_mid", "positions": "each",
                                       "screen": 4})  # fmt: skip
    assert result.ok, result.error
    assert len(result.data["noising"]["checked"]) == 8
    noise = {"pairs": [{"clean": "Ann saw the red ball"}], "site": "mlp_out", "noise_positions": [2], "draws": 3}
    result = call(workbench, "patch", noise)
    assert result.ok, result.error
    assert result.data["draws"] == 3


@pytest.mark.slow
def test_paths_and_the_circuit_are_those_that_were_planted(planted: Workbench) -> None:
    result = call(planted, "path_patch", {"pairs": PAIRS, "senders": ["head:0:3", "head:0:0", "head:1:2"],
                                          "receivers": ["head:1:2:k", "head:2:0:q", "logits"]})  # fmt: skip
    top = [(row["from"], row["to"]) for row in result.data["noising"] if abs(row["effect"]) > 0.2]
    assert sorted(top) == [("head:0:3", "head:1:2:k"), ("head:1:2", "head:2:0:q")]
    result = call(planted, "circuit", {"task": "ioi", "n": 8, "draws": 4})
    assert [node["name"] for node in result.data["nodes"]] == ["head:0:3", "head:1:2", "head:2:0"]
    assert result.data["faithfulness"] > 0.95


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("ablate", {"units": ["mlp:1:999"], "texts": TEXTS}, "units"),
        ("ablate", {"units": ["mlp:*:*"], "texts": TEXTS * 20, "draws": 64}, "Name fewer"),
        ("patch", {"site": "head_z"}, "pairs or a task"),
        ("patch", {"task": "induction", "pairs": PAIRS}, "pairs or a task"),
        ("patch", {"pairs": [{"clean": "a", "corrupt": "a b c d e"}]}, "equal numbers"),
        ("patch", {"task": "induction", "layers": [7]}, "layers 0-2"),
        ("patch", {"task": "induction", "positions": [300]}, "Position 300"),
        (
            "patch",
            {"task": "induction", "n": 99, "positions": "each", "site": "mlp_act", "channels": "each"},
            "5,000",
        ),
        ("patch", {"task": "induction", "window": 2, "screen": 3}, "single layers"),
        ("path_patch", {"task": "induction", "senders": ["mlp:0:64"], "receivers": ["logits"]}, "0-63"),
        ("path_patch", {"task": "induction", "senders": ["sae:none:3"], "receivers": ["logits"]}, "no dictionary"),
        ("circuit", {"task": "induction", "n": 40, "latents": 3}, "no dictionary"),
        ("circuit", {"task": "induction", "n": 40, "units": ["dir:none"]}, "dir"),
        ("path_patch", {"task": "induction", "senders": ["head:0:1"], "receivers": ["nothing"]}, "receives nothing"),
        ("circuit", {"task": "ioi"}, "tokens"),
        ("circuit", {"pairs": PAIRS[:1]}, "tokens"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_an_answer(
    workbench: Workbench, name: str, arguments: dict[str, Any], words: str
) -> None:
    result = call(workbench, name, arguments)
    assert result.error is not None
    assert words in result.error
    assert len(result.error.splitlines()) <= 3
    assert result.experiment().status == "failed"
