"""Functions of a word that give a number: a truth value (1 or 0), a share of its letters, or a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VOWELS = frozenset("aeiou")


@dataclass(frozen=True)
class StringFunction:
    """A function of a word, and of a letter if it takes one. Case does not matter, except for `upper`."""

    compute: Callable[..., float]
    letters: int
    truth: bool
    """Whether it gives only 0 and 1."""
    words: str
    """In English, with {} for the letter."""

    def __call__(self, word: str, *letters: Any) -> float:
        return float(self.compute(word, *letters))


def _vowels(word: str) -> float:
    return sum(c in VOWELS for c in word.lower()) / max(len(word), 1)


STRING_FUNCTIONS: dict[str, StringFunction] = {
    "starts": StringFunction(lambda w, c: w.lower().startswith(c.lower()), 1, True, "starts with '{}'"),
    "ends": StringFunction(lambda w, c: w.lower().endswith(c.lower()), 1, True, "ends with '{}'"),
    "contains": StringFunction(lambda w, c: c.lower() in w.lower(), 1, True, "contains '{}'"),
    "digit": StringFunction(lambda w: any(c.isdigit() for c in w), 0, True, "contains a digit"),
    "upper": StringFunction(lambda w: w.isupper(), 0, True, "is in upper case"),
    "palindrome": StringFunction(lambda w: w.lower() == w.lower()[::-1], 0, True, "is a palindrome"),
    "vowels": StringFunction(_vowels, 0, False, "the share of vowels"),
    "length": StringFunction(len, 0, False, "the length"),
    "count": StringFunction(lambda w, c: w.lower().count(c.lower()), 1, False, "the number of '{}'"),
    "position": StringFunction(
        lambda w, c: w.lower().find(c.lower()) + 1, 1, False, "the place of the first '{}' (0 where there is none)"
    ),
}
