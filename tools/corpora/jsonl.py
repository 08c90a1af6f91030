"""JSON Lines: one object a line, with the fields ``text`` and, if it likes, ``id``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_suffix
from tools.corpora.rows import not_text, record
from tools.errors import CorpusError


@register_suffix(".jsonl", ".ndjson")
def read_jsonl(source: Source) -> Iterator[Document]:
    """Reads line by line; blank lines and blank texts are left out."""
    offset = 0
    with source.path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise not_text(source.spec, source.path, offset + error.start) from error
            offset += len(raw)
            if not line:
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{source.spec}, line {number}: this is not valid JSON ({error}).") from error
            if not isinstance(row, dict):
                raise CorpusError(f"{source.spec}, line {number}: expected an object, found {type(row).__name__}.")
            document = record(source, row, f"line {number}")
            if document is not None:
                yield document
