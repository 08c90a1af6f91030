"""Beginnings of texts to drive units on, where nobody names any."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tools.errors import SubjectError
from tools.subject import Subject

#: The first three are those by which Gur-Arieh et al. 2025 (arXiv 2501.08319) choose strengths.
PROSE = (
    "The explanation is simple:", "I think", "We", "When she opened the door,", "Most people believe that",
    "The results of the study", "After the war, the city", "He looked at his hands and", "In the middle of the night",
    "There are three reasons for", "The company said on Monday that", "Once upon a time there was",
)  # fmt: skip
CODE = (
    "def __init__(self, name", "    if x is None:\n        return", "import os\nimport", "for i in range(",
    "class Node(object", "        return self.", "    try:\n        value =", "    raise ValueError(",
    "with open(path) as f:\n    for line in", "    def test_add(self):\n        self.assert", "x = [a for a in",
    '    """Return the number of',
)  # fmt: skip
#: Tokens that a beginning has at least, those that encoding puts before a text included.
_SHORTEST = 3


def default_prompts(subject: Subject) -> tuple[str, ...]:
    """Beginnings of prose, or of Python for the built-in model."""
    return CODE if subject.name == "pycode" else PROSE


def beginnings(subject: Subject, texts: Sequence[Sequence[int]], n: int, seed: int = 0) -> list[list[int]]:
    """Texts cut at places drawn at random, the same number in each as far as there are so many.

    Args:
        subject: The model.
        texts: Token ids.
        n: How many beginnings at most; where there are fewer places, each is taken once.
        seed: Of the places.

    Raises:
        SubjectError: No text is long enough.
    """
    shortest = max(_SHORTEST, len(subject.prefix) + 1)
    rng = random.Random(seed)
    places = [list(range(shortest, len(text) + 1)) for text in texts]
    if not any(places):
        raise SubjectError(f"To drive a unit takes a text of {shortest} tokens or more.")
    for one in places:
        rng.shuffle(one)
    rounds = [(text, one[i]) for i in range(max(map(len, places))) for text, one in enumerate(places) if i < len(one)]
    return [list(map(int, texts[text][:end])) for text, end in rounds[:n]]
