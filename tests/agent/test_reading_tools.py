"""The typed tools that only read a subject: lenses, heads, direct attribution, flow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.toolbox import Workbench, call
from agent.toolbox.registry import get
from tests.agent.test_toolbox import unbounded
from tools.attribution import direct_attribution
from tools.corpora import load_corpus
from tools.head_circuits import head_circuit
from tools.index import IndexSettings, build_index
from tools.lenses import read_lens
from tools.lenses.decoder import decoder_lens, load_encoder_decoder
from tools.lenses.logit import logit_lens
from tools.lenses.tuned import TunedLens, lens_path
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId

TEXT = "Ann saw the red ball in the park."
NAMES = ["Ann", "Bob", "Carl", "Dora", "Ed", "Fay", "Gus", "Hal"]
USES: dict[str, dict[str, Any]] = {
    "logit_lens": {"text": TEXT, "k": 2},
    "concept": {"concept": [f"{name} likes red apples." for name in NAMES],
                "against": [f"{name} ate green books." for name in NAMES], "texts": NAMES, "target": " red"},
    "read_lens": {"unit": "mlp:1:3"},
    "head_patterns": {},
    "head_circuit": {"unit": "head:1:2", "k": 4},
    "direct_attribution": {"text": TEXT, "groups": ["mlp:*"], "k": 5},
    "unit_origins": {"units": ["mlp:2:0-3"], "through": ["mlp:1", "mlp:0"]},
    "information_flow": {"text": TEXT, "threshold": 0.02},
}  # fmt: skip


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def workbench(subject: Subject) -> Iterator[Workbench]:
    with Workbench.open(subject) as bench:
        yield bench


@pytest.mark.parametrize("name", USES)
def test_tools_answer_within_bounds_and_alike_each_time(workbench: Workbench, name: str) -> None:
    tool = get(name)
    schema = tool.arguments.model_json_schema()
    assert not list(unbounded(schema, schema))
    first, second = (call(workbench, name, USES[name]) for _ in range(2))
    assert first.error is None
    assert first.digest == second.digest
    assert first.summary
    assert len(first.message()) < 24_000
    assert first.experiment().status == "done"


def test_logit_lens_reads_what_the_function_reads(workbench: Workbench, subject: Subject) -> None:
    result = call(workbench, "logit_lens", {"text": TEXT, "layers": [1], "middle": True, "target": " red"})
    assert [row["site"] for row in result.data["sites"]] == ["resid_mid.1", "resid_post.1"]
    ids = subject.encode(TEXT)
    target = subject.tokenizer(" red", add_special_tokens=False)["input_ids"][0]
    expected = logit_lens(subject, ids, target=target)
    got = [cell["rank"] for cell in result.data["sites"][1]["positions"]]
    assert got == expected.rank[list(expected.sites).index("resid_post.1")].tolist()
    assert set(result.data["targets"]) == {" red"}


def test_a_tuned_lens_is_fitted_on_the_open_splits_and_read_through(
    subject: Subject, tiny_corpus_file: Path, tmp_path: Path
) -> None:
    settings = IndexSettings(context=32, panel_tokens={Split.EXPLORE: 2000, Split.REFINE: 1000})
    index = build_index(subject, load_corpus(str(tiny_corpus_file)), [UnitId("mlp:1", 0)], tmp_path, settings)
    with Workbench.open(subject, home=tmp_path, index=index) as bench:
        early = call(bench, "logit_lens", {"text": TEXT, "tuned": True})
        assert early.error is not None
        assert "fit_tuned_lens" in early.error
        fitted = call(bench, "fit_tuned_lens", {"tokens": 4000, "method": "least-squares"})
        assert fitted.ok, fitted.error
        assert fitted.cost.tokens > 3000
        assert 3000 < fitted.data["lens"]["tokens"] < 5000
        first = fitted.data["sites"][0]
        assert first["divergence_tuned"] < first["divergence_plain"]
        read, plain = (call(bench, "logit_lens", {"text": TEXT, "tuned": tuned}) for tuned in (True, False))
        assert (read.data["tuned"], plain.data["tuned"]) == (True, False)
        lens = TunedLens.load(lens_path(tmp_path, subject), subject)
        expected = logit_lens(subject, subject.encode(TEXT), tuned=lens)
        assert [cell["rank"] for cell in read.data["sites"][0]["positions"]] == expected.rank[0].tolist()
        assert read.digest != plain.digest
    with Workbench.open(subject) as bench:
        assert "no data folder" in str(call(bench, "fit_tuned_lens", {}).error)


def test_an_encoder_decoder_model_is_read_and_charged(workbench: Workbench, tiny_t5_folder: Path) -> None:
    asked = {"model": str(tiny_t5_folder), "text": TEXT, "new_tokens": 5}
    result, again = (call(workbench, "decoder_lens", asked) for _ in range(2))
    assert result.ok, result.error
    assert result.digest == again.digest
    chosen = load_encoder_decoder(str(tiny_t5_folder), device="cpu")
    runs: list[int] = []
    for module in (chosen.model.get_encoder(), chosen.model.get_decoder()):
        module.register_forward_pre_hook(lambda _m, _a, k: runs.append(k["input_ids"].numel()), with_kwargs=True)
    truth = decoder_lens(chosen.model, chosen.tokenizer, TEXT, max_new_tokens=5)
    assert [row["text"] for row in result.data["layers"]] == [one.text for one in truth.readings]
    # The first pass is the one by which the encoder's blocks are found, which is nobody's.
    assert (result.cost.forward_passes, result.cost.tokens) == (len(runs) - 1, sum(runs[1:]))
    assert result.data["model_fingerprint"] == chosen.fingerprint


def test_heads_and_read_lens_say_what_the_functions_say(workbench: Workbench, subject: Subject) -> None:
    circuit = head_circuit(subject, UnitId("head:1", 2), 4)
    data = call(workbench, "head_circuit", USES["head_circuit"]).data
    assert data["copying"] == pytest.approx(circuit.copying, rel=1e-3)
    assert [row["key"] for row in data["attended"]] == [pair.target_piece for pair in circuit.attended]
    lens = read_lens(subject, UnitId("mlp:1", 3))
    assert lens is not None
    data = call(workbench, "read_lens", {"unit": "mlp:1:3"}).data
    assert [row["token"] for row in data["exciting"]["most"]] == [piece for piece, _ in lens.exciting.promoted]
    patterns = call(workbench, "head_patterns", {"layers": [1], "seed": 3}).data["heads"]
    assert [row["unit"] for row in patterns] == [f"head:1:{h}" for h in range(4)]
    assert all(row["uniform"]["duplicate"] > 0 for row in patterns)


def test_direct_attribution_lists_the_largest_shares_and_the_rest(workbench: Workbench, subject: Subject) -> None:
    result = call(workbench, "direct_attribution", {"text": TEXT, "answer": " red", "wrong": " the", "k": 3})
    data = result.data
    assert sum(part["share"] for part in data["parts"]) + data["rest"] == pytest.approx(data["total"], abs=1e-3)
    ids = subject.encode(TEXT)
    tokens = [subject.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" red", " the")]
    found = direct_attribution(subject, [ids], tokens[:1], tokens[1:])
    assert data["logit"] == pytest.approx(float(found.logits[0]), rel=1e-3)
    largest = max(zip(found.values[0].tolist(), found.parts, strict=True), key=lambda pair: abs(pair[0]))
    assert data["parts"][0]["part"] == largest[1].name


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("logit_lens", {"text": "x", "target": "red ball"}, "not one token"),
        ("logit_lens", {"text": "x", "layers": [7]}, "layers 0-2"),
        ("decoder_lens", {"text": "x", "model": "pycode"}, "Decoders have the logit lens"),
        ("decoder_lens", {"text": "x", "model": "some-owner/some-model"}, "not fetched here"),
        ("logit_lens", {"text": "x", "tuned": True}, "No tuned lens"),
        ("concept", {**USES["concept"], "target": "mlp:0:3", "layers": [1]}, "does not depend on resid_post.1"),
        ("concept", {**USES["concept"], "texts": ["x"]}, "do not fit"),
        ("read_lens", {"unit": "head:0:1"}, "no single direction"),
        ("head_circuit", {"unit": "mlp:0:1"}, "not an attention head"),
        ("head_patterns", {"texts": ["a"], "layers": [9]}, "layers 0-2"),
        ("direct_attribution", {"text": "x", "position": 40}, "beyond the text"),
        ("direct_attribution", {"text": "x", "groups": ["sae:none"]}, "no dictionary"),
        ("unit_origins", {"units": ["head:0:0"]}, "no single direction"),
        ("unit_origins", {"units": ["mlp:0:0"], "earlier": ["mlp:2"]}, "not before"),
        ("information_flow", {"text": "x", "position": -90}, "is before the text"),
        ("information_flow", {"text": "x", "threshold": 0.9}, "threshold"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(workbench: Workbench, name: str, arguments: dict[str, Any], words: str) -> None:
    result = call(workbench, name, arguments)
    assert result.error is not None
    assert words in result.error
