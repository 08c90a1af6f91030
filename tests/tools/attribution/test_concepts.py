"""Concept vectors of texts: a planted concept is found where it is, and nothing is where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools.attribution import TokenTarget, UnitTarget, concept_sensitivity
from tools.errors import UnitError
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

SITES = (Site(0, "resid_post"), Site(1, "resid_pre"))


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def texts_of(seed: int, n: int, token: int | None = None) -> list[list[int]]:
    """Random texts, in which every third token is the one that makes the concept."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(20, 400, int(length)).tolist() for length in rng.integers(9, 15, n)]
    return [[token if token is not None and i % 3 == 1 else t for i, t in enumerate(text)] for text in texts]


def test_a_concept_raises_the_unit_that_reads_it_and_lowers_its_opposite(subject: Subject) -> None:
    """A direction that is the difference which a token's presence makes, read off the texts one layer later."""
    with_it, without = texts_of(1, 12, 7), texts_of(2, 14)

    def mean(texts: list[list[int]]) -> torch.Tensor:
        rows = [subject.capture(torch.tensor([t]), None, [SITES[0]])[SITES[0]][0, 1:].mean(0) for t in texts]
        return torch.stack(rows).mean(0)

    subject.add_direction("concept", Site(1, "resid_post"), mean(with_it) - mean(without))
    target, examples = UnitTarget(UnitId.parse("dir:concept")), texts_of(3, 16)
    found = concept_sensitivity(subject, (with_it, without), examples, target, SITES, random=200)
    assert found.texts == (12, 14)
    # The output of one layer is the input of the next.
    first, second = found.sensitivities
    assert first.derivative == pytest.approx(second.derivative, abs=1e-6)
    assert first.share == 1.0
    assert found.adjusted[0] == pytest.approx(2 / 201)
    assert first.derivative > np.quantile(first.random_derivatives, 0.99)
    assert found.separations[0] > 0.9
    opposite = concept_sensitivity(subject, (without, with_it), examples, target, SITES[:1], random=200)
    assert opposite.sensitivities[0].derivative == pytest.approx(-first.derivative)
    assert opposite.separations[0] > 0.9


def test_sets_that_do_not_differ_are_no_concept_and_are_seldom_taken_for_one(subject: Subject) -> None:
    examples, target = texts_of(4, 8), TokenTarget(7, 9)
    found = [
        concept_sensitivity(subject, (texts_of(2 * i, 10), texts_of(2 * i + 1, 10)), examples, target, SITES[:1],
                            random=60, seed=i)
        for i in range(10, 50)
    ]  # fmt: skip
    rate = np.mean([one.sensitivities[0].p_derivative <= 0.1 for one in found])
    assert rate <= 0.1 + 3 * (0.09 / 40) ** 0.5
    assert abs(np.mean([one.separations[0] for one in found]) - 0.5) < 0.05


def test_derivatives_are_those_of_small_steps(subject: Subject) -> None:
    """The slope is what the logit gains when the stream at the last token moves a little along the vector."""
    from tools.interventions import Where, add, run

    sides = texts_of(1, 8, 7), texts_of(2, 8)
    examples = texts_of(5, 8)
    found = concept_sensitivity(subject, sides, examples, TokenTarget(7, 9), SITES[:1], random=50)
    site = SITES[0]
    means = [
        np.mean([subject.capture(torch.tensor([t]), None, [site])[site][0, 1:].mean(0).numpy() for t in texts], 0)
        for texts in sides
    ]
    vector = torch.tensor(means[0] - means[1], dtype=torch.float32)
    vector /= vector.norm()
    slopes = []
    for text in examples:
        ends = []
        for step in (-0.002, 0.002):
            edit = add(site, step * vector, Where(positions=[len(text) - 1]))
            moved = run(subject, torch.tensor([text]), None, [edit])
            assert moved.logits is not None
            ends.append(float(moved.logits[0, -1, 7] - moved.logits[0, -1, 9]))
        slopes.append((ends[1] - ends[0]) / 0.004)
    assert found.sensitivities[0].derivative == pytest.approx(float(np.mean(slopes)), rel=2e-3, abs=2e-4)
    assert found.sensitivities[0].share == np.mean(np.array(slopes) > 0)


def test_what_cannot_be_tested_is_said(subject: Subject) -> None:
    sides, examples = (texts_of(1, 8, 7), texts_of(2, 8)), texts_of(3, 8)
    with pytest.raises(UnitError, match="at least 8 texts that have not; there are 3"):
        concept_sensitivity(subject, (sides[0], sides[1][:3]), examples, TokenTarget(7), SITES)
    with pytest.raises(UnitError, match="same mean state"):
        concept_sensitivity(subject, (sides[0], sides[0]), examples, TokenTarget(7), SITES)
    early = UnitTarget(UnitId.parse("mlp:0:3"))
    with pytest.raises(UnitError, match=r"does not depend on resid_post\.1"):
        concept_sensitivity(subject, sides, examples, early, [Site(1, "resid_post")])
