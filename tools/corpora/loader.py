"""From what a user writes to a corpus: finds the reader, chooses documents, makes sure that ids are unique."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

from tools.corpora.corpus import Corpus, Document
from tools.corpora.registry import Reader, Source, readers
from tools.corpora.rows import text_id, without_surrogates
from tools.corpora.text import TEXT_SUFFIXES, read_whole
from tools.errors import CorpusError

OPTIONS = ("field", "id", "config")


def load_corpus(spec: str, *, limit: int | None = None, seed: int = 0) -> Corpus:
    """Reads a corpus.

    What can be given:

    - ``stdlib:``: the Python standard library's source on this machine, one document a file;
    - ``x.jsonl``: an object a line, with ``text`` and perhaps ``id``;
    - ``x.parquet``: the same as columns;
    - ``x.txt`` (also .md, .rst): one document for each paragraph, that is, between blank lines;
    - a folder: all files below it of these and common source suffixes; a text file is one document, a record file many;
    - ``hf:NAME[:SPLIT[:FIELD]]``: a data set of the Hugging Face hub (with the extra ``hub``).

    ``?field=body&id=key`` after any of them names the fields (columns) of text and id. Without an id of its own, a text
    is known by its hash; the second of two identical texts then gets ``-2`` after it.

    Args:
        spec: See above.
        limit: Keep so many documents: those with the smallest hash of (seed, id), in the source's order. So a smaller
            limit gives a subset of a larger one's, and the beginning of a file has no advantage.
        seed: For the choice under `limit`. It has no influence on splits.

    Raises:
        CorpusError: Nothing is there, or it cannot be read; the message names the file and line.
    """
    if limit is not None and limit < 1:
        raise CorpusError(f"A corpus cannot be limited to {limit} documents; give a positive number.")
    documents = _unique(spec, _read(spec, limit))
    chosen = list(documents) if limit is None else _choose(documents, limit, seed)
    if not chosen:
        raise CorpusError(f"The corpus '{spec}' is empty: there is no text in it.")
    return Corpus(spec, tuple(chosen))


def _read(spec: str, limit: int | None) -> Iterator[Document]:
    schemes, suffixes = readers()
    address, _, query = spec.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - set(OPTIONS):
        raise CorpusError(f"'{spec}': unknown option '{min(unknown)}'. There are {', '.join(OPTIONS)}.")
    source = Source(spec, address, options.get("field"), options.get("id"), options.get("config"), limit)
    scheme, colon, rest = address.partition(":")
    path = Path(address)
    if colon and scheme in schemes and not path.exists():
        return schemes[scheme](replace(source, address=rest))
    if not path.exists():
        raise CorpusError(
            f"There is no corpus '{address}'. Give a file ({', '.join(suffixes)}), a folder, or "
            f"{', '.join(f'{name}:' for name in schemes)}."
        )
    if path.is_dir():
        return _read_folder(source, suffixes)
    if path.suffix.lower() not in suffixes:
        raise CorpusError(f"'{address}': files of kind '{path.suffix}' cannot be read. Known: {', '.join(suffixes)}.")
    return suffixes[path.suffix.lower()](source)


def _read_folder(source: Source, suffixes: dict[str, Reader]) -> Iterator[Document]:
    """Every file of a known kind, in order of path; ids begin with the path below the folder."""
    root = source.path
    files = [
        p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix.lower() in suffixes and not _hidden(p, root)
    ]
    if not files:
        raise CorpusError(f"The folder '{root}' holds no file of a known kind ({', '.join(suffixes)}).")
    for path in files:
        name = without_surrogates(path.relative_to(root).as_posix())
        inner = replace(source, spec=str(path), address=str(path))
        reader = suffixes[path.suffix.lower()]
        if path.suffix.lower() in TEXT_SUFFIXES or reader is read_whole:
            for document in read_whole(inner):
                yield Document(name, document.text)
        else:
            for document in reader(inner):
                yield Document(f"{name}#{document.id}", document.text)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)


def _unique(spec: str, documents: Iterable[Document]) -> Iterator[Document]:
    """Refuses two documents of one id, unless the ids are the hashes of their texts."""
    seen: dict[bytes, int] = {}
    for document in documents:
        key = hashlib.blake2b(document.id.encode(), digest_size=12).digest()
        seen[key] = count = seen.get(key, 0) + 1
        if count == 1:
            yield document
        elif document.id.rpartition("#")[2] == text_id(document.text):
            yield Document(f"{document.id}-{count}", document.text)
        else:
            raise CorpusError(
                f"The corpus '{spec}' has more than one document with the id '{document.id}'. Make the ids unique, or "
                "name another field as id: ?id=NAME after the corpus."
            )


def _choose(documents: Iterable[Document], limit: int, seed: int) -> list[Document]:
    """The `limit` documents with the smallest hashes, in their order; holds no more than these in memory."""
    heap: list[tuple[int, int, Document]] = []
    for number, document in enumerate(documents):
        digest = hashlib.sha256(f"{seed}\0{document.id}".encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), -number, document)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)
    return [document for _, _, document in sorted(heap, key=lambda entry: -entry[1])]
