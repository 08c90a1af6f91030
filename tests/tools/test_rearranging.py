"""Tokens put in and orders changed, on units whose causes are known and against one-by-one recomputation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agent.toolbox import Workbench, call
from tools.errors import UnitError
from tools.rearranging import rearranged
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import unit_activations

CONTEXT = [0, 5, 6, 7, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def llama(tiny_llama_folder: Path) -> Subject:
    subject = load_subject(str(tiny_llama_folder), device="cpu")
    subject.add_direction("embedding", Site(0, "resid_pre"), torch.linspace(-1, 1, 32))
    return subject


def test_a_unit_that_sees_its_token_alone_minds_neither(llama: Subject) -> None:
    found = rearranged(llama, UnitId.parse("dir:embedding"), CONTEXT, 6, window=4)
    assert [one.offset for one in found.insertions] == [-3, -2, -1, 0]
    assert [one.before for one in found.insertions] == llama.pieces(CONTEXT[3:7])
    assert len(found.orders) == 4
    for value in (*(one.inserted for one in found.insertions), *found.orders):
        assert value == pytest.approx(found.original, abs=1e-6)


def test_what_is_read_is_what_the_changed_texts_give(llama: Subject) -> None:
    unit, same = UnitId.parse("mlp:1:3"), [0, 5, 5, 5, 9]
    found = rearranged(llama, unit, same, 4, window=3, insertions=1, seed=3)
    assert found.orders == ()  # the tokens before are all alike
    drawn = np.random.default_rng(3)
    for place, one in zip((2, 3, 4), found.insertions, strict=True):
        token = int(drawn.choice(same[len(llama.prefix) :], 1)[0])
        [values] = unit_activations(llama, [unit], [[*same[:place], token, *same[place:]]])
        assert one.inserted == pytest.approx(float(values[0, 5]), abs=1e-5)
    [two] = [rearranged(llama, unit, CONTEXT, 4, window=3, orders=1)]
    [values] = unit_activations(llama, [unit], [[*CONTEXT[:2], CONTEXT[3], CONTEXT[2], CONTEXT[4]]])
    assert two.orders == (pytest.approx(float(values[0, 4]), abs=1e-5),)


def test_positions_that_are_not_there_are_refused(llama: Subject) -> None:
    for position in (0, len(CONTEXT)):
        with pytest.raises(UnitError, match="cannot be studied"):
            rearranged(llama, UnitId.parse("mlp:1:3"), CONTEXT, position)


def test_the_tool_tells_what_breaks_the_activation(llama: Subject) -> None:
    text = "".join(llama.pieces(CONTEXT[1:]))
    with Workbench.open(llama) as workbench:
        result = call(workbench, "rearrange_text", {"unit": "dir:embedding", "text": text})
        again = call(workbench, "rearrange_text", {"unit": "dir:embedding", "text": text})
    assert result.error is None
    assert "none of the tokens" in result.summary
    assert result.digest == again.digest
