from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainers.pattern.edit_check import check_edits, mentioned_offsets, summarise
from explainers.pattern.explainer import PatternExplainer
from explainers.rules.language import parse_rule
from explainers.rules.reading import Reading
from explainers.types import Evidence
from tools.edits import EditEffect
from tools.subject import load_subject
from tools.types import Sample, UnitId

PIECES = ["<s>", " she", " sa", "id", " th", "e"]


@pytest.mark.parametrize(
    ("clause", "offsets"),
    [
        ('text ends "said the"', {0, -1, -2, -3}),
        ('text ends {"e", "he"}', {0}),
        ('word in {"the"}', {0, -1}),
        ('token in {"e"} and before[2] in {"id"}', {0, -2}),
        ('before[1] is word-start and not token in {"x"}', {-1}),
        ('token in {"x"}', set()),
    ],
)
def test_a_rule_mentions_the_tokens_that_its_literals_read(clause: str, offsets: set[int]) -> None:
    assert mentioned_offsets(parse_rule(f"rule v1\n1 if {clause}\nelse 0"), Reading(PIECES), 5) == offsets


def effects(replaced: dict[int, float], sign: float = 1.0) -> list[EditEffect]:
    return [EditEffect(o, "x", sign * 2.0, sign * replaced.get(o, 2.0), sign * 2.0) for o in (-2, -1, 0)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_named_token_is_confirmed_when_replacing_it_silences(sign: float) -> None:
    found = [effects({0: 0.1, -1: 0.2}, sign), effects({0: 0.3, -1: 1.9}, sign), effects({0: 0.0, -1: 0.0}, sign)]
    summary = {effect.offset: effect for effect in summarise(found, [{0, -2}, {0, -2}, {0}], sign)}
    assert (summary[0].examples, summary[0].silenced_by_replacing, summary[0].confirmed) == (3, 3, True)
    assert (summary[-1].silenced_by_replacing, summary[-1].confirmed, summary[-1].necessary) == (2, None, True)
    assert (summary[-2].confirmed, summary[-2].necessary) == (False, False)
    assert summary[0].silenced_by_deleting == 0


def test_nothing_is_edited_without_a_subject(splits: Callable[..., Any]) -> None:
    explore, refine, _, unit = splits(lambda text, position, pieces: float(text.endswith("cat")))
    evidence = Evidence(unit, "+", None, explore, refine, 0.5, seed=0)
    assert check_edits(evidence, PatternExplainer().rows(evidence, explore), parse_rule("rule v1\nelse 0")) is None


class SubjectView:
    """Texts tokenised by a subject, and the true activations of its neurons."""

    def __init__(self, subject: Any, texts: list[str]) -> None:
        from tools.units import unit_activations

        self.ids_of = [subject.encode(text) for text in texts]
        self.pieces_of = [subject.pieces(ids) for ids in self.ids_of]
        self.panel_contexts = np.arange(len(texts))
        self.texts = self
        self.values = lambda unit: unit_activations(subject, [unit], self.ids_of)

    def pieces(self, context: int) -> list[str]:
        return self.pieces_of[context]

    def ids(self, context: int) -> Any:
        return np.array(self.ids_of[context])

    def document(self, context: int) -> int:
        return context

    def document_id(self, document: int) -> str:
        return f"d{document}"

    def sample(self, unit: UnitId) -> Sample:
        values = [np.asarray(v)[0] for v in self.values(unit)]
        contexts = np.concatenate([np.full(len(v) - 1, i) for i, v in enumerate(values)])
        positions = np.concatenate([np.arange(1, len(v)) for v in values])
        flat = np.concatenate([v[1:] for v in values]).astype(np.float32)
        return Sample(contexts, positions, flat, np.ones(len(flat), np.float32), contexts)


def test_edits_of_a_first_layer_neuron_point_at_the_current_token(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    texts = [f"The old cat found the {x} ball {y}." for x in ("red", "small", "green") for y in ("in", "at", "on")]
    view: Any = SubjectView(subject, texts)
    high = {i: float(view.sample(UnitId("mlp:0", i)).values.max()) for i in range(8)}
    unit = UnitId("mlp:0", max(high, key=lambda i: high[i]))
    threshold = high[unit.index] / 2
    evidence = Evidence(unit, "+", subject, view, view, threshold, seed=3)
    rows = PatternExplainer().rows(evidence, view)
    rule = parse_rule("rule v1\n1 if token is lower\nelse 0")
    check = check_edits(evidence, rows, rule)
    assert check is not None
    assert check == check_edits(evidence, rows, rule)
    assert check.effects[0].offset == 0
    assert max(check.effects, key=lambda effect: effect.silenced_by_replacing).offset == 0
    assert {"effects", "examples", "seed"} <= check.to_json().keys()
    assert check.sentence().startswith("Replacing the current token silences it in")
