"""The typed tools that drive units, scale attention and put states into other texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.toolbox import Workbench, call
from agent.toolbox.registry import get
from tests.agent.test_toolbox import unbounded
from tests.tools.architectures import make_case
from tools.interventions import generate
from tools.patchscopes import TOKEN_IDENTITY, patchscope
from tools.steering import amount_for_kl, strengths_at
from tools.subject import Subject
from tools.types import UnitId

TEXTS = ["Ann saw the red ball in the park.", "Bob ate the green apple at home.", "My friend took a book"]
USES: dict[str, dict[str, Any]] = {
    "steer": {"unit": "mlp:1:3", "max_new_tokens": 4, "kl": 0.05},
    "dose_response": {"unit": "mlp:1:3", "texts": TEXTS, "kl": 0.05, "controls": 4, "loss": True},
    "generate": {"texts": TEXTS, "max_new_tokens": 4},
    "knock_out": {"heads": ["head:1:2"], "texts": TEXTS},
    "scale_attention": {"heads": ["head:1:2"], "others": 3, "contests": [
        {"text": "Ann saw the red", "attend": " saw", "answer": " the", "wrong": " red"}]},
    "patchscope": {"text": TEXTS[0], "write": 3, "gold": "ball"},
}  # fmt: skip


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


@pytest.fixture
def workbench(subject: Subject) -> Iterator[Workbench]:
    with Workbench.open(subject) as bench:
        yield bench


@pytest.mark.slow
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
    assert first.cost.forward_passes > 0
    assert first.experiment().status == "done"


def test_steer_writes_with_and_without_at_the_strength_that_is_asked_for(
    workbench: Workbench, subject: Subject
) -> None:
    unit = UnitId.parse("mlp:1:3")
    result = call(workbench, "steer", {"unit": "mlp:1:3", "texts": TEXTS, "kl": -0.1, "max_new_tokens": 4})
    contexts = [subject.encode(text) for text in TEXTS]
    expected = amount_for_kl(subject, unit, contexts, -0.1)
    assert result.data["strength"] == pytest.approx(expected.to_json())
    plain = generate(subject, TEXTS, max_new_tokens=4)
    assert [row["without"] for row in result.data["texts"]] == [one.text for one in plain]
    assert [row["prompt"] for row in result.data["texts"]] == TEXTS
    (by_norm,) = strengths_at(subject, unit, contexts, [
        call(workbench, "steer", {"unit": "mlp:1:3", "texts": TEXTS, "norms": 0.5}).data["strength"]["amount"]
    ])  # fmt: skip
    assert by_norm.stream == pytest.approx(0.5, rel=1e-3)


def test_patchscope_says_what_the_function_says(workbench: Workbench, subject: Subject) -> None:
    result = call(workbench, "patchscope", {"text": TEXTS[0], "position": 3, "layers": [2, 0], "k": 2})
    found = patchscope(
        subject, subject.encode(TEXTS[0]), 3, target=subject.encode(TOKEN_IDENTITY), layers=[2, 0], k=2
    )  # fmt: skip
    assert [cell["layer"] for cell in result.data["cells"]] == [2, 0]
    assert [cell["top"][0][0] for cell in result.data["cells"]] == [cell.top[0][0] for cell in found.cells]
    assert [cell["signal"] for cell in result.data["cells"]] == [cell.signal for cell in found.cells]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("steer", {"unit": "mlp:1:3", "kl": 0.1, "strength": 2.0}, "give one of them"),
        ("steer", {"unit": "mlp:9:3"}, "mlp:9"),
        ("steer", {"unit": "mlp:1:3", "strength": 1e38}, "strength"),
        ("steer", {"unit": "mlp:1:3", "kl": 19.0}, "smaller target"),
        ("dose_response", {"unit": "mlp:1:3", "tokens": [" red ball"]}, "not one token"),
        ("dose_response", {"unit": "mlp:1:3", "strength": 0.0}, "other than 0"),
        ("knock_out", {"heads": ["mlp:1:3"]}, "not an attention head"),
        ("scale_attention", {"heads": ["head:1:2"], "contests": [
            {"text": "Ann saw the", "attend": " red", "answer": " the", "wrong": " red"}]}, "no token of"),
        ("patchscope", {"text": "Ann", "gold": "x"}, "have some written"),
        ("patchscope", {"text": "Ann", "position": 40}, "beyond the source text"),
        ("patchscope", {"text": "Ann", "layers": [5]}, "layers 0-2"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_done_is_told(workbench: Workbench, name: str, arguments: dict[str, Any], words: str) -> None:
    result = call(workbench, name, arguments)
    assert result.error is not None
    assert words in result.error
