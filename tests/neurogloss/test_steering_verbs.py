"""``neurogloss steer``, ``patchscope`` and ``heads`` that may not look: pages, JSON, pictures, bad requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.tools.architectures import make_case
from tools.head_edges import knock_out
from tools.patchscopes import patchscope
from tools.steering import amount_for_kl
from tools.subject import Subject
from tools.types import UnitId

Run = Callable[..., Any]
TEXT = "Ann saw the red ball.\nBob"
TEXTS = ["--text", TEXT, "--text", "My friend likes the small house", "--text", "A girl took the book at home."]
FIGHT = ["heads", "head:1:2", "--text", "Ann saw the red", "--attend", " saw", "--answer", " the", "--wrong", " red"]
CALLS: dict[str, list[str]] = {
    "steer": ["steer", "mlp:1:3", *TEXTS, "--controls", "3", "--kl", "0.05"],
    "steer with a score": ["steer", "mlp:1:3", *TEXTS, "--controls", "2", "--kl", "0.05", "--score", "--write", "4"],
    "steer named tokens": ["steer", "head:1:2", *TEXTS, "--norms", "-0.3", "--token", " red", "--expected", "promoted",
                           "--last", "--write", "0", "--controls", "2"],
    "knock out": ["heads", "head:1:2", "--knock-out", "--edges", "induction"],
    "scale": ["heads", "head:1:*", "--scale", "0.5", "--text", TEXT],
    "attend": FIGHT,
    "patchscope": ["patchscope", TEXT],
    "patchscope that writes": ["patchscope", TEXT, "--write", "4", "--gold", "a", "--into", "Bob ate", "--grid"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with weights that are large enough to say something."""
    where = tmp_path_factory.mktemp("models") / "loud"
    subject = make_case("gpt2", tiny_gpt2_folder).subject
    subject.model.save_pretrained(where)
    subject.tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    from tools.subject import load_subject

    return load_subject(str(folder), device="cpu")


@pytest.fixture
def on_loud(run: Run, folder: Path) -> Run:
    return lambda *args, **kwargs: run(*args, "--subject", str(folder), **kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_pages_fit_80_columns(on_loud: Run, name: str) -> None:
    answer = on_loud(*CALLS[name])
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "\x1b" not in answer.out


@pytest.mark.parametrize("name", CALLS)
def test_json_is_all_there_is_on_standard_output(on_loud: Run, name: str) -> None:
    answer = on_loud(*CALLS[name], "--json")
    assert answer.code == 0, answer.err
    assert answer.out.isascii()
    json.loads(answer.out)


def test_steer_prints_what_the_functions_find(on_loud: Run, subject: Subject) -> None:
    found = json.loads(on_loud(*CALLS["steer"], "--json").out)
    texts = [subject.encode(text) for text in CALLS["steer"][3:8:2]]
    expected = amount_for_kl(subject, UnitId.parse("mlp:1:3"), texts, 0.05)
    assert found["written"]["strength"]["amount"] == pytest.approx(expected.amount)
    assert [dose["amount"] / found["strength"]["amount"] for dose in found["curve"]["doses"]] == pytest.approx(
        [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    )
    page = on_loud(*CALLS["steer"]).out
    assert "random directions" in page
    assert "without" in page
    assert found["score"] is None
    scored = json.loads(on_loud(*CALLS["steer with a score"], "--json").out)["score"]
    assert 0 <= scored["points"]["score"] <= 2
    assert "Concept and fluency" in on_loud(*CALLS["steer with a score"]).out


def test_heads_knocked_out_are_those_of_the_function(on_loud: Run, subject: Subject) -> None:
    found = json.loads(on_loud("heads", "head:1:2", "--knock-out", "--text", TEXT, "--json").out)
    expected = knock_out(subject, [UnitId.parse("head:1:2")], [subject.encode(TEXT)])
    assert found["loss_change"] == pytest.approx(expected.loss_change, abs=1e-5)
    assert found["others"] == [[name, pytest.approx(change, abs=1e-5)] for name, change in expected.others]
    fight = json.loads(on_loud(*FIGHT, "--scale", "0", "--json").out)
    assert [point["factor"] for point in fight["points"]] == [0.0, 1.0]


def test_patchscope_prints_what_the_function_finds(on_loud: Run, subject: Subject) -> None:
    found = json.loads(on_loud("patchscope", TEXT, "--position", "2", "--into", "Bob ate", "--json").out)
    expected = patchscope(subject, subject.encode(TEXT), 2, target=subject.encode("Bob ate"))
    assert [cell["top"][0][0] for cell in found["cells"]] == [cell.top[0][0] for cell in expected.cells]
    assert [cell["signal"] for cell in found["cells"]] == [cell.signal for cell in expected.cells]
    grid = json.loads(on_loud(*CALLS["patchscope that writes"], "--json").out)
    assert len(grid["cells"]) == 9


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures_are_drawn(on_loud: Run, tmp_path: Path, ending: str) -> None:
    for name in ("steer", "attend", "patchscope that writes"):
        file = tmp_path / f"picture.{ending}"
        file.unlink(missing_ok=True)
        answer = on_loud(*CALLS[name], "--plot", file)
        assert answer.code == 0, answer.err
        assert file.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["steer", "mlp:1:400"], "beyond"),
        (["steer", "mlp:1:3", "--kl", "0.5", "--norms", "1"], "give one of them"),
        (["steer", "mlp:1:3", "--kl", "19"], "smaller target"),
        (["steer", "mlp:1:3", "--strength", "1e30"], "strength"),
        (["steer", "mlp:1:3", "--token", "nosuchtoken"], "not one token"),
        (["steer", "mlp:1:3", "--plot", "curve.gif"], ".png"),
        (["heads", "--knock-out"], "Name the heads"),
        (["heads", "mlp:1:3", "--knock-out"], "not an attention head"),
        (["heads", "head:1:2", "--edges", "first"], "--knock-out"),
        (["heads", "head:1:2", "--attend", " saw"], "--answer"),
        (["heads", "head:1:2", "--scale", "1", "--scale", "2"], "--attend"),
        (["heads", "head:1:2", "--knock-out", "--plot", "x.png"], "none to draw"),
        ([*FIGHT[:4], "--attend", " at", *FIGHT[6:]], "no token of"),
        (["patchscope", TEXT, "--position", "99"], "beyond the source text"),
        (["patchscope", TEXT, "--gold", "x"], "have some written"),
        (["patchscope", TEXT, "--grid", "--into-layer", "1"], "--into-layer"),
        (["patchscope", TEXT, "--layer", "9"], "layers 0-2"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_requests_are_told(on_loud: Run, arguments: list[str], words: str) -> None:
    answer = on_loud(*arguments)
    assert answer.code == 2
    assert words in answer.err
    assert answer.out == ""
