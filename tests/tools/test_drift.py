"""Units of an edited model beside those of the model it was made from: every edit is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from tools.drift import check_comparable, compare, delta_activations
from tools.errors import SubjectError, UnitError
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import unit_activations

TEXTS = [[0, *np.random.default_rng(i).integers(2, 400, 6 + i).tolist()] for i in range(40)]
Edited = Callable[[Callable[[LlamaForCausalLM], None]], Subject]


@pytest.fixture(scope="module")
def old(tiny_llama_folder: Path) -> Subject:
    return load_subject(str(tiny_llama_folder), device="cpu")


@pytest.fixture
def edited(tiny_llama_folder: Path, tmp_path: Path) -> Edited:
    """Makes a version of the model with something changed."""

    def make(change: Callable[[LlamaForCausalLM], None]) -> Subject:
        model = LlamaForCausalLM.from_pretrained(tiny_llama_folder)
        with torch.no_grad():
            change(model)
        model.save_pretrained(tmp_path / "other")
        AutoTokenizer.from_pretrained(tiny_llama_folder).save_pretrained(tmp_path / "other")
        return load_subject(str(tmp_path / "other"), device="cpu")

    return make


def neurons(*indices: int) -> list[UnitId]:
    return [UnitId("mlp:1", i) for i in indices]


def test_moved_flipped_deleted_copied_and_untouched_neurons_are_told_apart(old: Subject, edited: Edited) -> None:
    def change(model: LlamaForCausalLM) -> None:
        mlp = model.model.layers[1].mlp
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weight[[3, 7]] = weight[[7, 3]].clone()
        mlp.down_proj.weight[:, [3, 7]] = mlp.down_proj.weight[:, [7, 3]].clone()
        mlp.up_proj.weight[11] *= -1
        mlp.up_proj.weight[12] = 0
        mlp.gate_proj.weight[20], mlp.up_proj.weight[20] = mlp.gate_proj.weight[13], mlp.up_proj.weight[13]
        mlp.up_proj.weight[14] *= 0.25

    found = compare(old, edited(change), neurons(3, 11, 12, 13, 14, 15), TEXTS)
    moved, flipped, deleted, copied, weak, same = found.units
    assert moved.best.unit == UnitId("mlp:1", 7)
    assert moved.best.similarity == pytest.approx(1, abs=1e-4)
    assert abs(moved.similarity) < 0.8
    assert flipped.similarity == pytest.approx(-1, abs=1e-4)
    assert flipped.write_cosine == pytest.approx(1, abs=1e-5)
    assert deleted.similarity == 0
    assert copied.similarity == pytest.approx(1, abs=1e-4)
    assert [copy.unit for copy in copied.copies] == neurons(20)
    assert weak.similarity == pytest.approx(1, abs=1e-4)
    assert weak.slope == pytest.approx(0.25, abs=1e-4)
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert (same.slope, same.copies) == (pytest.approx(1, abs=1e-5), ())


def test_activations_are_those_of_each_model_position_by_position(old: Subject, edited: Edited) -> None:
    new = edited(lambda model: model.model.layers[0].mlp.up_proj.weight.mul_(1.3))
    units = [UnitId("mlp:0", 5), UnitId("head:1", 2), UnitId("mlp:1", 40)]
    found = compare(old, new, units, TEXTS, batch_tokens=64)
    for subject, name in ((old, "old"), (new, "new")):
        values = unit_activations(subject, units, TEXTS)
        for row, one in enumerate(found.units):
            expected = np.concatenate([text[row, 1:] for text in values])
            np.testing.assert_allclose(getattr(one, name), expected, rtol=1e-4, atol=1e-5)
    assert found.positions == sum(len(text) - 1 for text in TEXTS)
    first = found.units[0]
    assert first.similarity == pytest.approx(np.corrcoef(first.old, first.new)[0, 1], abs=1e-6)
    assert found.neuron_wise["mlp:0"] == pytest.approx(1, abs=1e-4)
    assert found.neuron_wise["mlp:1"] < 1


def test_swapped_heads_are_found_by_what_they_write(old: Subject, edited: Edited) -> None:
    """Heads of one key/value group change places: 2 and 3."""

    def change(model: LlamaForCausalLM) -> None:
        attention = model.model.layers[0].self_attn
        order = [*range(16), *range(24, 32), *range(16, 24)]
        attention.q_proj.weight.copy_(attention.q_proj.weight[order].clone())
        attention.o_proj.weight.copy_(attention.o_proj.weight[:, order].clone())

    found = compare(old, edited(change), [UnitId("head:0", h) for h in (1, 2)], TEXTS)
    kept, moved = found.units
    assert kept.similarity == pytest.approx(1, abs=1e-5)
    assert moved.best.unit == UnitId("head:0", 3)
    assert moved.best.similarity == pytest.approx(1, abs=1e-5)


def test_another_number_format_is_the_same_model(old: Subject, tiny_llama_folder: Path) -> None:
    new = load_subject(str(tiny_llama_folder), device="cpu", dtype="bfloat16")
    found = compare(old, new, neurons(*range(48)), TEXTS)
    assert min(one.similarity for one in found.units) > 0.98
    assert all(not one.copies for one in found.units)
    assert delta_activations(old, new).relative < 0.05


def test_the_models_distance_is_zero_for_the_model_itself_and_grows(old: Subject, edited: Edited) -> None:
    assert delta_activations(old, old).relative == 0
    new = edited(lambda model: model.model.layers[1].mlp.down_proj.weight.mul_(3))
    found = delta_activations(old, new)
    assert found.relative > 0.01
    assert found.vector.shape == (32,)


def test_what_cannot_be_compared_is_told(old: Subject, tiny_gpt2_folder: Path) -> None:
    gpt2 = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="no versions of one model"):
        compare(old, gpt2, neurons(1), TEXTS)
    with pytest.raises(UnitError, match="no units"):
        compare(old, old, [], TEXTS)
    with pytest.raises(SubjectError, match="at least 2 tokens"):
        compare(old, old, neurons(1), [[0]])
    check_comparable(old, gpt2, ["the same words"])


def test_another_tokenizer_is_told(old: Subject, shared_data: Path) -> None:
    stories = load_subject(str(shared_data / "stories260k"), device="cpu")
    with pytest.raises(SubjectError, match="tokenizers differ"):
        check_comparable(old, stories, ["Once upon a time"])
