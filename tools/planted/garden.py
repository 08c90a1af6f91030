"""Where units are planted: features that neurons can read, free places, and what sample texts say of a rule."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tools.planted.circuits import LAST
from tools.planted.concepts import Concept
from tools.planted.corpus import documents
from tools.planted.layout import DERIVED, GROUPS, LAGS, LOGITS, N_LAYERS, ON, STEPS, Layout, Neuron
from tools.planted.predicates import All, AnyOf, Before, Induction, Not, Position, Predicate, Repeated, TokenIn
from tools.planted.spec import PlantedSpec
from tools.planted.truth import Case, Effect, UnitTruth
from tools.planted.words import BOS, TOKENS
from tools.types import BoolArray, IntArray

#: Documents on which rules are looked at before they are planted.
SAMPLE = 800


@dataclass(frozen=True)
class Feature:
    """A dimension of the stream that is 1 where a predicate holds and else 0, from an MLP layer on."""

    name: str
    dim: int
    predicate: Predicate
    since: int = 0


@dataclass(frozen=True)
class Group:
    """Tokens whose logits one dimension of the stream raises alike."""

    name: str
    dim: int
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """A linear form over features whose value is `ON` or more where a neuron is on, and at most -`ON` where not."""

    weights: dict[int, float]
    bias: float

    @classmethod
    def all_of(cls, yes: Sequence[Feature], no: Sequence[Feature] = ()) -> Reading:
        """On where all of `yes` hold and none of `no`."""
        weights = {feature.dim: 2 * ON for feature in yes} | {feature.dim: -2 * ON for feature in no}
        return cls(weights, ON - 2 * ON * len(yes))

    @classmethod
    def any_of(cls, features: Sequence[Feature]) -> Reading:
        """On where one of them holds. No two may hold at once."""
        return cls({feature.dim: 2 * ON for feature in features}, -ON)


class Garden:
    """Collects what is planted in one subject.

    Attributes:
        features: By name; `current`, `lag`, `window` and others below name them.
        neurons: Planned so far. truths: What is known of them.
    """

    def __init__(self, spec: PlantedSpec, concepts: Sequence[Concept], layout: Layout, neurons_per_layer: int,
                 negative_level: float) -> None:  # fmt: skip
        self.spec = spec
        self.concepts = {concept.name: concept for concept in concepts}
        self.layout = layout
        self.negative_level = negative_level
        self.rng = random.Random(f"planted units 1 seed {spec.seed} size {spec.size}")
        self.neurons: list[Neuron] = []
        self.truths: list[UnitTruth] = []
        self.features: dict[str, Feature] = {}
        self.derived = 0
        self._free = [self.rng.sample(range(neurons_per_layer), neurons_per_layer) for _ in range(N_LAYERS)]
        self._taken: list[set[Predicate]] = [set() for _ in range(N_LAYERS)]
        lagged = [concept for concept in concepts if concept.lagged]
        for number, concept in enumerate(concepts):
            self._add(concept.name, layout.dim("concept", number), TokenIn(concept.tokens))
        for lag in LAGS:
            for number, concept in enumerate(lagged):
                dim = layout.dim(f"concept {lag} back", number)
                self._add(f"{concept.name} -{lag}", dim, Before(lag, concept.tokens))
        self._add("repeated", layout.dim("flag", 0), Repeated(), since=0)
        self._add("pair repeated", layout.dim("flag", 1), Induction(), since=1)
        for number, step in enumerate(STEPS):
            self._add(f"from {step}", layout.dim("step", number), Position(step, LAST), since=2)
        grouped = [c for c in concepts if c.kind != "ladder" and len(c.tokens) <= 30 and c.name != "sign"]
        self.groups = {c.name: Group(c.name, layout.dim("group", k), c.tokens) for k, c in enumerate(grouped[:GROUPS])}

    def _add(self, name: str, dim: int, predicate: Predicate, since: int = 0) -> Feature:
        self.features[name] = Feature(name, dim, predicate, since)
        return self.features[name]

    # --- sample texts -------------------------------------------------------------------------------------------------

    @cached_property
    def sample(self) -> list[list[str]]:
        """Texts of the subject's corpus, apart from the corpus itself, as pieces."""
        texts = documents(self.spec, fresh=1_000_003, n=SAMPLE)
        return [[BOS, *(f" {word}" for word in text.text.split())] for text in texts]

    def where(self, predicate: Predicate) -> BoolArray:
        """At which positions of all sample texts the predicate holds, the first of each text left out."""
        if predicate not in self._known:
            self._known[predicate] = self._look(predicate)
        return self._known[predicate]

    @cached_property
    def _sample_ids(self) -> IntArray:
        numbers = {token: index for index, token in enumerate(TOKENS)}
        return np.array([numbers[piece] for pieces in self.sample for piece in pieces[1:]])

    @cached_property
    def _known(self) -> dict[Predicate, BoolArray]:
        return {}

    def _look(self, predicate: Predicate) -> BoolArray:
        if isinstance(predicate, All) and predicate.parts:
            held: BoolArray = np.logical_and.reduce([self.where(part) for part in predicate.parts])
            return held
        if isinstance(predicate, AnyOf) and predicate.parts:
            held = np.logical_or.reduce([self.where(part) for part in predicate.parts])
            return held
        if isinstance(predicate, Not):
            return ~self.where(predicate.part)
        if isinstance(predicate, TokenIn):
            table = np.array([token in predicate.tokens for token in TOKENS])
            return table[self._sample_ids]
        return np.concatenate([predicate.holds(pieces)[1:] for pieces in self.sample])

    def share(self, predicate: Predicate) -> float:
        """Share of sample positions at which the predicate holds."""
        return float(self.where(predicate).mean())

    # --- planting -----------------------------------------------------------------------------------------------------

    def free(self, layer: int) -> int:
        """Neurons of a layer that are not planted."""
        return len(self._free[layer])

    def take(self, layer: int) -> int:
        """A free neuron of a layer, from now on taken."""
        if not self._free[layer]:
            raise ValueError(f"layer {layer} has no free neuron left")
        return self._free[layer].pop()

    def take_after(self, layer: int, index: int) -> int | None:
        """A free neuron with a higher number than `index`, from now on taken; None if there is none."""
        later = [k for k in self._free[layer] if k > index]
        if later:
            self._free[layer].remove(later[0])
        return later[0] if later else None

    def is_new(self, layer: int, when: Predicate) -> bool:
        """Whether no neuron of the layer fires by this rule, or at nearly the same places."""
        if when in self._taken[layer]:
            return False
        here = self.where(when)
        return all(_overlap(here, self.where(other)) < 0.9 for other in self._taken[layer])

    def derive(self, name: str, predicate: Predicate, readings: Iterable[tuple[Reading, float]]) -> Feature:
        """A new feature for layers 1 and later, made by neurons of layer 0 with these readings and output weights."""
        if self.derived == DERIVED:
            raise ValueError(f"there are already {DERIVED} derived features")
        dim = self.layout.dim("derived", self.derived)
        self.derived += 1
        for reading, weight in readings:
            self.neurons.append(Neuron(0, self.take(0), reading.weights, reading.bias, {dim: weight}))
        return self._add(name, dim, predicate, since=1)

    def writes(self, group: Group | None, sign: int, level: float) -> dict[int, float]:
        """Output weights of a neuron with this level: into a group of logits, or where nothing reads."""
        if group is None:
            return {self.layout.dim("dead", self.rng.randrange(8, 16)): 1.0 / level}
        return {group.dim: sign / level}

    def effect(self, group: Group, sign: int) -> Effect:
        """What is claimed of a unit that writes 1 into a group: a little less than it does."""
        vocabulary = len({token for concept in self.concepts.values() for token in concept.tokens}) + 3
        return Effect(group.tokens, sign, round(0.85 * LOGITS * (1 - len(group.tokens) / vocabulary), 3))

    def plant(self, layer: int, family: str, reading: Reading, cases: Sequence[Case], *, group: Group | None,
              sign: int = 1, inert: bool = False, index: int | None = None, negative: bool = False,
              **known: object) -> UnitTruth:  # fmt: skip
        """Plant a neuron and write down what is known of it.

        Args:
            layer: Of the neuron.
            family: Of the truth.
            reading: What drives it.
            cases: When it fires, with the drive there as level.
            group: The logits that it changes; None: it writes where nothing reads.
            sign: Whether it raises or lowers them.
            inert: Whether it is known to do nothing.
            index: Which neuron, if one has been taken for it.
            negative: Whether on is the negative tail.
            known: Further fields of the truth.
        """
        index = self.take(layer) if index is None else index
        level = max(case.level for case in cases)
        factor = self.negative_level / level if negative else 1.0
        weights = self.writes(group, -sign if negative else sign, level * factor)
        self.neurons.append(Neuron(layer, index, reading.weights, reading.bias, weights, negative=negative))
        cases = tuple(Case(case.when, case.level * factor) for case in cases)
        tolerance = 0.03 * level * factor + (0.005 if negative else 0.1)
        truth = UnitTruth(
            f"mlp:{layer}:{index}", "-" if negative else "+", family, cases, 0.0, round(tolerance, 4),
            effect=None if group is None else self.effect(group, sign), inert=inert, **known,  # type: ignore[arg-type]
        )  # fmt: skip
        self.truths.append(truth)
        self._taken[layer].update(case.when for case in cases)
        return truth


def _overlap(a: BoolArray, b: BoolArray) -> float:
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0
