"""Inputs that nobody wrote, on which a rule must say what will happen: it is easy to be right about texts like those
that one was made from.

    fresh      what the rule says the unit fires on, taken from where it stands and put behind another text
    edited     one token that the rule rests on replaced by a random one
    beside     one token nearby that the rule does not name replaced
    member     one token that the rule rests on replaced by another that the rule names in the same place
    template   the tokens that the rule rests on in made-up frames: alone, repeated, in quotes, between random tokens
    shuffled   the same tokens in another order, behind another text
    random     tokens drawn one by one

Each is a text with one position, its last. What is put together comes from open splits; that no open text holds the
whole is checked. Everything is drawn by a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from explainers.pattern.edit_check import mentioned_offsets
from explainers.rules.ast import InSet, Rule
from explainers.rules.evaluate import clause_holds, reading_of
from tools.types import IntArray

#: Probes of each kind.
EACH = 6
#: Tokens that are taken with a position, and tokens of another text that are put before them.
WINDOW, FILLER = 10, 8
#: Frames for tokens that a rule rests on; X stands for them, R for a random token.
FRAMES = ("X", "X X", "R X", "R R X", "X R X", "R R R R R R X", "X X X X", "R X R X")


class Texts(Protocol):
    """What is needed of `tools.index.Texts`."""

    def ids(self, context: int) -> IntArray: ...

    def pieces(self, context: int) -> list[str]: ...


@dataclass(frozen=True)
class Probe:
    """A text that was put together, for what happens at its last position."""

    kind: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Hit:
    """A position of an open text at which a rule says that the unit is active."""

    ids: tuple[int, ...]
    """The text up to and including it, without what encoding puts before every text."""
    named: tuple[int, ...]
    """Offsets (0 or less) of the tokens that the rule refers to there, within `ids`; nearest first."""
    members: dict[int, tuple[str, ...]]
    """Offset -> the texts that the rule names for the token there."""


class Composed:
    """Probes as a source of texts for predictors."""

    def __init__(self, pieces: Sequence[list[str]]) -> None:
        self._pieces = list(pieces)

    def pieces(self, context: int) -> list[str]:
        """Text of each of the context's tokens."""
        return self._pieces[context]


