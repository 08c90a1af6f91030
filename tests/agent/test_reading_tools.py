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
from tools.head_circuits import head_circuit
from tools.lenses import read_lens
from tools.lenses.logit import logit_lens
from tools.subject import Subject, load_subject
from tools.types import UnitId

TEXT = "Ann saw the red ball in the park."
USES: dict[str, dict[str, Any]] = {
    "logit_lens": {"text": TEXT, "k": 2},
    "read_lens": {"unit": "mlp:1:3"},
    "head_patterns": {},
    "head_circuit": {"unit": "head:1:2", "k": 4},
    "direct_attribution": {"text": TEXT, "groups": ["mlp:*"], "k": 5},
    "unit_origins": {"units": ["mlp:2:0-3"], "through": ["mlp:1", "mlp:0"]},
    "information_flow": {"text": TEXT, "threshold": 0.02},
}


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
