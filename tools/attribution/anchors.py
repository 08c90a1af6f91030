"""Anchors: the smallest set of tokens that is enough for the target (Ribeiro et al. 2018, "Anchors", AAAI).

A set is enough when the target holds, at half of its value or more, in at least 95 % of texts in which the set stands
where it does and all else is drawn anew. The search begins with the tokens whose replacement alone undoes the target:
of a rule that wants two things at once neither is worth anything by itself, and a search that began with nothing would
not find them. From there sets grow by one token at a time, the best two of each size; candidates are compared by
successive halving of their number, and a set is accepted once the lower bound of its precision by Bernoulli divergence
(Kaufmann & Kalyanakrishnan 2013, KL-LUCB) is within the tolerance. Tokens that it does not need are left out again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tools.attribution.impute import Imputer
from tools.attribution.targets import Reader, TokenTarget
from tools.errors import UnitError
from tools.types import IntArray

#: How far the lower bound may be below the wanted precision.
TOLERANCE = 0.05
#: The chance that a set is accepted that is not that precise.
_DELTA = 0.05
_BATCH, _BEAM, _FIRST = 32, 2, 8


@dataclass(frozen=True)
class Anchor:
    """A set of tokens that is enough."""

    positions: tuple[int, ...]
    precision: float
    """Share of drawn texts in which the target held."""
    bound: float
    """Its lower bound at 95 %."""
    certified: bool
    """Whether the set is enough by that test; if not, it is the best that was found."""
    base: float
    """The share with nothing kept."""
    texts: int
    """Drawn texts that were run in all."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Tally:
    """Draws of one set so far."""

    n: int = 0
    held: int = 0

    @property
    def share(self) -> float:
        return self.held / self.n if self.n else 0.0


@dataclass
class _Search:
    reader: Reader
    places: Sequence[int]
    imputer: Imputer
    precision: float
    most: int
    rng: np.random.Generator
    value: float = 0.0
    tallies: dict[tuple[int, ...], _Tally] = field(default_factory=dict)
    texts: int = 0

    def needed(self) -> tuple[int, ...]:
        """Tokens whose replacement alone, all else as it is, often undoes the target."""
        everything = tuple(range(len(self.reader.ids)))
        without = {place: tuple(i for i in everything if i != place) for place in self.places}
        self.draw(without.values(), _FIRST)
        return tuple(place for place in self.places if self.tallies.pop(without[place]).share < self.precision)

    def draw(self, sets: Iterable[tuple[int, ...]], n: int) -> None:
        """n more texts for each set, in one go."""
        wanted = list(sets)
        self.texts += len(wanted) * n
        kept = np.zeros((len(wanted) * n, len(self.reader.ids)), dtype=bool)
        fixed = len(self.reader.subject.prefix)
        kept[:, :fixed] = True
        for i, chosen in enumerate(wanted):
            kept[i * n : (i + 1) * n, list(chosen)] = True
        values = self.reader.evaluate(self.imputer.fill(self.reader.ids, kept, self.rng))
        held = (values * np.sign(self.value) >= 0.5 * abs(self.value)).reshape(len(wanted), n).sum(1)
        for chosen, count in zip(wanted, held.tolist(), strict=True):
            tally = self.tallies.setdefault(chosen, _Tally())
            tally.n, tally.held = tally.n + n, tally.held + count

    def best(self, sets: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The best of some sets, by successive halving."""
        n = _FIRST
        while True:
            self.draw(sets, n)
            sets = sorted(sets, key=lambda chosen: -self.tallies[chosen].share)
            if len(sets) <= _BEAM:
                return sets
            sets, n = sets[: max(_BEAM, len(sets) // 2)], min(2 * n, _BATCH)

    def enough(self, chosen: tuple[int, ...]) -> bool:
        """Draw until it is clear whether a set is enough."""
        looks = math.ceil(self.most / _BATCH)
        level = math.log(looks * _BEAM / _DELTA)
        while True:
            tally = self.tallies.setdefault(chosen, _Tally())
            if tally.n and tally.share >= self.precision:
                if lower_bound(tally.share, tally.n, level) >= self.precision - TOLERANCE:
                    return True
            elif tally.n and upper_bound(tally.share, tally.n, level) < self.precision:
                return False
            if tally.n >= self.most:
                return False
            self.draw([chosen], _BATCH)


def anchor(
    reader: Reader, places: IntArray, imputer: Imputer, *, precision: float = 0.95, largest: int = 6, most: int = 512,
    seed: int = 0,
) -> Anchor:  # fmt: skip
    """Find the smallest set of tokens, among those at `places`, that is enough for the target.

    Args:
        reader: The target: a unit's activation, or the difference of two logits.
        places: Positions that may be in the set; all others are always drawn anew, save the tokens that encoding puts
            before every text.
        imputer: Where drawn tokens come from.
        precision: Share of drawn texts in which the target must hold.
        largest: Size at which the search is given up.
        most: Texts drawn for one set.
        seed: Of the draws.

    Raises:
        UnitError: The target is a single logit, whose size means nothing by itself, or is 0.
    """
    if isinstance(reader.target, TokenTarget) and reader.target.foil is None:
        raise UnitError("An anchor of a token's logit needs a wrong token (a foil) to compare it with; give one.")
    search = _Search(reader, places.tolist(), imputer, precision, most, np.random.default_rng(seed))
    search.value = float(reader.evaluate(np.array([reader.ids], dtype=np.int64))[0])
    if search.value == 0.0:
        raise UnitError("The target is 0 on this text: there is nothing that could be enough for it.")
    search.draw([()], _BATCH)
    found: tuple[int, ...] | None = () if search.enough(()) else None
    core = search.needed() if found is None else ()
    core = core if len(core) <= largest else ()
    if core and search.enough(core):
        found = core
    beam = [core]
    while found is None and len(beam[0]) < min(largest, len(search.places)):
        grown = {tuple(sorted({*chosen, place})) for chosen in beam for place in search.places if place not in chosen}
        beam = search.best(sorted(grown))
        found = next((chosen for chosen in beam if search.enough(chosen)), None)
    certified = found is not None
    if found:
        found = _smallest(search, found)
    best = found if found is not None else max(search.tallies, key=lambda one: (search.tallies[one].share, -len(one)))
    tally, nothing = search.tallies[best], search.tallies[()]
    bound = lower_bound(tally.share, tally.n, math.log(1 / _DELTA))
    return Anchor(best, tally.share, bound, certified, nothing.share, search.texts)


def _smallest(search: _Search, found: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out what is not needed: a greedy search may have taken a token that later ones make idle."""
    for place in found:
        rest = tuple(one for one in found if one != place)
        if rest and search.enough(rest):
            return _smallest(search, rest)
    return found


def lower_bound(share: float, n: int, level: float) -> float:
    """The smallest q with n KL(share, q) <= level."""
    return _bound(share, n, level, 0.0, share)


def upper_bound(share: float, n: int, level: float) -> float:
    """The largest q with n KL(share, q) <= level."""
    return _bound(share, n, level, 1.0, share)


def _bound(share: float, n: int, level: float, outer: float, inner: float) -> float:
    for _ in range(40):
        middle = (outer + inner) / 2
        if n * divergence(share, middle) > level:
            outer = middle
        else:
            inner = middle
    return inner


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli distributions, in nats."""
    q = min(max(q, 1e-15), 1 - 1e-15)
    return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
