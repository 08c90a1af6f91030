"""The corpus of a subject of generated functions: documents of numbers and documents of words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tools.corpora.corpus import Document
from tools.functions.inputs import grid, is_held_out, number_text, words
from tools.functions.spec import VERSION, FindSpec

LEAST, MOST = 24, 72
"""Tokens of a document."""


def corpus_inputs(spec: FindSpec) -> tuple[list[str], list[str]]:
    """Texts of the numbers and words that stand in the corpus: those that are not held out."""
    numbers = [number_text(x) for x in grid().tolist() if not is_held_out(x)]
    return numbers, [word for word in words(spec.size) if not is_held_out(word)]


def documents(spec: FindSpec) -> Iterator[Document]:
    """`spec.documents` documents, of numbers and of words by turns, each input as likely as any other."""
    pools = corpus_inputs(spec)
    for number in range(spec.documents):
        pool = pools[number % 2]
        rng = np.random.default_rng([VERSION, spec.seed, 5, number])
        chosen = rng.integers(len(pool), size=int(rng.integers(LEAST, MOST)))
        yield Document(f"{'numbers' if number % 2 == 0 else 'words'}-{number:05}", " ".join(pool[i] for i in chosen))
