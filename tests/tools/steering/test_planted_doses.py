"""On units whose effects are known: what is planted is found, and what is inert is not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from tools.planted import PlantedSpec, UnitTruth, build, documents, load_truth
from tools.steering import dose_response
from tools.subject import Subject, load_subject
from tools.types import UnitId

#: Of each family; the slow test takes all units.
SAMPLE = 1


@dataclass(frozen=True)
class Planted:
    subject: Subject
    truths: list[UnitTruth]
    contexts: list[list[int]]
    ids: dict[str, int]

    def claim(self, truth: UnitTruth, effect: Any) -> tuple[bool, bool]:
        """Whether it is found that the unit moves an effect's tokens as it says, and that it moves any tokens."""
        sign = 1 if truth.polarity == "+" else -1
        amounts = [sign * (truth.level or 6.0) * part for part in (1 / 3, 2 / 3, 1.0)]
        unit = UnitId.parse(truth.unit)
        given = dose_response(
            self.subject, unit, self.contexts, amounts, tokens=[self.ids[token] for token in effect.tokens],
            sign=sign * effect.sign,
        )  # fmt: skip
        return given.follows(), dose_response(self.subject, unit, self.contexts, amounts).follows()

    def claims(self, truths: list[UnitTruth]) -> list[tuple[bool, bool]]:
        """For each unit with an effect that one; for others that of a unit drawn at random."""
        generator = random.Random(5)
        effects = [truth.effect for truth in self.truths if truth.effect]
        return [self.claim(truth, truth.effect or generator.choice(effects)) for truth in truths]


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def planted(request: pytest.FixtureRequest) -> Planted:
    spec = PlantedSpec(seed=1, arch=request.param)
    subject = load_subject(spec.text, device="cpu")
    # Heads are left out: what one writes where it is not on is no direction of its own.
    truths = [truth for truth in load_truth(build(spec)).values() if not truth.unit.startswith("head")]
    texts = [subject.encode(document.text) for document in documents(spec, fresh=21, n=40)]
    contexts = [text[: 6 + i] for i, text in enumerate(text for text in texts if len(text) > 14)][:6]
    ids = {piece: i for i, piece in enumerate(subject.pieces(range(subject.vocabulary)))}
    return Planted(subject, truths, contexts, ids)


def sample(truths: list[UnitTruth]) -> list[UnitTruth]:
    families: dict[str, list[UnitTruth]] = {}
    for truth in truths:
        families.setdefault(truth.family, []).append(truth)
    return [
        truth for family in families.values() for truth in random.Random(2).sample(family, min(SAMPLE, len(family)))
    ]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def test_planted_effects_follow_the_dose_and_inert_units_do_not(planted: Planted) -> None:
    with_effect = sample([truth for truth in planted.truths if truth.effect and truth.effect.least >= 0.5])
    without = sample([truth for truth in planted.truths if not truth.effect and (truth.inert or truth.noise)])
    assert len(with_effect) >= 18
    assert len(without) >= 4
    named, found = zip(*planted.claims(with_effect), strict=True)
    assert share(named) >= 0.9
    assert share(found) >= 0.9
    named, found = zip(*planted.claims(without), strict=True)
    assert share([*named, *found]) <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_planted_effects_follow_the_dose_and_no_more_than_one_in_twenty_others(planted: Planted) -> None:
    claims = planted.claims([truth for truth in planted.truths if truth.effect and truth.effect.least >= 0.5])
    assert min(share(list(flags)) for flags in zip(*claims, strict=True)) >= 0.9
    inert = planted.claims([truth for truth in planted.truths if truth.inert])
    assert max(share(list(flags)) for flags in zip(*inert, strict=True)) <= 0.05
    noise = planted.claims([truth for truth in planted.truths if truth.noise and not truth.effect])
    assert max(share(list(flags)) for flags in zip(*noise, strict=True)) <= 0.05
