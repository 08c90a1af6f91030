"""Which contexts an index is made of: tokenising the corpus, numbering contexts, choosing the panel, batches."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.errors import CorpusError
from tools.index.settings import SPLITS, IndexSettings
from tools.index.storage import write_array, write_json
from tools.index.texts import Texts
from tools.types import IntArray

if TYPE_CHECKING:
    from tools.corpora import Corpus
    from tools.subject import Subject


@dataclass(frozen=True)
class Batch:
    """Consecutive contexts of one split that go through the subject together."""

    split: int
    first: int
    last: int
    """One past the last context."""


def write_texts(folder: Path, subject: Subject, corpus: Corpus, settings: IndexSettings,
                progress: Callable[[int], None]) -> None:  # fmt: skip
    """Tokenise the corpus into the token store of `folder`, once; `texts.json` marks it as complete.

    A document becomes contexts of at most `settings.length` tokens, each framed as the tokenizer frames a text (with
    its beginning-of-sequence token, if any); contexts never span documents. A context of a single token has no
    position that counts and is left out.
    """
    if (folder / "texts.json").exists():
        return
    prefix, suffix = _frame(subject)
    body = settings.length - len(prefix) - len(suffix)
    if body < 1:
        raise CorpusError(f"A context of {settings.length} tokens has no room beside the tokenizer's special tokens.")
    contexts: list[tuple[int, int, int, int]] = []  # start, length, document, number within the document
    total = 0
    with open(folder / "tokens.bin", "wb") as file:
        cut = _contexts(subject, corpus, (prefix, suffix), body, progress)
        chosen = cut if settings.max_tokens is None else _drawn(cut, corpus, settings.max_tokens, settings.seed)
        for number, chunk, row in chosen:
            file.write(np.asarray(row, dtype="<i4").tobytes())
            contexts.append((total, len(row), number, chunk))
            total += len(row)
        file.flush()
        os.fsync(file.fileno())
    if not contexts:
        raise CorpusError(f"The corpus {corpus.spec} holds no tokens to index.")
    table = np.array(contexts, dtype=np.int64)
    ids = [document.id for document in corpus.documents]
    splits = np.array([SPLITS.index(corpus.split_of(number)) for number in range(len(ids))], dtype=np.int64)
    _write_tables(folder, table, splits, ids, settings)
    write_json(folder / "vocabulary.json", [subject.pieces([i])[0] for i in range(len(subject.tokenizer))])
    write_json(
        folder / "texts.json", {"tokens": total, "contexts": len(table), "documents": len(np.unique(table[:, 2]))}
    )


Context = tuple[int, int, list[int]]
"""A context before it has a place: number of its document, its number within it, token ids."""


def _contexts(
    subject: Subject, corpus: Corpus, frame: tuple[list[int], list[int]], body: int, progress: Callable[[int], None]
) -> Iterator[Context]:
    """All contexts of the corpus, in its order."""
    prefix, suffix = frame
    total = 0
    for number, document in enumerate(corpus.documents):
        ids = subject.encode(document.text)
        ids = ids[len(prefix) : len(ids) - len(suffix)]
        for chunk, start in enumerate(range(0, len(ids), body)):
            row = prefix + ids[start : start + body] + suffix
            if len(row) > 1:
                total += len(row)
                yield number, chunk, row
        if number % 20 == 0:
            progress(total)


def _drawn(contexts: Iterator[Context], corpus: Corpus, tokens: int, seed: int) -> list[Context]:
    """A uniform draw of contexts with about `tokens` tokens in all, in the corpus's order.

    Contexts and not documents are drawn, so that a limited index still sees as many documents as it can: intervals are
    clustered by document, and a few long ones say little.
    """
    kept: list[tuple[int, int, int, list[int]]] = []  # a heap with the last in the order of draws on top
    total = 0
    for number, chunk, row in contexts:
        heapq.heappush(kept, (-_draw(seed, f"draw\0{corpus.documents[number].id}", chunk), number, chunk, row))
        total += len(row)
        while total - len(kept[0][3]) >= tokens:
            total -= len(heapq.heappop(kept)[3])
    return sorted((number, chunk, row) for _, number, chunk, row in kept)


def _frame(subject: Subject) -> tuple[list[int], list[int]]:
    """The special tokens that encoding puts before and after a text."""
    empty, probe = subject.encode(""), subject.encode("a")
    cut = 0
    while cut < len(empty) and empty[cut] == probe[cut]:
        cut += 1
    return empty[:cut], empty[cut:]


def _write_tables(folder: Path, table: IntArray, splits: IntArray, ids: Sequence[str], settings: IndexSettings) -> None:
    """Number the contexts and choose the panel. Rows of `table` are (start, length, document, number within it)."""
    split = splits[table[:, 2]]
    order = np.lexsort((np.arange(len(table)), -table[:, 1], split))
    table, split = table[order], split[order]
    bounds = np.searchsorted(split, np.arange(len(SPLITS) + 1))
    panel: list[IntArray] = []
    for which, name in enumerate(SPLITS):
        first, last = int(bounds[which]), int(bounds[which + 1])
        draws = np.array([_draw(settings.seed, ids[row[2]], row[3]) for row in table[first:last]], dtype=np.uint64)
        by_draw = np.argsort(draws, kind="stable")
        counted = np.cumsum(table[first:last, 1][by_draw] - 1)
        wanted = settings.panel_tokens[name]
        # Enough contexts to reach the number wanted, and at least one wherever there is any.
        n = min(int(np.searchsorted(counted, wanted)) + 1, last - first)
        panel.append(first + np.sort(by_draw[:n]))
    write_array(folder / "context_starts.npy", table[:, 0].copy())
    write_array(folder / "context_lengths.npy", table[:, 1].copy())
    write_array(folder / "context_documents.npy", table[:, 2].copy())
    write_array(folder / "split_bounds.npy", bounds.astype(np.int64))
    write_array(folder / "panel_contexts.npy", np.concatenate(panel).astype(np.int64))
    write_json(folder / "document_ids.json", list(ids))


def _draw(seed: int, document: str, chunk: int) -> int:
    """A context's place in the random order of its split: independent of everything but its own name and the seed."""
    name = f"{seed}\0{chunk}\0{document}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def batches(texts: Texts, batch_tokens: int) -> list[Batch]:
    """Cut the contexts into forward passes of at most `batch_tokens` tokens, padding included, within splits."""

    def cut() -> Iterator[Batch]:
        for which in range(len(SPLITS)):
            first, end = texts.split_bounds[which], texts.split_bounds[which + 1]
            while first < end:
                # Contexts come longest first, so the first one decides the width of the batch.
                last = min(end, first + max(1, batch_tokens // int(texts.lengths[first])))
                yield Batch(which, first, last)
                first = last

    return list(cut())


@dataclass(frozen=True)
class PanelLayout:
    """Where the panel's positions lie: column j of a split's panel is position `positions[j]` of `contexts[j]`."""

    rows: IntArray
    """The split's panel contexts, ascending."""
    contexts: IntArray
    positions: IntArray

    @classmethod
    def of(cls, texts: Texts, panel: IntArray, which: int) -> PanelLayout:
        """The layout of split number `which`, given all panel contexts."""
        first, last = texts.split_bounds[which], texts.split_bounds[which + 1]
        rows = panel[np.searchsorted(panel, first) : np.searchsorted(panel, last)]
        counted = texts.lengths[rows] - 1
        contexts = np.repeat(rows, counted)
        starts = np.cumsum(counted) - counted
        positions = np.arange(int(counted.sum())) - np.repeat(starts, counted) + 1
        return cls(rows, contexts, positions)

    def __len__(self) -> int:
        return len(self.contexts)
