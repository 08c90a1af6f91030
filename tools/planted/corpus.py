"""Texts for planted subjects, and how often each word and concept occurs in them.

A document is three to five phrases. Each is drawn by itself from the templates, or repeats an earlier phrase of the
document, word by word, which leaves the distribution of phrases as it is. So the expected share of a word in the corpus
is known exactly: over the templates, the sum of probability times expected count, divided by that of probability times
length.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tools.corpora.corpus import Document
from tools.planted.spec import PlantedSpec
from tools.planted.words import CATEGORIES, piece, weights

#: Documents of a corpus unless another number is asked for.
DEFAULT_DOCUMENTS = 8_000
#: Tokens of the longest document, without the beginning-of-sequence token.
LONGEST = 60
PHRASES = (3, 4, 5)
#: Share of phrases after the first that repeat an earlier one of the document.
REPEATS = 0.12


@dataclass(frozen=True)
class Slot:
    """One word of a template: one of several categories, with probabilities; or the word that another slot got."""

    categories: tuple[tuple[str, float], ...] = ()
    name: str = ""
    """Slots of one name are filled with one word; different names of one template with different words."""


_NOUN = "animal 3 fruit 3 tool 2 vehicle 2 food 2 music 1 metal 1"
_ADJECTIVE = "colour 4 size 3 feeling 2 un 1"
#: Weight and words of each template; what stands in brackets is drawn, as ``[category weight category weight]``.
_TEMPLATES: tuple[tuple[float, str], ...] = (
    (10, f"the [{_ADJECTIVE}] [{_NOUN}] [did] [prep] the [place] [stop]"),
    (8, f"[name] [took] a [{_ADJECTIVE}] [{_NOUN}] [stop]"),
    (7, f"[pronoun] [be] [doing] [prep] the [{_ADJECTIVE}] [place 3 vehicle 1] [stop]"),
    (6, f"[this] [{_NOUN}] [be] [adverb] [{_ADJECTIVE}] [stop]"),
    (4, f"[this] [{_NOUN}] [be] [negation] [{_ADJECTIVE}] [comma]"),
    (5, '[name 3 pronoun 1] [said 4 think 2] " the [animal 2 court 2 trade 2 science 2] [be] [feeling 2 size 2] "'),
    (5, "[digit] [unit] of [food 2 metal 2 weather 1] [and] [digit] [unit] of [fruit 2 metal 1 food 1] [comma]"),
    (4, "[prep] [day 3 month 2] the [weather] [be] [negation 2 adverb 3] [size 1 un 2] [stop]"),
    (3, "[prep] [city 2 agency 2] the [court 1 trade 2 science 2] of [science 2 trade 1 metal 1] [be] [size] [comma]"),
    (3, "[pronoun] [took] [this] [body 1 music 2 tool 1] [when] [pronoun] [did] [comma 2 stop 1]"),
    (2, "[month] [digit] , [year] : [agency 1 city 2 name 1] [said] [negation] [stop]"),
    (2, f"[{_ADJECTIVE}] [and] [{_ADJECTIVE}] [body 2 animal 2] of the [place 1 animal 1] [comma]"),
    (5, "when [name=A] and [name=B] [met] , [name=A] [gave] [article] [tool 1 fruit 1 food 1] [give to] [name=B] ."),
)


def _parse(words: str) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    rest = words
    while rest:
        if rest.startswith("["):
            inside, _, rest = rest[1:].partition("]")
            category, equals, name = inside.partition("=")
            if equals:
                slots.append(Slot(((category, 1.0),), name))
            else:
                slots.append(_choice(inside))
        else:
            word, _, rest = rest.partition(" ")
            slots.append(Slot((), word))
        rest = rest.lstrip()
    return tuple(slots)


def _choice(inside: str) -> Slot:
    """``[prep]``, ``[day 3 month 2]``; a category may be of two words (``give to``), a weight is a number."""
    found: list[tuple[str, float]] = []
    name: list[str] = []
    for word in [*inside.split(), ""]:
        if word.isdecimal():
            found.append((" ".join(name), float(word)))
            name = []
        elif word:
            name.append(word)
    if name:
        found.append((" ".join(name), 1.0))
    total = sum(weight for _, weight in found)
    return Slot(tuple((category, weight / total) for category, weight in found))


@cache
def templates() -> tuple[tuple[float, tuple[Slot, ...]], ...]:
    """Probability and slots of each template."""
    total = sum(weight for weight, _ in _TEMPLATES)
    return tuple((weight / total, _parse(words)) for weight, words in _TEMPLATES)


@cache
def word_shares() -> dict[str, float]:
    """The expected share of each token, by its text, among a corpus's tokens (the beginning-of-sequence token apart).

    Where a template asks for two different words of one category, each alone has the category's distribution up to the
    exclusion of the other; both together are the pair drawn without replacement, which is summed exactly.
    """
    counts: dict[str, float] = {}
    length = 0.0
    for probability, slots in templates():
        length += probability * len(slots)
        for slot, shares in zip(slots, _slot_shares(slots), strict=True):
            assert slot.name or shares
            for word, share in shares.items():
                counts[piece(word)] = counts.get(piece(word), 0.0) + probability * share
    return {token: count / length for token, count in counts.items()}


def _slot_shares(slots: tuple[Slot, ...]) -> list[dict[str, float]]:
    """For each slot the probability of each word."""
    names = list(dict.fromkeys(slot.name for slot in slots if slot.categories and slot.name))
    named: dict[str, dict[str, float]] = {}
    if names:
        category = next(slot.categories[0][0] for slot in slots if slot.name in names)
        words, shares = CATEGORIES[category], weights(category)
        named = {name: dict.fromkeys(words, 0.0) for name in names}
        for chosen in itertools.permutations(range(len(words)), len(names)):
            probability, left = 1.0, 1.0
            for index in chosen:
                probability *= shares[index] / left
                left -= shares[index]
            for name, index in zip(names, chosen, strict=True):
                named[name][words[index]] += probability
    out: list[dict[str, float]] = []
    for slot in slots:
        if not slot.categories:
            out.append({slot.name: 1.0})
        elif slot.name:
            out.append(named[slot.name])
        else:
            mixed: dict[str, float] = {}
            for category, share in slot.categories:
                for word, weight in zip(CATEGORIES[category], weights(category), strict=True):
                    mixed[word] = mixed.get(word, 0.0) + share * weight
            out.append(mixed)
    return out


@cache
def _cumulative(category: str) -> tuple[float, ...]:
    return tuple(itertools.accumulate(weights(category)))


def _draw(rng: random.Random, category: str) -> str:
    return rng.choices(CATEGORIES[category], cum_weights=_cumulative(category))[0]


def _phrase(rng: random.Random) -> list[str]:
    choices = templates()
    slots = rng.choices([slots for _, slots in choices], weights=[probability for probability, _ in choices])[0]
    named: dict[str, str] = {}
    words: list[str] = []
    for slot in slots:
        if not slot.categories:
            words.append(slot.name)
        elif slot.name:
            while slot.name not in named:
                word = _draw(rng, slot.categories[0][0])
                if word not in named.values():
                    named[slot.name] = word
            words.append(named[slot.name])
        else:
            categories = [category for category, _ in slot.categories]
            category = rng.choices(categories, weights=[share for _, share in slot.categories])[0]
            words.append(_draw(rng, category))
    return words


def documents(spec: PlantedSpec, fresh: int = 0, n: int = DEFAULT_DOCUMENTS) -> Iterator[Document]:
    """A planted corpus: the same documents for the same seed, whatever the subject's size and architecture.

    Args:
        spec: Whose seed counts.
        fresh: Another number gives another stream of documents from the same distribution. 0: the ordinary corpus.
        n: How many documents. Fewer are the beginning of more.
    """
    for number in range(n):
        rng = random.Random(f"planted corpus 1 seed {spec.seed} fresh {fresh} document {number}")
        phrases: list[list[str]] = []
        for _ in range(rng.choice(PHRASES)):
            repeat = phrases and rng.random() < REPEATS
            phrases.append(list(rng.choice(phrases)) if repeat else _phrase(rng))
        words = [word for phrase in phrases for word in phrase][:LONGEST]
        stream = f"-fresh{fresh}" if fresh else ""
        yield Document(f"planted-s{spec.seed}{stream}/{number:06d}", " ".join(words))
