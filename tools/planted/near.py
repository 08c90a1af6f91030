"""Texts in which a planted rule just holds or just fails: where a description that is nearly right is found out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tools.planted.corpus import LONGEST, documents
from tools.planted.predicates import (
    All,
    AnyOf,
    Before,
    Earlier,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    Within,
)
from tools.planted.spec import PlantedSpec
from tools.planted.truth import UnitTruth
from tools.planted.words import WORDS, piece

_ALL = tuple(piece(word) for word in WORDS)
#: The farthest back that a predicate's token is put.
_BACK = 8


def near_misses(truth: UnitTruth, spec: PlantedSpec, n: int, seed: int) -> list[str]:
    """Texts around one position at which a unit's rule just holds or just fails, holding and failing by turns.

    A text of the corpus is rewritten so that all parts of one case hold at a position; then, in every second text, one
    of the parts is broken as slightly as can be: the token before it is another one, a token within reach is moved one
    beyond it, the position is one too far, the repeated token stands there for the first time, the exception comes in.

    Args:
        truth: Of a unit with a rule; without one there is nothing to miss, and ordinary texts come back.
        spec: Whose texts are rewritten.
        n: How many texts.
        seed: Of all choices.
    """
    rng = random.Random(f"near misses 1 {truth.key} {spec.text} {seed}")
    texts = [document.text.split() for document in documents(spec, fresh=2_000_003 + seed % 1000, n=max(n, 20))]
    rules = [part for case in truth.cases for part in _alternatives(case.when)]
    found: list[str] = []
    for number in range(n):
        words = [piece(word) for word in texts[number % len(texts)]]
        if rules:
            parts = list(rng.choice(rules))
            broken = rng.randrange(len(parts)) if number % 2 else None
            words = _rewrite(rng, words, parts, broken)
        found.append("".join(words).strip())
    return found


def _alternatives(when: Predicate) -> Iterator[tuple[Predicate, ...]]:
    """The conjunctions of which one must hold."""
    if isinstance(when, AnyOf):
        for part in when.parts:
            yield from _alternatives(part)
    elif isinstance(when, All):
        yield tuple(when.parts)
    else:
        yield (when,)


def _rewrite(rng: random.Random, words: list[str], parts: Sequence[Predicate], broken: int | None) -> list[str]:
    """Put what the parts ask for around one position, one of them broken."""
    places = [part for part in parts if isinstance(part, Position)]
    low, high = 4, max(4, len(words) - 2)
    for place in places:
        low, high = place.low, min(place.high, LONGEST - 1)
    at = rng.randint(low, max(low, min(high, LONGEST - 1))) - 1  # the beginning-of-sequence token has position 0
    for number, part in enumerate(parts):
        if number == broken and isinstance(part, Position):
            inside = [i for i in (part.low - 2, part.high) if 0 <= i < LONGEST]
            at = rng.choice(inside) if inside else at
    while len(words) <= at:
        words.append(rng.choice(_ALL))
    # Tokens of the current position first: what looks back is put relative to them.
    order = sorted(range(len(parts)), key=lambda i: not isinstance(parts[i], TokenIn))
    for number in order:
        _put(rng, words, at, parts[number], holds=number != broken)
    return words[:LONGEST]


def _put(rng: random.Random, words: list[str], at: int, part: Predicate, *, holds: bool) -> None:
    if isinstance(part, Not):
        _put(rng, words, at, part.part, holds=not holds)
    elif isinstance(part, TokenIn):
        words[at] = _one(rng, part.tokens, holds)
    elif isinstance(part, Before):
        if at >= part.distance:
            words[at - part.distance] = _one(rng, part.tokens, holds)
            if not holds and at > part.distance:  # the wanted token stands one farther back
                words[at - part.distance - 1] = rng.choice(part.tokens)
    elif isinstance(part, Within):
        for i in range(max(0, at - part.k), at):
            words[i] = _one(rng, part.tokens, wanted=False)
        back = rng.randint(1, part.k) if holds else part.k + 1
        if at >= back:
            words[at - back] = rng.choice(part.tokens)
    elif isinstance(part, Repeated):
        if holds and at:
            words[rng.randint(max(0, at - _BACK), at - 1)] = words[at]
        elif not holds:
            _replace(rng, words, at, words[at])
    elif isinstance(part, Induction):
        pair = words[max(0, at - 1) : at + 1]
        if at >= 3:
            where = rng.randint(max(0, at - _BACK), at - 3)
            words[where : where + 2] = pair if holds else [pair[0], rng.choice(_ALL)]
    elif isinstance(part, Earlier):
        if at and holds:
            _put(rng, words, rng.randint(at // 2, at - 1), part.part, holds=True)
        elif isinstance(part.part, TokenIn):
            for i in range(at):
                if words[i] in part.part.tokens:
                    words[i] = _one(rng, part.part.tokens, wanted=False)
    elif isinstance(part, All):
        broken = None if holds or not part.parts else rng.randrange(len(part.parts))
        for number, inner in enumerate(part.parts):
            _put(rng, words, at, inner, holds=number != broken)
    elif isinstance(part, AnyOf) and part.parts:
        chosen = rng.randrange(len(part.parts))
        for number, inner in enumerate(part.parts):
            if number != chosen or not holds:
                _put(rng, words, at, inner, holds=False)
        if holds:
            _put(rng, words, at, part.parts[chosen], holds=True)


def _one(rng: random.Random, tokens: Sequence[str], wanted: bool) -> str:
    """One of the tokens, or any but them."""
    return rng.choice(tokens if wanted else [token for token in _ALL if token not in tokens])


def _replace(rng: random.Random, words: list[str], end: int, token: str) -> None:
    """Take a token out of the words before `end`."""
    for i in range(end):
        if words[i] == token:
            words[i] = _one(rng, [token], wanted=False)
