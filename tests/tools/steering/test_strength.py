"""Strengths: as KL divergences, and in units of the residual stream's norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tools.architectures import make_case
from tools.errors import InterventionError
from tools.interventions import Where, add_to_unit, run
from tools.steering import amount_for_kl, amount_for_norm, stream_norm, strengths_at
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

CONTEXTS = [[0, *range(20, 31)], [0, *range(60, 66)], [0, 9, 8, 7]]
NEURON, HEAD = UnitId.parse("mlp:1:7"), UnitId.parse("head:1:2")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    """With random weights that are large enough to say something."""
    return make_case("gpt2", tiny_gpt2_folder).subject


def kl_by_hand(subject: Subject, unit: UnitId, amount: float, span: int | None) -> float:
    """In float64, text by text."""
    found = []
    for context in CONTEXTS:
        ids = torch.tensor([context])
        where = Where(since=1) if span is None else Where(positions=range(len(context) - span, len(context)))
        runs = [run(subject, ids, None, edits).logits for edits in ([], [add_to_unit(subject, unit, amount, where)])]
        plain, driven = (logits[0, -1].double().log_softmax(-1) for logits in runs if logits is not None)
        found.append(float((plain.exp() * (plain - driven)).sum()))
    return sum(found) / len(found)


@pytest.mark.parametrize("unit", [NEURON, HEAD], ids=str)
@pytest.mark.parametrize("span", [1, None])
@pytest.mark.parametrize("target", [0.25, -0.25, 0.01])
def test_the_strength_for_a_divergence_has_that_divergence(
    gpt2: Subject, unit: UnitId, span: int | None, target: float
) -> None:
    found = amount_for_kl(gpt2, unit, CONTEXTS, target, span=span)
    assert found.kl == pytest.approx(abs(target), rel=0.02)
    assert (found.amount > 0) == (target > 0)
    assert kl_by_hand(gpt2, unit, found.amount, span) == pytest.approx(found.kl, rel=1e-4)
    # It is the weakest: less strength diverges less.
    assert kl_by_hand(gpt2, unit, 0.97 * found.amount, span) < abs(target)


def test_a_divergence_out_of_reach_is_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match=r"cannot be driven to a KL divergence of 50 .* is the most"):
        amount_for_kl(gpt2, NEURON, CONTEXTS, 50.0)
    for target in (0.0, float("nan"), float("inf")):
        with pytest.raises(InterventionError, match="other than 0"):
            amount_for_kl(gpt2, NEURON, CONTEXTS, target)


def test_a_unit_that_writes_nothing_is_told(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    subject.model.transformer.h[1].mlp.c_proj.weight.data[7] = 0.0
    with pytest.raises(InterventionError, match="writes nothing"):
        amount_for_kl(subject, NEURON, CONTEXTS, 0.5)
    with pytest.raises(InterventionError, match="writes nothing"):
        amount_for_norm(subject, NEURON, CONTEXTS, 1.0)


@pytest.mark.parametrize("unit", [NEURON, HEAD], ids=str)
def test_strengths_in_norms_of_the_stream(gpt2: Subject, unit: UnitId) -> None:
    norms = []
    for context in CONTEXTS:
        site = Site(1, "resid_post")
        norms += run(gpt2, torch.tensor([context]), read=[site], logits=False)[site][0, 1:].norm(dim=-1).tolist()
    expected = sum(norms) / len(norms)
    assert stream_norm(gpt2, unit, CONTEXTS) == pytest.approx(expected, rel=1e-5)
    amount = amount_for_norm(gpt2, unit, CONTEXTS, 0.5)
    per_unit = 1.0 if unit == HEAD else float(gpt2.model.transformer.h[1].mlp.c_proj.weight[7].norm())
    assert amount == pytest.approx(0.5 * expected / per_unit, rel=1e-3)
    weak, strong = strengths_at(gpt2, unit, CONTEXTS, [amount, -2 * amount])
    assert weak.stream == pytest.approx(0.5, rel=1e-3)
    assert strong.stream == pytest.approx(1.0, rel=1e-3)
    assert strong.length == pytest.approx(expected, rel=1e-3)


def test_behind_a_norm_lengths_are_those_that_reach_the_stream(tiny_gpt2_folder: Path) -> None:
    """Gemma 2 normalises what a layer writes: ten times the activation is not ten times the write."""
    subject = make_case("gemma2", tiny_gpt2_folder).subject
    site = Site(1, "mlp_out")
    weak, strong = strengths_at(subject, NEURON, CONTEXTS, [1.0, 10.0])
    moved = []
    for context in CONTEXTS:
        ids = torch.tensor([context])
        plain, driven = (
            run(subject, ids, None, edits, read=[site], logits=False)[site][0, 1:]
            for edits in ([], [add_to_unit(subject, NEURON, 10.0, Where(since=1))])
        )
        moved.append(float((driven - plain).norm(dim=-1).mean()))
    assert strong.length == pytest.approx(sum(moved) / len(moved), rel=1e-4)
    assert strong.length < 8 * weak.length


def test_half_precision_finds_about_the_same_strength(gpt2: Subject, tiny_gpt2_folder: Path) -> None:
    model = make_case("gpt2", tiny_gpt2_folder).subject.model.bfloat16()
    half = Subject("half", model, gpt2.tokenizer, "1" * 16)
    exact, rounded = (amount_for_kl(subject, NEURON, CONTEXTS, 0.5) for subject in (gpt2, half))
    assert rounded.amount == pytest.approx(exact.amount, rel=0.1)
