"""``neurogloss attribute`` on a tiny model: pages of 80 columns, JSON, pictures, bad requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tools.attribution import TokenTarget, attribute
from tools.subject import load_subject

Run = Callable[..., Any]
TEXT = "Ann saw the red ball.\nBob"
CALLS: dict[str, list[str]] = {
    "tokens of a unit": ["--target", "mlp:1:3"],
    "tokens of a logit": ["--method", "ig", "-k", "4"],
    "tested tokens": ["--draws", "40", "--window", "3"],
    "an anchor": ["--target", "mlp:1:3", "--method", "anchor", "--window", "4"],
    "units": ["--unit", "mlp:1:*;head:*:*"],
    "latents' passage": ["--unit", "head:1:*", "--method", "conductance"],
    "units directly": ["--unit", "mlp:2:*", "--method", "direct"],
    "a single unit": ["--unit", "mlp:2:3"],
    "parts": ["--method", "direct"],
}


@pytest.fixture
def on_tiny(run: Run, tiny_gpt2_folder: Path) -> Run:
    return lambda *args, **kwargs: run("attribute", TEXT, *args, "--subject", str(tiny_gpt2_folder), **kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_pages_fit_80_columns_and_come_with_their_test(on_tiny: Run, name: str) -> None:
    answer = on_tiny(*CALLS[name])
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "\x1b" not in answer.out
    assert "tried out" in answer.out.lower()
    assert ("texts drawn anew" if name == "an anchor" else "share") in answer.out
    assert ("  p\n" in answer.out) == (name == "tested tokens")


@pytest.mark.parametrize("name", CALLS)
def test_json_is_all_there_is_on_standard_output(on_tiny: Run, name: str, tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    answer = on_tiny(*CALLS[name], "--json", "--plot", str(picture))
    assert answer.code == 0, answer.err
    assert answer.out.isascii()
    found = json.loads(answer.out)
    assert len(found["names"]) == len(found["scores"])
    assert picture.read_text().startswith("<?xml")


def test_it_prints_what_the_function_finds(on_tiny: Run, tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    found = json.loads(on_tiny("--target", " the", "--wrong", " red", "--method", "gradient", "--json").out)
    target = TokenTarget(*(subject.encode(word)[-1] for word in (" the", " red")))
    expected = attribute(subject, subject.encode(TEXT), target, "gradient")
    assert found["scores"] == pytest.approx(expected.scores.tolist(), rel=1e-5)
    assert found["fingerprint"] == subject.fingerprint
    assert found["target"]["position"] == len(subject.encode(TEXT)) - 1


def test_reference_texts_come_from_a_file(on_tiny: Run, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "Bob ate the green apple."}\n{"text": "A girl took the book."}\n')
    found = json.loads(on_tiny("--reference", str(file), "--unit", "mlp:1:*", "--baseline", "mean", "--json").out)
    assert len(found["reference"]) == 16
    assert found["baseline"] == "mean activations"
    assert "pairs" in json.loads(on_tiny("--reference", str(file), "--json").out)["baseline"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--target", "mlp:7:3"], "layers 0-2"),
        (["--target", "xyzzy!"], "single token"),
        (["--position", "40"], "beyond the text"),
        (["--plot", "a.pdf"], ".png or .svg"),
        (["--unit", "mlp:1:*", "--baseline", "mean"], "reference texts"),
        (["--method", "occlusion", "--unit", "mlp:1:*"], "does not attribute to units"),
    ],
    ids=str,
)
def test_what_cannot_be_done_ends_with_2_and_a_line(on_tiny: Run, args: list[str], words: str) -> None:
    answer = on_tiny(*args)
    assert answer.code == 2
    assert answer.out == ""
    assert words in " ".join(answer.err.split())
