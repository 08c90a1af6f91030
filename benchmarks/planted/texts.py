"""Fresh text: documents that no campaign has seen, cut into contexts as an index cuts them, with what is true there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from explainers.types import Predictor
from tools.corpora import Document
from tools.planted import Predicate, UnitTruth
from tools.subject import Subject
from tools.types import BoolArray, FloatArray, IntArray, UnitId
from tools.units import unit_activations


@dataclass(frozen=True, eq=False)
class FreshText:
    """Contexts of tokens; their positions but the first (the beginning-of-sequence token's) are counted."""

    ids: list[list[int]]
    contexts_pieces: list[list[str]]
    documents: IntArray
    """Document number of each context."""

    @classmethod
    def of(cls, subject: Subject, texts: Iterable[str], *, context: int, tokens: int | None = None) -> FreshText:
        """Texts cut into contexts of at most `context` tokens, each begun as the tokenizer begins a text.

        Args:
            subject: Whose tokenizer and frame.
            texts: As many as are needed.
            context: Tokens of a context, at most.
            tokens: Stop when there are so many; None takes all texts.
        """
        prefix = subject.prefix
        rows: list[list[int]] = []
        documents: list[int] = []
        total = 0
        for number, text in enumerate(texts):
            body = subject.encode(text)[len(prefix) :]
            step = context - len(prefix)
            for start in range(0, len(body), step):
                rows.append(prefix + body[start : start + step])
                documents.append(number)
                total += len(rows[-1])
            if tokens is not None and total >= tokens:
                break
        return cls(rows, [subject.pieces(row) for row in rows], np.array(documents, np.int64))

    @classmethod
    def of_documents(
        cls, subject: Subject, documents: Iterable[Document], *, context: int, tokens: int | None = None
    ) -> FreshText:
        """The same for documents of a corpus."""
        return cls.of(subject, (document.text for document in documents), context=context, tokens=tokens)

    def __len__(self) -> int:
        return len(self.positions)

    def pieces(self, context: int) -> list[str]:
        """Text of each of the context's tokens."""
        return self.contexts_pieces[context]

    @cached_property
    def contexts(self) -> IntArray:
        """Context of each counted position, [n]."""
        lengths = [max(len(row) - 1, 0) for row in self.ids]
        return np.repeat(np.arange(len(self.ids), dtype=np.int64), lengths)

    @cached_property
    def positions(self) -> IntArray:
        """Position of each, [n]; never 0."""
        parts = [np.arange(1, len(row), dtype=np.int64) for row in self.ids]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def holds(self, predicate: Predicate) -> BoolArray:
        """Whether a predicate holds at each counted position, [n]."""
        return self._all(predicate.holds(pieces)[1:] for pieces in self.contexts_pieces)

    def active(self, truth: UnitTruth) -> BoolArray:
        """Whether a unit should be active at each counted position, [n]."""
        return self._all(truth.active(pieces)[1:] for pieces in self.contexts_pieces)

    def _all(self, parts: Iterable[BoolArray]) -> BoolArray:
        found = list(parts)
        return np.concatenate(found) if found else np.zeros(0, bool)

    def predictions(self, predictor: Predictor) -> FloatArray:
        """What is predicted at each counted position, [n]; an answer that could not be parsed is NaN."""
        return np.asarray(predictor.predict(self, self.contexts, self.positions), np.float32)

    def activations(self, subject: Subject, units: Sequence[UnitId]) -> FloatArray:
        """The units' activations at each counted position, [unit, n]."""
        found = unit_activations(subject, units, self.ids)
        return np.concatenate([values[:, 1:] for values in found], axis=1)
