"""Edits on units whose causes are known, and against one-by-one recomputation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.edits import edit_effects
from tools.errors import UnitError
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import unit_activations


@pytest.fixture(scope="module")
def llama(tiny_llama_folder: Path) -> Subject:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    subject.add_direction("embedding", Site(0, "resid_pre"), torch.linspace(-1, 1, 32))
    return subject


CONTEXTS = [[0, 5, 6, 7, 8, 9, 10, 11], [0, 20, 21, 22, 23]]


def test_unit_that_sees_only_its_token_depends_on_offset_zero(llama: Subject) -> None:
    """Llama's first residual stream holds the embedding and no position."""
    unit = UnitId.parse("dir:embedding")
    for context, effects in zip(CONTEXTS, edit_effects(llama, unit, CONTEXTS, [6, 4], window=4), strict=True):
        values = unit_activations(llama, [unit], [context])[0][0]
        position = 6 if len(context) == 8 else 4
        assert [e.offset for e in effects] == [-3, -2, -1, 0]
        assert [e.piece for e in effects] == llama.pieces(context[position - 3 : position + 1])
        for effect in effects[:-1]:
            expected = pytest.approx(float(values[position]), abs=1e-6)
            assert effect.original == effect.replaced == effect.deleted == expected
        assert effects[-1].deleted == pytest.approx(float(values[position - 1]), abs=1e-6)
        assert abs(effects[-1].replaced - effects[-1].original) > 1e-4


def test_effects_equal_edits_made_one_by_one(llama: Subject) -> None:
    unit = UnitId.parse("mlp:1:3")
    effects = edit_effects(llama, unit, CONTEXTS, [5, 3], window=3, replacements=2, pool=[99])
    for context, position, found in zip(CONTEXTS, [5, 3], effects, strict=True):
        for effect in found:
            place = position + effect.offset
            replaced = [*context[:place], 99, *context[place + 1 :]]
            deleted = [*context[:place], *context[place + 1 :]]
            a, b, c = unit_activations(llama, [unit], [context, replaced, deleted])
            assert effect.original == pytest.approx(float(a[0, position]), abs=1e-5)
            assert effect.replaced == pytest.approx(float(b[0, position]), abs=1e-5)
            assert effect.deleted == pytest.approx(float(c[0, position - 1]), abs=1e-5)


def test_beginning_of_sequence_is_never_edited(llama: Subject) -> None:
    effects = edit_effects(llama, UnitId.parse("mlp:0:3"), CONTEXTS, [2, 1], window=8)
    assert [[e.offset for e in row] for row in effects] == [[-1, 0], [0]]


def test_same_seed_same_edits(llama: Subject) -> None:
    unit = UnitId.parse("head:1:2")
    first = edit_effects(llama, unit, CONTEXTS, [6, 4], seed=7)
    assert first == edit_effects(llama, unit, CONTEXTS, [6, 4], seed=7)
    assert first != edit_effects(llama, unit, CONTEXTS, [6, 4], seed=8)


def test_wrong_requests(llama: Subject) -> None:
    unit = UnitId.parse("mlp:0:3")
    with pytest.raises(UnitError, match="position 0 is left out"):
        edit_effects(llama, unit, CONTEXTS, [0, 4])
    with pytest.raises(UnitError, match="8 tokens"):
        edit_effects(llama, unit, CONTEXTS, [8, 4])
    with pytest.raises(UnitError, match="larger pool"):
        edit_effects(llama, unit, CONTEXTS, [6, 4], pool=[])
    with pytest.raises(UnitError, match="layers 0-1"):
        edit_effects(llama, UnitId.parse("mlp:5:3"), CONTEXTS, [6, 4])