@dataclass(frozen=True)
class Stock:
    """What probes are put together from."""

    prefix: tuple[int, ...]
    """What encoding puts before every text."""
    tokens: IntArray
    """Ordinary tokens, as often as they occur."""
    passages: tuple[tuple[int, ...], ...]
    """Runs of `FILLER` tokens of open texts."""
    token_of: dict[str, int]
    """Text of a token -> its id."""
    known: str
    """All open texts as ids between spaces, to look up what they hold."""

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether an open text holds a run of tokens."""
        return f" {' '.join(map(str, ids))} " in self.known


def stock_of(texts: Sequence[tuple[Texts, Sequence[int]]], prefix: Sequence[int]) -> Stock:
    """What open texts offer.

    Args:
        texts: Sources with the contexts of each that may be used.
        prefix: What encoding puts before every text.
    """
    runs: list[tuple[int, ...]] = []
    rows: list[list[int]] = []
    token_of: dict[str, int] = {}
    skip = len(prefix)
    for source, contexts in texts:
        for context in contexts:
            ids = [int(i) for i in source.ids(context)]
            rows.append(ids[skip:])
            token_of.update(zip(source.pieces(context)[skip:], ids[skip:], strict=True))
            runs += [tuple(ids[at : at + FILLER]) for at in range(skip, len(ids) - FILLER + 1, FILLER)]
    known = " | ".join(" ".join(map(str, row)) for row in rows)
    tokens = np.array([token for row in rows for token in row], dtype=np.int64)
    return Stock(tuple(int(i) for i in prefix), tokens, tuple(runs), token_of, f" {known} ")


def hit_at(rule: Rule, source: Texts, context: int, position: int, skip: int) -> Hit | None:
    """What a rule rests on at a position at which it holds; None where it names no token of the text.

    Args:
        rule: The rule.
        source: Of the text.
        context: In which it is.
        position: In the context.
        skip: Tokens that encoding puts before every text.
    """
    reading = reading_of(source, context)
    ids = tuple(int(i) for i in source.ids(context)[skip : position + 1])
    named = tuple(sorted((o for o in mentioned_offsets(rule, reading, position) if -o < len(ids)), reverse=True))
    if not named or not ids:
        return None
    clause = next(clause for clause in rule.clauses if clause_holds(reading, clause)[position])
    sets = [one for one in clause.literals if isinstance(one, InSet) and not one.negated and one.relation == "in"]
    members = {-one.place.offset: one.members for one in sets if one.place.kind == "token"}
    return Hit(ids, named, members)


def make_probes(hits: Sequence[Hit], stock: Stock, *, seed: int, room: int, each: int = EACH) -> list[Probe]:
    """Probes of every kind that the hits and the stock allow, at most `each` of a kind.

    Args:
        hits: Where a rule says that the unit is active; without any, probes are of kind 'random' alone.
        stock: What is put together.
        seed: Of all draws.
        room: Tokens that the subject sees at once.
        each: Probes of a kind.
    """
    if not len(stock.tokens) or not stock.passages:
        return []
    draw = _Draw(stock, np.random.default_rng(seed))
    found: list[Probe] = []
    for kind, make in _KINDS.items():
        own: dict[tuple[int, ...], None] = {}
        for number in range(4 * each):
            if len(own) == each:
                break
            hit = hits[int(draw.rng.integers(len(hits)))] if hits else None
            made = make(draw, hit, number)
            if made is None or made in own or stock.holds(made):
                continue
            if 2 <= len(stock.prefix) + len(made) <= room:  # nothing is ever said of position 0
                own[made] = None
        found += [Probe(kind, (*stock.prefix, *ids)) for ids in own]
    return found


@dataclass
class _Draw:
    """Random parts."""

    stock: Stock
    rng: np.random.Generator

    def passage(self) -> tuple[int, ...]:
        return self.stock.passages[int(self.rng.integers(len(self.stock.passages)))]

    def tokens(self, n: int) -> tuple[int, ...]:
        return tuple(self.rng.choice(self.stock.tokens, n).tolist())

    def one_of(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]


_Ids = tuple[int, ...]


def _window(hit: Hit) -> _Ids:
    """The last tokens up to a hit: as many as hold all that the rule rests on, and some more."""
    return hit.ids[-max(WINDOW, 1 - min(hit.named)) :]


def _core(hit: Hit) -> _Ids:
    """From the farthest token that the rule rests on to the position."""
    return hit.ids[min(hit.named) - 1 :]


def _fresh(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    return None if hit is None else (*draw.passage(), *_window(hit))


def _edited(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    return None if hit is None else _replaced(hit, draw.one_of(hit.named), draw.tokens(1)[0])


def _beside(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    if hit is None:
        return None
    free = [o for o in range(0, -min(len(hit.ids), WINDOW), -1) if o not in hit.named]
    return _replaced(hit, draw.one_of(free), draw.tokens(1)[0]) if free else None


def _member(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    if hit is None:
        return None
    choices = [
        (offset, draw.stock.token_of[member])
        for offset, members in hit.members.items()
        for member in members
        if -offset < len(hit.ids) and draw.stock.token_of.get(member, hit.ids[offset - 1]) != hit.ids[offset - 1]
    ]
    if not choices:
        return None
    offset, token = draw.one_of(choices)
    return (*draw.passage(), *_replaced(hit, offset, token))


def _replaced(hit: Hit, offset: int, token: int) -> _Ids:
    ids = list(_window(hit))
    ids[offset - 1] = token
    return tuple(ids)


def _template(draw: _Draw, hit: Hit | None, number: int) -> _Ids | None:
    if hit is None:
        return None
    core = _core(hit)
    parts = [core if slot == "X" else draw.tokens(1) for slot in FRAMES[number % len(FRAMES)].split()]
    return tuple(token for part in parts for token in part)


def _shuffled(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    return None if hit is None else (*draw.passage(), *draw.rng.permutation(_window(hit)).tolist())


def _random(draw: _Draw, hit: Hit | None, _: int) -> _Ids | None:
    return draw.tokens(FILLER + WINDOW)


_KINDS: dict[str, Callable[[_Draw, Hit | None, int], _Ids | None]] = {
    "fresh": _fresh, "edited": _edited, "beside": _beside, "member": _member, "template": _template,
    "shuffled": _shuffled, "random": _random,
}  # fmt: skip
