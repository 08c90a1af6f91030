"""``neurogloss lens``, ``heads`` and ``flow`` on a tiny model: pages of 80 columns, JSON, pictures, bad requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tools.attribution import TokenTarget, concept_sensitivity
from tools.head_circuits import head_circuit
from tools.heads import edge_profiles
from tools.lenses.decoder import decoder_lens, load_encoder_decoder
from tools.lenses.logit import layer_sites, logit_lens
from tools.steering.prompts import default_prompts
from tools.subject import load_subject
from tools.types import UnitId

Run = Callable[..., Any]
TEXT = "Ann saw the red ball.\nBob"
CALLS: dict[str, list[str]] = {
    "lens of a text": ["lens", "--text", TEXT, "--middle"],
    "lens of a unit": ["lens", "mlp:1:3", "-k", "4"],
    "heads": ["heads"],
    "one head": ["heads", "head:1:2", "--text", TEXT, "-k", "3"],
    "origins": ["flow", "mlp:2:0-5", "--through", "mlp:1"],
    "flow of a text": ["flow", "--text", TEXT, "--threshold", "0.01"],
}


@pytest.fixture
def on_tiny(run: Run, tiny_gpt2_folder: Path) -> Run:
    return lambda *args, **kwargs: run(*args, "--subject", str(tiny_gpt2_folder), **kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_pages_fit_80_columns(on_tiny: Run, name: str) -> None:
    answer = on_tiny(*CALLS[name])
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "\x1b" not in answer.out
    assert "attention_mask" not in answer.err


@pytest.mark.parametrize("name", CALLS)
def test_json_is_all_there_is_on_standard_output(on_tiny: Run, name: str) -> None:
    answer = on_tiny(*CALLS[name], "--json")
    assert answer.code == 0, answer.err
    assert answer.out.isascii()
    assert json.loads(answer.out)["fingerprint"]


def test_lens_prints_what_the_function_finds(on_tiny: Run, tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    found = json.loads(on_tiny("lens", "--text", TEXT, "--json").out)
    expected = logit_lens(subject, subject.encode(TEXT))
    assert found["rank"] == expected.rank.tolist()
    assert found["fingerprint"] == subject.fingerprint
    assert found["tuned"] is False
    page = on_tiny("lens", "--text", TEXT).out
    assert "layer 2" in page
    assert "KL from the model" in page


def test_heads_are_listed_with_their_figures(on_tiny: Run, tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    rows = json.loads(on_tiny("heads", "head:1:*", "--text", TEXT, "--json").out)["heads"]
    profiles = edge_profiles(subject, 1, [subject.encode(TEXT)])
    for head, row in enumerate(rows):
        assert row["unit"] == f"head:1:{head}"
        assert row["previous"] == pytest.approx(profiles[head].previous)
        assert row["copying"] == pytest.approx(head_circuit(subject, UnitId("head:1", head)).copying, abs=1e-3)
    assert len(rows) == 4


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures_are_drawn(on_tiny: Run, tmp_path: Path, ending: str) -> None:
    for name in ("lens of a text", "heads", "one head", "flow of a text"):
        file = tmp_path / f"picture.{ending}"
        file.unlink(missing_ok=True)
        answer = on_tiny(*CALLS[name], "--plot", file)
        assert answer.code == 0, answer.err
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
        assert len(content) > 4_000


def test_tuned_lens_is_fitted_kept_and_used(on_tiny: Run, tiny_corpus_file: Path) -> None:
    missing = on_tiny("lens", "--text", TEXT, "--tuned")
    assert missing.code == 2
    assert "Fit one" in missing.err
    fitted = on_tiny("lens", "--fit", tiny_corpus_file, "--tokens", "4000", "--method", "least-squares", "--json")
    assert fitted.code == 0, fitted.err
    answer = json.loads(fitted.out)
    assert Path(answer["file"]).is_file()
    assert answer["tuned"]["positions"] > 100
    assert sum(answer["tuned"]["divergence"][:-1]) < sum(answer["plain"]["divergence"][:-1])
    read = json.loads(on_tiny("lens", "--text", TEXT, "--tuned", "--json").out)
    assert read["tuned"] is True
    page = on_tiny("lens", "--fit", tiny_corpus_file, "--tokens", "4000", "--method", "least-squares").out
    assert "KL, tuned" in page


def test_a_concept_file_is_tested_and_its_page_fits(on_tiny: Run, tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    names = ["Ann", "Bob", "Carl", "Dora", "Ed", "Fay", "Gus", "Hal"]
    rows = [{"text": f"{n} {end}.", "concept": end == "ate apples"} for n in names for end in ("ate apples", "ran")]
    file = tmp_path / "eating.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = on_tiny("concept", file, "--target", " red", "--wrong", " the")
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "concept of eating" in answer.out
    told = json.loads(on_tiny("concept", file, "--target", " red", "--wrong", " the", "--json").out)
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    sides = [[subject.encode(row["text"]) for row in rows if row["concept"] is side] for side in (True, False)]
    tokens = [subject.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" red", " the")]
    examples = [subject.encode(text) for text in default_prompts(subject)]
    truth = concept_sensitivity(subject, (sides[0], sides[1]), examples, TokenTarget(*tokens), layer_sites(subject))
    assert [row["derivative"] for row in told["sites"]] == pytest.approx([s.derivative for s in truth.sensitivities])
    assert [row["p_adjusted"] for row in told["sites"]] == pytest.approx(list(truth.adjusted))
    file.write_text('{"text": "x", "concept": "yes"}\n')
    bad = on_tiny("concept", file, "--target", " red")
    assert bad.code == 2
    assert "Line 1" in bad.err
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    few = on_tiny("concept", file, "--target", " red")
    assert few.code == 2
    assert "concept" in few.err


def test_a_decoder_writes_from_every_layer_of_its_encoder(run: Run, tiny_t5_folder: Path) -> None:
    answer = run("lens", "--decoder", tiny_t5_folder, "--text", TEXT, "--new-tokens", "5")
    assert answer.code == 0, answer.err
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert [line.split()[0] for line in answer.out.splitlines()[3:7]] == ["embed", "1", "2", "3"]
    told = json.loads(run("lens", "--decoder", tiny_t5_folder, "--text", TEXT, "--new-tokens", "5", "--json").out)
    chosen = load_encoder_decoder(str(tiny_t5_folder), device="cpu")
    truth = decoder_lens(chosen.model, chosen.tokenizer, TEXT, max_new_tokens=5)
    assert told["fingerprint"] == chosen.fingerprint
    assert [row["ordinary"] for row in told["readings"]] == pytest.approx([r.ordinary for r in truth.readings])


def test_text_comes_from_standard_input(on_tiny: Run) -> None:
    answer = on_tiny("flow", "--text", "-", "--json", stdin=TEXT)
    assert answer.code == 0, answer.err
    assert "".join(json.loads(answer.out)["tokens"]).endswith("Bob")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lens"], "Give one of UNIT"),
        (["lens", "mlp:0:1", "--text", "x"], "at once"),
        (["lens", "head:0:1"], "neurogloss heads head:0:1"),
        (["lens", "mlp:9:1"], "layers 0-2"),
        (["lens", "--text", "x", "--target", "red ball"], "not one token"),
        (["lens", "--text", "x", "--plot", "x.gif"], "--plot wants"),
        (["lens", "--text", "x", "--decoder", "pycode"], "--subject is for a subject"),
        (["concept", "none.jsonl", "--target", "x"], "none.jsonl"),
        (["heads", "mlp:0:1"], "not an attention head"),
        (["heads", "head:0:9"], "beyond the subject"),
        (["heads", "--text", " "], "is empty"),
        (["flow"], "Give UNITS"),
        (["flow", "mlp:0:1", "--plot", "x.png"], "--plot is for a --text"),
        (["flow", "--text", "x", "--through", "mlp:0", "--earlier", "mlp:0"], "--earlier and --through are for UNITS"),
        (["flow", "--text", "x", "--position", "-77"], "Position -77 is before"),
        (["lens", "mlp:0:1", "--middle"], "--middle is for a --text"),
        (["flow", "head:0:1"], "no single direction"),
        (["flow", "mlp:1:1", "--earlier", "mlp:2"], "not before"),
        (["flow", "--text", "x", "--position", "77"], "beyond the prompt"),
        (["flow", "--text", "x", "--threshold", "0.9"], "threshold"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests_are_told_in_a_line_or_three(on_tiny: Run, arguments: list[str], words: str) -> None:
    answer = on_tiny(*arguments)
    assert answer.code == 2
    assert words in " ".join(answer.err.split())
    assert not answer.out
    assert "Traceback" not in answer.err


def test_help_teaches_with_examples(run: Run) -> None:
    for verb in ("lens", "heads", "flow"):
        shown = run(verb, "--help").out
        assert "Examples" in shown
        assert f"neurogloss {verb}" in shown
