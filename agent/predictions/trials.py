"""How far a rule holds where its texts are changed: edits in place, of open texts, before anything is foretold.

On texts as they are, a rule's precision says how often the unit is active where the rule says so. Where a text was
changed that need not hold: a unit that rests on more than the rule names is silent when the rest is taken away, and
one that rests on less goes on when a named token is. So some hits are edited in their texts:

    cut         one token that the rule names replaced by a random one
    beside      one token nearby that the rule does not name replaced
    stripped    all tokens nearby that the rule does not name replaced
    cropped     the text begins some tokens before the position

By how much more or less often than was thought the unit is active there, probabilities of inputs are moved that are
like these. The inputs themselves come from other documents, and are other texts: frames, passages, orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from agent.predictions.probes import WINDOW, Hit, Stock
from agent.state import Json
from scorers.calibration import moved, shift_of
from scorers.types import DoubleArray
from tools.types import BoolArray

#: The edit that a kind of input is like, where the rule says that the unit is active. Of another token that the rule
#: names, and of random texts, edits say nothing.
LIKE = {
    "fresh": "cropped", "beside": "beside", "edited": "beside", "template": "stripped", "shuffled": "stripped",
}  # fmt: skip
NEAR_MISS = frozenset({"edited", "beside", "fresh", "member", "template"})
"""Inputs that are a hit with little changed: where the rule holds no more, they are like 'cut'."""


@dataclass(frozen=True)
class Trial:
    """A text that was edited in place, for what happens at its last position."""

    kind: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What edits of one kind came to."""

    n: int
    active: int
    shift: float
    """By which log odds are moved."""


def edit_trials(hits: Sequence[Hit], stock: Stock, *, seed: int, room: int) -> list[Trial]:
    """Edits of hits: two cuts, and one of each other kind.

    Args:
        hits: Where the rule says that the unit is active.
        stock: Gives random tokens, and what stands before every text.
        seed: Of all draws.
        room: Tokens that the subject sees at once.
    """
    if not len(stock.tokens):
        return []
    rng = np.random.default_rng(seed)
    found: list[Trial] = []
    for hit in hits:
        near = range(0, -min(len(hit.ids), WINDOW), -1)
        free = [offset for offset in near if offset not in hit.named]
        for _ in range(2):
            found.append(Trial("cut", _replaced(hit, [hit.named[int(rng.integers(len(hit.named)))]], stock, rng)))
        if free:
            found.append(Trial("beside", _replaced(hit, [free[int(rng.integers(len(free)))]], stock, rng)))
            found.append(Trial("stripped", _replaced(hit, free, stock, rng)))
        found.append(Trial("cropped", hit.ids[-max(WINDOW, 1 - min(hit.named)) :]))
    whole = [Trial(one.kind, (*stock.prefix, *one.ids)) for one in found]
    return [one for one in whole if 2 <= len(one.ids) <= room]


def _replaced(hit: Hit, offsets: Sequence[int], stock: Stock, rng: np.random.Generator) -> tuple[int, ...]:
    ids = list(hit.ids)
    for offset in offsets:
        ids[offset - 1] = int(rng.choice(stock.tokens))
    return tuple(ids)


@dataclass(frozen=True)
class Shifts:
    """What edits came to, by kind: 'cut' where the rule holds no more, the others where it still does."""

    found: dict[str, Found]

    def __call__(self, kinds: Sequence[str], says: BoolArray, probabilities: DoubleArray) -> DoubleArray:
        """Probabilities of inputs, moved by what edits like them came to, [n].

        Args:
            kinds: Of the inputs.
            says: Whether the rule says that the unit is active.
            probabilities: By the rule alone.
        """
        shifts = np.zeros(len(kinds))
        for row, (kind, said) in enumerate(zip(kinds, says, strict=True)):
            like = LIKE.get(kind) if said else "cut" if kind in NEAR_MISS else None
            shifts[row] = self.found[like].shift if like in self.found else 0.0
        return moved(probabilities, shifts)

    def to_json(self) -> Json:
        return {kind: asdict(one) for kind, one in self.found.items()}


def shifts_of(trials: Sequence[Trial], says: BoolArray, probabilities: DoubleArray, active: BoolArray) -> Shifts:
    """From what came of edits, [n], to shifts.

    Args:
        trials: The edits.
        says: Whether the rule says that the unit is active.
        probabilities: By the rule alone.
        active: Whether it was.
    """
    found: dict[str, Found] = {}
    for kind in dict.fromkeys(one.kind for one in trials):
        own = np.array([one.kind == kind for one in trials]) & (~says if kind == "cut" else says)
        if own.any():
            shift = shift_of(probabilities[own], active[own])
            found[kind] = Found(int(own.sum()), int(active[own].sum()), shift)
    return Shifts(found)
