"""``neurogloss ablate``, ``patch`` and ``circuit``: pages of 80 columns, JSON, pictures, bad requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from neurogloss.render.circuit import circuit_graph
from tools.ablation import Reference, ablate
from tools.circuits import Circuit, CircuitEdge, CircuitNode, Criteria, task
from tools.patching import all_nodes, decompose, sweep
from tools.subject import load_subject
from tools.types import UnitId

Run = Callable[..., Any]
TEXTS = ["--text", "Ann saw the red ball in the park.", "--text", "Bob ate the\tgreen apple at home."]
PAIR = ["--clean", "Ann saw the red ball", "--corrupt", "Bob saw the red ball"]
CALLS: dict[str, list[str]] = {
    "ablate": ["ablate", "head:*:*", *TEXTS, "--kind", "zero"],
    "ablate one": ["ablate", "mlp:1:3", *TEXTS, "--kind", "mean"],
    "ablate together": ["ablate", "mlp:1:0-9", *TEXTS, "--kind", "zero", "--together"],
    "patch heads": ["patch", "induction", "-n", "4"],
    "patch positions": ["patch", *PAIR, "--site", "resid_post", "--metric", "kl"],
    "patch heads by position": ["patch", *PAIR, "--positions", "each"],
    "patch windows": ["patch", *PAIR, "--site", "mlp_out", "--window", "2", "--positions", "2,3"],
    "patch by noise": ["patch", "--clean", "Ann saw the red ball", "--noise-at", "2", "--draws", "3"],
    "screen": ["patch", "induction", "-n", "3", "--screen", "5", "--positions", "each"],
    "paths": ["patch", "induction", "-n", "3", "--from", "head:0:1", "--to", "head:2:0:q", "--to", "logits"],
    "all paths": ["patch", "induction", "-n", "3", "--to", "logits", "--hold-mlps"],
    "decomposition": ["patch", "induction", "-n", "3", "--decompose"],
    "decomposition of some": ["patch", *PAIR, "--decompose", "--from", "head:1:2", "--attention", "values"],
    "circuit": ["circuit", "induction", "-n", "40", "--draws", "2", "--tolerance", "0.4"],
    "circuit of units": ["circuit", "induction", "-n", "40", "--draws", "2", "--tolerance", "0.4", "--no-heads",
                         "--unit", "mlp:1:3", "--unit", "mlp:2:5", "--unit", "head:1:1"],
    "circuit with more": ["circuit", "induction", "-n", "40", "--draws", "2", "--tolerance", "0.4", "--mlps",
                          "--neurons", "2", "--ablation", "mean"],
}  # fmt: skip


@pytest.fixture
def on_tiny(run: Run, tiny_gpt2_folder: Path) -> Run:
    return lambda *args, **kwargs: run(*args, "--subject", str(tiny_gpt2_folder), **kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_pages_fit_80_columns_and_json_is_all_there_is(on_tiny: Run, name: str) -> None:
    answer = on_tiny(*CALLS[name])
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "\x1b" not in answer.out
    told = on_tiny(*CALLS[name], "--json")
    assert told.code == 0, told.err
    assert told.out.isascii()
    assert json.loads(told.out)["fingerprint"]


@pytest.mark.parametrize(
    "name", ["ablate", "patch heads", "patch heads by position", "screen", "paths", "decomposition", "circuit"]
)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures_are_drawn(on_tiny: Run, tmp_path: Path, name: str, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    answer = on_tiny(*CALLS[name], "--plot", str(file))
    assert answer.code == 0, answer.err
    assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_of_many_parts_a_circuit_s_figure_has_the_strongest() -> None:
    nodes = tuple(CircuitNode(f"sae:res:{100 + i}", 2, (-1) ** i * i / 100, 0.0, None, None) for i in range(30))
    edges = (CircuitEdge("sae:res:129", "logits", 0.3), CircuitEdge("sae:res:101", "logits", 0.2))
    criteria = Criteria(1.0, 0.0, 1.0, 1.0, 0.1, (), (), (), ())
    circuit = Circuit(nodes, edges, criteria, (), "zero", None, 0.05, 2, 2, 1.0, 0.0, (), 9, 0)
    graph = circuit_graph(circuit, "a task")
    shown = [node.name for node in graph.nodes][:-1]
    assert shown == [f"sae:res:{i}" for i in range(130 - len(shown), 130)]
    assert 4 < len(shown) < 12
    assert [(arrow.source, arrow.target) for arrow in graph.arrows] == [("sae:res:129", "logits")]
    assert f"{len(shown)} of 30 parts shown" in graph.title


def test_patch_prints_what_the_function_finds(on_tiny: Run, tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    truth = sweep(subject, task(subject, "induction", 4), "head_z", positions=None, channels="each")
    found = json.loads(on_tiny("patch", "induction", "-n", "4", "--json").out)
    for direction in ("denoising", "noising"):
        expected = truth.direction(direction)["logit_difference"].values  # type: ignore[arg-type]
        np.testing.assert_allclose(found[direction]["logit_difference"]["values"], expected, atol=1e-6)
    assert found["tokens"] == list(truth.tokens)


def test_a_decomposition_is_the_function_s(on_tiny: Run, tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    truth = decompose(subject, task(subject, "induction", 3), all_nodes(subject), baseline="zero")
    found = json.loads(on_tiny("patch", "induction", "-n", "3", "--decompose", "--baseline", "zero", "--json").out)
    assert found["sources"] == [str(node) for node in all_nodes(subject)]
    np.testing.assert_allclose(found["effects"], truth.effects, atol=1e-6)
    assert found["baseline"] == "zero"


def test_ablate_keeps_a_reference_set_and_uses_it_again(
    on_tiny: Run, tiny_gpt2_folder: Path, tiny_corpus_file: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "reference.json"
    corpus = tmp_path / "long.jsonl"
    rows = [json.loads(line) for line in tiny_corpus_file.read_text().splitlines()]
    corpus.write_text("".join(json.dumps({"id": r["id"], "text": r["text"] * 4}) + "\n" for r in rows))
    first = on_tiny("ablate", "head:1:2", *TEXTS, "--corpus", str(corpus), "--reference", str(kept), "--keep",
                    "--json")  # fmt: skip
    assert first.code == 0, first.err
    again = on_tiny("ablate", "head:1:2", *TEXTS, "--reference", str(kept), "--json")
    one, two = json.loads(first.out), json.loads(again.out)
    assert one == two
    reference = Reference.load(kept)
    assert one["reference"]["digest"] == reference.digest
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    texts = [subject.encode(text) for text in TEXTS[1::2]]
    truth = ablate(subject, [[UnitId.parse("head:1:2")]], texts, "resample", reference, draws=4)
    assert one["effects"][0]["kl"] == pytest.approx(truth.effects[0].kl, rel=1e-5)
    alone = on_tiny("ablate", "head:1:2", "--corpus", str(corpus), "--json")
    assert alone.code == 0, alone.err
    assert json.loads(alone.out)["texts"] == 16


@pytest.mark.slow
def test_the_planted_circuit_is_on_its_page(run: Run) -> None:
    answer = run("circuit", "ioi", "--subject", "planted", "-n", "8", "--draws", "4")
    assert answer.code == 0, answer.err
    for told in ("3 of 12 parts", "keys of 1.2", "queries of 2.0 (", "logits (", "does the task on 8 of 8 pairs"):
        assert told in answer.out, told


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ablate", "mlp:1:3"], ["--text", "--corpus"]),
        (["ablate", "mlp:1:3", *TEXTS, "--keep"], ["--reference"]),
        (["ablate", "mlp:1:999", *TEXTS, "--kind", "zero"], ["0-63"]),
        (["ablate", "mlp:1:3", "--text", "Ann saw", "--text", "Bob"], ["no other reference context"]),
        (["ablate", "mlp:1:3", "--text", "Ann saw", "--kind", "mean"], ["one text", "corpus"]),
        (["ablate", "mlp:1:0-3", *TEXTS, "--together", "--plot", "a.png"], ["--plot", "--together"]),
        (["ablate", "what", *TEXTS], ["'what'", "mlp:"]),
        (["circuit"], ["induction", "--task"]),
        (["patch"], ["--clean"]),
        (["patch", "induction", *PAIR], ["not both"]),
        (["patch", "counting"], ["task"]),
        (["patch", "--clean", "Ann saw", "--corrupt", "Ann saw the red ball"], ["equal numbers"]),
        (["patch", *PAIR, "--positions", "99"], ["Position 99"]),
        (["patch", *PAIR, "--positions", "x"], ["--positions", "numbers"]),
        (["patch", *PAIR, "--layer", "9"], ["layers 0-2"]),
        (["patch", *PAIR, "--from", "head:9:0"], ["layers 0-2"]),
        (["patch", *PAIR, "--answer", " red ball"], ["not one token"]),
        (["patch", *PAIR, "--plot", "a.pdf"], [".png"]),
        (["patch", *PAIR, "--attention", "all"], ["--attention", "--decompose"]),
        (["patch", *PAIR, "--decompose", "--site", "mlp_out"], ["--site", "--decompose"]),
        (["patch", *PAIR, "--from", "head:1:0", "--screen", "3"], ["--screen", "--from"]),
        (["patch", *PAIR, "--decompose", "--from", "mlp:1:3"], ["whole MLPs"]),
        (["circuit", "ioi"], ["tokens"]),
    ],
    ids=str,
)
def test_bad_requests_are_told_in_three_lines(on_tiny: Run, args: list[str], words: list[str]) -> None:
    answer = on_tiny(*args)
    assert answer.code == 2, answer.out
    message = answer.err.replace("Loading the model libraries …\n", "")
    assert len(message.splitlines()) <= 3, message
    assert all(word in " ".join(message.split()) for word in words), message
    assert not answer.out
