"""The token store: contexts of a corpus as token ids, readable without the subject or its tokenizer.

Tokens lie in one flat file in corpus order. Contexts are numbered split by split, longest first, so that a batch of
consecutive contexts needs little padding and a split is a range of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tools.errors import SealedError
from tools.index.settings import SPLITS
from tools.index.storage import damaged, load_array, load_json
from tools.types import BoolArray, IntArray, Split

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class Texts:
    """The contexts of an index: n_contexts rows of at most `context_length` token ids."""

    tokens: npt.NDArray[np.int32]
    starts: IntArray
    """Where each context's tokens begin, [n_contexts]."""
    lengths: IntArray
    documents: IntArray
    """Document number of each context."""
    document_ids: Sequence[str]
    split_bounds: tuple[int, ...]
    """Contexts of split s are numbered from split_bounds[s] up to split_bounds[s + 1]."""
    vocabulary: list[str]
    """Text of each token id, with the leading space where the tokenizer marks one."""
    context_length: int

    @classmethod
    def open(cls, folder: Path, context_length: int) -> Texts:
        """Map the token store of an index folder."""
        return cls(
            tokens=_map_tokens(folder / "tokens.bin"),
            starts=load_array(folder / "context_starts.npy", mapped=False),
            lengths=load_array(folder / "context_lengths.npy", mapped=False),
            documents=load_array(folder / "context_documents.npy", mapped=False),
            document_ids=load_json(folder / "document_ids.json"),
            split_bounds=tuple(load_array(folder / "split_bounds.npy", mapped=False).tolist()),
            vocabulary=load_json(folder / "vocabulary.json"),
            context_length=context_length,
        )

    @property
    def n_contexts(self) -> int:
        return len(self.starts)

    def ids(self, context: int) -> IntArray:
        """Token ids of a context without padding, [length]."""
        start = self.starts[context]
        return self.tokens[start : start + self.lengths[context]].astype(np.int64)

    def length(self, context: int) -> int:
        """Tokens in a context, the beginning-of-sequence token included."""
        return int(self.lengths[context])

    def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
        """Text of each token of a context, or of those from `start` up to `stop`."""
        return [self.vocabulary[i] for i in self.ids(context)[start:stop].tolist()]

    def document(self, context: int) -> int:
        """Document number of a context."""
        return int(self.documents[context])

    def document_id(self, document: int) -> str:
        """The corpus's id of a document number."""
        return self.document_ids[document]

    def split_of(self, context: int) -> Split:
        """Which split a context belongs to."""
        if not 0 <= context < self.n_contexts:
            raise IndexError(f"context {context} of {self.n_contexts}")
        return SPLITS[int(np.searchsorted(self.split_bounds, context, side="right")) - 1]

    def contexts_of(self, split: Split) -> range:
        """The context numbers of a split."""
        which = SPLITS.index(split)
        return range(self.split_bounds[which], self.split_bounds[which + 1])

    def padded(self, contexts: IntArray | Sequence[int]) -> tuple[IntArray, BoolArray]:
        """Token ids of several contexts, padded at the right with 0, and where they are real; both [n, longest]."""
        rows = np.asarray(contexts, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.arange(int(lengths.max(initial=0)))
        mask = offsets < lengths[:, None]
        at = np.where(mask, self.starts[rows][:, None] + offsets, 0)
        return np.where(mask, self.tokens[at], 0).astype(np.int64), mask


def _map_tokens(path: Path) -> npt.NDArray[np.int32]:
    """Map the flat file of token ids (little-endian int32)."""
    try:
        # A plain view of the map: slicing the subclass costs microseconds each time.
        return np.asarray(np.memmap(path, dtype="<i4", mode="r"))
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """A copy that nobody can write to or see more of: it lies in bytes of its own."""
    if not array.size:
        array = array.copy()
        array.setflags(write=False)
        return array
    return np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(array.shape)


class TextsView:
    """The token store as one split sees it: what belongs to another split raises `SealedError`."""

    def __init__(self, texts: Texts, split: Split) -> None:
        self._texts = texts
        self._split = split
        self._range = texts.contexts_of(split)
        self._vocabulary = tuple(texts.vocabulary)

    @property
    def split(self) -> Split:
        """Which split this is."""
        return self._split

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Text of each token id."""
        return self._vocabulary

    @property
    def context_length(self) -> int:
        """Tokens in the longest context that the index could hold."""
        return self._texts.context_length

    @property
    def n_contexts(self) -> int:
        """Contexts of this split."""
        return len(self._range)

    @cached_property
    def contexts(self) -> IntArray:
        """The context numbers of this split, ascending."""
        return read_only(np.arange(self._range.start, self._range.stop))

    @cached_property
    def _documents(self) -> frozenset[int]:
        return frozenset(self._texts.documents[self._range.start : self._range.stop].tolist())

    def _check(self, context: int) -> int:
        if context not in self._range:
            raise SealedError(f"Context {context} does not belong to the {self.split} split that this view shows.")
        return context

    def ids(self, context: int) -> IntArray:
        """See `Texts.ids`."""
        return self._texts.ids(self._check(int(context)))

    def length(self, context: int) -> int:
        """See `Texts.length`."""
        return self._texts.length(self._check(int(context)))

    def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
        """See `Texts.pieces`."""
        return self._texts.pieces(self._check(int(context)), start, stop)

    def document(self, context: int) -> int:
        """See `Texts.document`."""
        return self._texts.document(self._check(int(context)))

    def document_id(self, document: int) -> str:
        """See `Texts.document_id`."""
        number = int(document)
        if number not in self._documents:
            raise SealedError(f"Document {number} does not belong to the {self.split} split that this view shows.")
        return self._texts.document_id(number)

    def split_of(self, context: int) -> Split:
        """This view's split."""
        return self._texts.split_of(self._check(int(context)))

    def padded(self, contexts: IntArray | Sequence[int]) -> tuple[IntArray, BoolArray]:
        """See `Texts.padded`."""
        rows = np.asarray(contexts, dtype=np.int64)
        if len(rows):
            self._check(int(rows.min()))
            self._check(int(rows.max()))
        return self._texts.padded(rows)
