"""The families of planted neurons: what each is, and how its members are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tools.planted.garden import Feature, Garden, Group, Reading
from tools.planted.layout import N_LAYERS, ON
from tools.planted.predicates import All, AnyOf, Not, Position, Predicate, TokenIn, Within
from tools.planted.truth import Case

#: Number of neurons of each family in the two sizes.
COUNTS: dict[str, tuple[int, int]] = {
    "token set": (36, 70),
    "token class": (22, 22),
    "frequent": (3, 3),
    "bigram": (36, 80),
    "skip-gram": (28, 60),
    "position": (10, 16),
    "repetition": (14, 28),
    "polysemantic of two": (18, 40),
    "polysemantic of three": (12, 28),
    "cause is not effect": (18, 36),
    "inert look-alike": (20, 36),
    "rule with exception": (24, 48),
    "graded": (14, 28),
    "negative tail": (12, 20),
    "near-duplicate": (12, 24),
}
#: A rule with this share of positions at most is not dense (units that are on more often are not described).
_RARE, _COMMON = 0.0015, 0.2


class Families:
    """Plants all families of neurons in a garden."""

    def __init__(self, garden: Garden) -> None:
        self.garden = garden
        self.rng = garden.rng
        self.size = 0 if garden.spec.size == "small" else 1
        self.turn = 0

    # --- choosing -----------------------------------------------------------------------------------------------------

    def concept_names(self, *kinds: str) -> list[str]:
        return [c.name for c in self.garden.concepts.values() if c.kind in kinds]

    def feature(self, name: str) -> Feature:
        return self.garden.features[name]

    @property
    def lagged(self) -> list[str]:
        return [c.name for c in self.garden.concepts.values() if c.lagged]

    def layer(self, since: int = 0) -> int:
        """Layers by turns, of those that have the features."""
        self.turn += 1
        return since + self.turn % (N_LAYERS - since)

    def own_group(self, name: str) -> Group:
        """The output group of a concept where it has one, else of any."""
        return self.garden.groups.get(name) or self.any_group()

    def any_group(self, apart_from: Sequence[str] = ()) -> Group:
        """A group that shares no token with these."""
        fits = [g for g in self.garden.groups.values() if not set(g.tokens) & set(apart_from)]
        return self.rng.choice(fits)

    def sign(self) -> int:
        return self.rng.choice((1, 1, -1))

    def usable(self, layer: int, when: Predicate, low: float = _RARE, high: float = _COMMON) -> bool:
        return low <= self.garden.share(when) <= high and self.garden.is_new(layer, when)

    def many(self, family: str, make: Callable[[], bool]) -> None:
        """Try until the family has its number."""
        wanted, tries = COUNTS[family][self.size], 0
        while wanted:
            tries += 1
            if tries > 4000:
                raise ValueError(f"the family '{family}' lacks {wanted} units: no more rules are found for it")
            wanted -= make()

    # --- families -----------------------------------------------------------------------------------------------------

    def plant(self) -> None:
        """Everything, in a fixed order."""
        self.derive()
        sets = self.concept_names("category", "set", "part", "ladder")
        for name in ("token set", "inert look-alike", "cause is not effect"):
            self.many(name, lambda name=name: self.tokens(name, sets))  # type: ignore[misc]
        self.many("token class", lambda: self.tokens("token class", self.concept_names("class")))
        self.frequent()
        self.many("bigram", self.bigram)
        self.many("skip-gram", self.skip_gram)
        self.many("position", self.position)
        self.many("repetition", self.repetition)
        self.many("polysemantic of two", lambda: self.polysemantic(2))
        self.many("polysemantic of three", lambda: self.polysemantic(3))
        self.many("rule with exception", self.exception)
        self.many("graded", self.graded)
        self.many("negative tail", lambda: self.tokens("negative tail", sets))
        self.many("near-duplicate", self.twin)

    def derive(self) -> None:
        """Features for layers 1 and 2: a concept within the last k tokens, and pairs of concepts."""
        garden = self.garden
        for name in self.rng.sample(self.lagged, 10):
            k = self.rng.choice((2, 3, 3))
            parts = [self.feature(f"{name} -{lag}") for lag in range(1, k + 1)]
            weights = {part.dim: 2 * ON for part in parts}
            # Two neurons whose difference is flat from one occurrence on.
            readings = [(Reading(weights, -ON), 1 / ON), (Reading(weights, -2 * ON), -1 / ON)]
            garden.derive(f"{name} within {k}", Within(k, garden.concepts[name].tokens), readings)
        made = 0
        while made < 24:
            first, second, lag = self.rng.choice(self.lagged), self.rng.choice(self.lagged), self.rng.choice((1, 1, 2))
            pair = [self.feature(f"{first} -{lag}"), self.feature(second)]
            when = All(tuple(part.predicate for part in pair))
            if f"{first} -{lag}, {second}" in garden.features or not 0.002 <= garden.share(when) <= 0.05:
                continue
            garden.derive(f"{first} -{lag}, {second}", when, [(Reading.all_of(pair), 1 / ON)])
            made += 1

    def tokens(self, family: str, names: Sequence[str]) -> bool:
        """One or two concepts of the current token."""
        layer = self.layer()
        chosen = [self.rng.choice(names)]
        if family != "token class" and self.rng.random() < 0.4:
            chosen.append(self.rng.choice(self.concept_names("category", "set")))
        members = [self.garden.concepts[name].tokens for name in chosen]
        if len(chosen) == 2 and set(members[0]) & set(members[1]):
            return False
        when = TokenIn(tuple(sorted(token for tokens in members for token in tokens)))
        if not self.usable(layer, when, low=0.0009):
            return False
        reading = Reading.any_of([self.feature(name) for name in chosen])
        cases = (Case(when, ON),)
        if family == "inert look-alike":
            self.garden.plant(layer, family, reading, cases, group=None, inert=True,
                              causal_note="Writes only where nothing reads.")  # fmt: skip
        elif family == "cause is not effect":
            group = self.any_group(when.tokens)
            self.garden.plant(layer, family, reading, cases, group=group,
                              causal_note=f"Promotes tokens on which it does not fire ({group.name}).")  # fmt: skip
        else:
            self.garden.plant(layer, family, reading, cases, group=self.own_group(chosen[0]), sign=self.sign(),
                              negative=family == "negative tail")  # fmt: skip
        return True

    def frequent(self) -> None:
        """Rules that hold at so many positions that a unit counts as dense."""
        names = ("ladder 0.5", "ladder 0.35", "ladder 0.5")[: COUNTS["frequent"][self.size]]
        for layer, name in enumerate(names):
            feature = self.feature(name)
            self.garden.plant(layer, "frequent", Reading.any_of([feature]), (Case(feature.predicate, ON),),
                              group=self.any_group())  # fmt: skip

    def conjunction(self, family: str, layer: int, yes: Sequence[Feature], no: Sequence[Feature] = ()) -> bool:
        """Plant the conjunction where it says more than each part: with it, each part holds clearly less often."""
        garden = self.garden
        when = All((*(f.predicate for f in yes), *(Not(f.predicate) for f in no)))
        if not self.usable(layer, when):
            return False
        share = garden.share(when)
        for left_out in yes:
            rest = All(tuple(f.predicate for f in yes if f is not left_out))
            if len(yes) > 1 and share > 0.8 * garden.share(rest):
                return False
        garden.plant(layer, family, Reading.all_of(yes, no), (Case(when, ON),), group=self.any_group(),
                     sign=self.sign())  # fmt: skip
        return True

    def bigram(self) -> bool:
        first, second = self.rng.choice(self.lagged), self.rng.choice(self.concept_names("category", "set", "part"))
        return self.conjunction("bigram", self.layer(), [self.feature(f"{first} -1"), self.feature(second)])

    def skip_gram(self) -> bool:
        windows = [f for f in self.garden.features.values() if isinstance(f.predicate, Within)]
        second = self.feature(self.rng.choice(self.concept_names("category", "class", "set")))
        return self.conjunction("skip-gram", self.layer(since=1), [self.rng.choice(windows), second])

    def position(self) -> bool:
        """Positions from a to b - 1, alone or with a concept."""
        steps = [f for f in self.garden.features.values() if isinstance(f.predicate, Position)]
        low, high = sorted(self.rng.sample(range(len(steps)), 2))
        first, end = steps[low].predicate, steps[high].predicate
        assert isinstance(first, Position)
        assert isinstance(end, Position)
        place = Position(first.low, end.low - 1)
        if self.rng.random() < 0.5:
            reading = Reading({steps[low].dim: 2 * ON, steps[high].dim: -2 * ON}, -ON)
            if not self.usable(2, place):
                return False
            self.garden.plant(2, "position", reading, (Case(place, ON),), group=self.any_group())
            return True
        token = self.feature(self.rng.choice(self.concept_names("category", "class")))
        when = All((place, token.predicate))
        if not self.usable(2, when):
            return False
        reading = Reading({steps[low].dim: 2 * ON, steps[high].dim: -2 * ON, token.dim: 2 * ON}, -3 * ON)
        self.garden.plant(2, "position", reading, (Case(when, ON),), group=self.any_group())
        return True

    def repetition(self) -> bool:
        """A concept, where the token, or it and the token before it, stood in the context before."""
        flag = self.feature(self.rng.choice(("repeated", "pair repeated")))
        token = self.feature(self.rng.choice(self.concept_names("category", "class", "set")))
        return self.conjunction("repetition", self.layer(since=max(1, flag.since)), [flag, token])

    def polysemantic(self, n: int) -> bool:
        """Two or three unrelated rules, each with current tokens of its own."""
        garden, layer = self.garden, self.layer(since=1)
        simple = [self.feature(name) for name in self.concept_names("category", "set", "part")]
        joint = [f for f in garden.features.values() if isinstance(f.predicate, All)]
        chosen = [self.rng.choice(joint), *(self.rng.choice(simple + joint) for _ in range(n - 1))]
        heads = [_current(feature.predicate) for feature in chosen]
        shares = [garden.share(feature.predicate) for feature in chosen]
        if any(a & b for k, a in enumerate(heads) for b in heads[:k]) or max(shares) > 8 * min(shares):
            return False
        when = AnyOf(tuple(feature.predicate for feature in chosen))
        if min(shares) < _RARE or not self.usable(layer, when):
            return False
        family = {2: "polysemantic of two", 3: "polysemantic of three"}[n]
        garden.plant(layer, family, Reading.any_of(chosen), (Case(when, ON),), group=self.any_group(),
                     concepts=when.parts)  # fmt: skip
        return True

    def exception(self) -> bool:
        """A concept, except after certain tokens, which happens rarely."""
        garden, layer = self.garden, self.layer()
        token = self.feature(self.rng.choice(self.concept_names("category", "class", "set")))
        kinds = [self.feature(f"{name} -{lag}") for name in self.lagged for lag in (1, 2)]
        if layer >= 1:
            kinds += [f for f in garden.features.values() if isinstance(f.predicate, Within)]
            kinds += [self.feature("repeated"), self.feature("pair repeated")]
        but = self.rng.choice(kinds)
        rule, rare = garden.share(token.predicate), garden.share(All((token.predicate, but.predicate)))
        when = All((token.predicate, Not(but.predicate)))
        if not 0.05 * rule <= rare <= 0.2 * rule or rare < 0.0005 or not self.usable(layer, when):
            return False
        garden.plant(layer, "rule with exception", Reading.all_of([token], [but]), (Case(when, ON),),
                     group=self.any_group(), exception=All((token.predicate, but.predicate)))  # fmt: skip
        return True

    def graded(self) -> bool:
        """Three or four concepts, each with a strength of its own."""
        layer = self.layer()
        names = self.rng.sample(self.concept_names("category", "set"), self.rng.choice((3, 4)))
        members = [set(self.garden.concepts[name].tokens) for name in names]
        if any(a & b for k, a in enumerate(members) for b in members[:k]):
            return False
        features, levels = [self.feature(name) for name in names], (16.0, 12.0, 6.5, 4.5)
        when = AnyOf(tuple(feature.predicate for feature in features))
        if not self.usable(layer, when):
            return False
        reading = Reading({f.dim: ON + level for f, level in zip(features, levels, strict=False)}, -ON)
        cases = [Case(f.predicate, level) for f, level in zip(features, levels, strict=False)]
        self.garden.plant(layer, "graded", reading, cases, group=self.any_group())
        return True

    def twin(self) -> bool:
        """A neuron that fires with another of its layer, a little more or less strongly."""
        garden = self.garden
        known = {truth.twin for truth in garden.truths}
        plain = [t for t in garden.truths if t.family in ("token set", "bigram", "skip-gram") and t.unit not in known]
        original = self.rng.choice(plain)
        layer, number = (int(part) for part in original.unit.split(":")[1:])
        index = garden.take_after(layer, number)
        if index is None:
            return False
        model = next(n for n in garden.neurons if (n.layer, n.index) == (layer, number))
        noise = self.rng.choice((-0.03, 0.03))
        reading = Reading({dim: weight * (1 + noise) for dim, weight in model.reads.items()}, model.bias * (1 + noise))
        cases = [Case(case.when, case.level * (1 + noise)) for case in original.cases]
        garden.plant(layer, "near-duplicate", reading, cases, group=self.any_group(), index=index,
                     twin=original.unit)  # fmt: skip
        return True


def _current(predicate: Predicate) -> set[str]:
    """The current tokens at which a predicate can hold."""
    if isinstance(predicate, TokenIn):
        return set(predicate.tokens)
    assert isinstance(predicate, All)
    return set.union(*(_current(part) for part in predicate.parts if isinstance(part, TokenIn)))
