"""The typed tools: bounded arguments, measured costs, provenance, and failures that are answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from agent.budget import StoppedError
from agent.toolbox import Arguments, Finding, Tool, Workbench, call, get, names, schemas, tool
from agent.toolbox.base import MOST_SHOWN
from agent.toolbox.fields import Pair, Seed
from tools.corpora import load_corpus
from tools.errors import SealedError
from tools.index import IndexSettings, build_index
from tools.lenses import write_lens
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId
from tools.units import unit_activations

TEXTS = ["Ann saw the red ball in the park.", "Bob ate the green apple at home."]


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def workbench(subject: Subject) -> Iterator[Workbench]:
    with Workbench.open(subject) as bench:
        yield bench


@pytest.fixture(scope="module")
def with_index(
    subject: Subject, tiny_corpus_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workbench]:
    units = [UnitId("mlp:1", i) for i in range(4)]
    settings = IndexSettings(context=32, panel_tokens={Split.EXPLORE: 2000, Split.REFINE: 1000})
    index = build_index(subject, load_corpus(str(tiny_corpus_file)), units, tmp_path_factory.mktemp("home"), settings)
    with Workbench.open(subject, index=index) as bench:
        yield bench


def unbounded(node: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Places in a JSON schema where a language model may put something without end."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for branch in (b for key in ("anyOf", "oneOf", "allOf") for b in node.get(key, ())):
        yield from unbounded(branch, schema, path)
    kind = node.get("type")
    if kind == "object":
        if node.get("additionalProperties") is not False:
            yield f"{path}: other properties"
        for name, inner in node.get("properties", {}).items():
            yield from unbounded(inner, schema, f"{path}.{name}")
    elif kind == "array":
        if "maxItems" not in node:
            yield f"{path}: items"
        for inner in [*node.get("prefixItems", ()), *([node["items"]] if "items" in node else [])]:
            yield from unbounded(inner, schema, f"{path}[]")
    elif kind == "string" and not {"maxLength", "enum", "const", "pattern"} & node.keys():
        yield f"{path}: length"
    elif kind in ("integer", "number"):
        low, high = {"minimum", "exclusiveMinimum"} & node.keys(), {"maximum", "exclusiveMaximum"} & node.keys()
        if not (low and high) and not {"enum", "const"} & node.keys():
            yield f"{path}: size"


def test_the_check_of_bounds_finds_what_is_unbounded() -> None:
    class Loose(Arguments):
        text: str
        many: list[int] = Field(max_length=3)
        number: float | None = Field(default=None, ge=0)
        pair: Pair

    schema = Loose.model_json_schema()
    assert sorted(unbounded(schema, schema)) == [".many[]: size", ".number: size", ".text: length"]


@pytest.mark.parametrize("name", names())
def test_every_argument_of_every_tool_is_bounded_and_described(name: str) -> None:
    schema = get(name).schema()
    function = schema["function"]
    assert schema["type"] == "function"
    assert function["name"] == name
    assert 20 < len(function["description"]) < 1024
    parameters = function["parameters"]
    assert not list(unbounded(parameters, parameters))
    for field, inner in parameters["properties"].items():
        assert inner.get("description"), f"{name}.{field}"
        assert "title" not in inner
    json.dumps(schema, allow_nan=False)


def test_schemas_are_of_the_tools_that_are_named() -> None:
    assert [one["function"]["name"] for one in schemas()] == names()
    assert [one["function"]["name"] for one in schemas(["examples"])] == ["examples"]


def test_activations_are_those_of_the_model_and_cost_what_was_run(workbench: Workbench) -> None:
    units = [UnitId("mlp:1", 3), UnitId("head:0", 1)]
    sequences = [workbench.subject.encode(text) for text in TEXTS]
    truth = unit_activations(workbench.subject, units, sequences)
    # As a language model's tool call has them: JSON text.
    result = call(workbench, "activations", json.dumps({"texts": TEXTS, "units": ["mlp:1:3", "head:0:1"]}))
    assert result.ok
    for row, values in zip(result.data["texts"], truth, strict=True):
        for told, line in zip(row["units"], values, strict=True):
            np.testing.assert_allclose(told["values"], line, rtol=1e-3, atol=1e-6)
            peak = 1 + int(np.abs(line[1:]).argmax())
            assert told["strongest"]["position"] == peak
            assert told["strongest"]["token"] == row["tokens"][peak]
    assert result.cost.forward_passes == 1
    assert result.cost.tokens == 2 * max(map(len, sequences))
    assert result.cost.seconds > 0
    assert result.origin.fingerprint == workbench.subject.fingerprint


def test_a_result_becomes_a_row_of_the_notebook(workbench: Workbench) -> None:
    given = {"unit": "mlp:1:3", "texts": TEXTS, "seed": 5}
    result = call(workbench, "edit_tokens", given)
    row = result.experiment(hypothesis="+1", outcome="supported")
    assert (row.kind, row.status, row.seed, row.error) == ("edit_tokens", "done", 5, None)
    assert row.arguments["subject"] == workbench.subject.fingerprint
    assert row.arguments["dtype"] == "float32"
    assert row.arguments["window"] == 8  # also what was not given, for it can change
    assert row.observations[0].data == {"result": result.data}
    assert row.observations[0].hypothesis == "+1"
    again = call(workbench, "edit_tokens", given)
    assert again.digest == result.digest == row.digest
    assert call(workbench, "edit_tokens", {**given, "seed": 6}).digest != result.digest


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("activations", {"texts": TEXTS}, ["units", "required"]),
        ("activations", {"texts": [], "units": ["mlp:1:3"]}, ["texts"]),
        ("activations", {"texts": [""], "units": ["mlp:1:3"]}, ["texts.0"]),
        ("activations", {"texts": TEXTS, "units": ["mlp:9:3"]}, ["mlp:9:3", "0-2"]),
        ("activations", {"texts": TEXTS, "units": ["mlp:1:3"], "mood": "good"}, ["mood"]),
        ("activations", '{"texts": ["a', ["JSON"]),
        ("edit_tokens", {"unit": "mlp:1:3", "texts": TEXTS, "window": 10**9}, ["window"]),
        ("edit_tokens", {"unit": "mlp:1:3", "texts": TEXTS, "positions": [1]}, ["1 positions", "2 texts"]),
        ("edit_tokens", {"unit": "mlp:1:3", "texts": TEXTS[:1], "positions": [900]}, ["900"]),
        ("token_change", {"unit": "mlp:1:3", "texts": TEXTS, "value": float("nan")}, ["value"]),
        ("token_change", {"unit": "mlp:1:3", "texts": TEXTS, "value": 1e300}, ["value"]),
        ("write_lens", {"unit": "head:0:1"}, ["head:0:1", "token_change"]),
        ("write_lens", {"unit": "mlp:1:999"}, ["mlp:1:999", "0-63"]),
        ("examples", {"unit": "mlp:1:3"}, ["index"]),
        ("examples", {"unit": "mlp:1:3", "split": "score"}, ["split", "explore"]),
        ("fly", {}, ["fly", "activations"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_done_comes_back_as_a_failed_result(
    workbench: Workbench, name: str, arguments: Any, words: list[str]
) -> None:
    result = call(workbench, name, arguments)
    assert not result.ok
    assert result.data is None
    assert result.digest is None
    for word in words:
        assert word in (result.error or "")
    assert json.loads(result.message()) == {"error": result.error}
    row = result.experiment()
    assert (row.status, row.error, row.observations) == ("failed", result.error, ())
    json.dumps(result.to_json(), allow_nan=False)


def test_a_fault_inside_a_tool_is_told_and_logged(workbench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Workbench, __: Arguments) -> Finding:
        raise ZeroDivisionError("by zero")

    result = Tool("broken", "Fails.", Arguments, broken).run(workbench, {})
    assert result.error == "broken failed: ZeroDivisionError: by zero"
    assert "by zero" in caplog.text


def test_the_wish_to_stop_is_no_answer(workbench: Workbench) -> None:
    def stopped(_: Workbench, __: Arguments) -> Finding:
        raise StoppedError("now")

    with pytest.raises(StoppedError):
        Tool("stopped", "Stops.", Arguments, stopped).run(workbench, {})


def test_a_result_too_long_to_read_is_told_by_its_summary(workbench: Workbench) -> None:
    result = call(workbench, "activations", {"texts": TEXTS, "units": ["mlp:1:3"]})
    assert json.loads(result.message()) == {"summary": result.summary, "data": result.data}
    long = replace(result, data=["x" * MOST_SHOWN])
    told = json.loads(long.message())
    assert told["summary"] == result.summary
    assert "data" not in told
    assert len(long.message()) < 2000


def test_too_many_activations_are_refused_before_the_model_runs(workbench: Workbench) -> None:
    result = call(workbench, "activations", {"texts": TEXTS * 30, "units": ["mlp:*:*"]})
    assert "fewer units" in (result.error or "")
    assert result.cost.forward_passes == 0


def test_examples_are_those_of_the_open_splits(with_index: Workbench) -> None:
    result = call(with_index, "examples", {"unit": "mlp:1:2", "n": 3, "window": 8})
    truth = with_index.view(Split.EXPLORE).examples(UnitId("mlp:1", 2), "top", 3, 8)
    assert [row["document"] for row in result.data["examples"]] == [one.document for one in truth]
    assert [tuple(row["tokens"]) for row in result.data["examples"]] == [one.tokens for one in truth]
    assert result.experiment().arguments["index"] == with_index.index
    for split in (Split.SCORE, Split.AUDIT):
        with pytest.raises(SealedError, match="sealed"):
            with_index.view(split)
    assert "mlp:0:1" in (call(with_index, "examples", {"unit": "mlp:0:1"}).error or "")


def test_writes_are_read_and_measured(workbench: Workbench) -> None:
    unit = UnitId("mlp:2", 3)
    lens = call(workbench, "write_lens", {"unit": str(unit), "k": 4})
    truth = write_lens(workbench.subject, unit, 4)
    assert truth is not None
    assert [row["token"] for row in lens.data["promoted"]] == [piece for piece, _ in truth.promoted]
    assert lens.cost.forward_passes == 0
    changed = call(workbench, "token_change", {"unit": str(unit), "texts": TEXTS, "value": 3.0, "k": 4})
    assert len(changed.data["promoted"]) == 4
    assert changed.cost.forward_passes == 2


def test_a_name_is_taken_once_and_a_tool_says_what_it_is_for() -> None:
    class Seeded(Arguments):
        seed: Seed = 0

    class Clash(Arguments):
        subject: int = Field(ge=0, le=1)

    def documented(_: Workbench, __: Seeded) -> Finding:
        """Does something."""
        return Finding("", {})

    def bare(_: Workbench, __: Seeded) -> Finding:
        return Finding("", {})

    with pytest.raises(ValueError, match="already"):
        tool("activations", Seeded)(documented)
    with pytest.raises(ValueError, match="docstring"):
        tool("bare", Seeded)(bare)
    with pytest.raises(ValueError, match="cannot name"):
        tool("Bad name", Seeded)
    with pytest.raises(ValueError, match="subject"):
        tool("clash", Clash)
