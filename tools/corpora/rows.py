"""What readers of records share: finding a record's text and id, and files that are no text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.corpora.corpus import Document
from tools.corpora.registry import Source
from tools.errors import CorpusError


def text_id(text: str) -> str:
    """The id of a text that has none of its own: 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record(source: Source, row: Mapping[str, Any], where: str) -> Document | None:
    """The document of one record; None when its text is blank.

    Args:
        source: Says which fields hold text and id.
        row: The record.
        where: Where the record stands, for messages, e.g. ``line 12``.

    Raises:
        CorpusError: A field is missing or of a wrong type; the fields that are there are named.
    """
    field = source.field or "text"
    if field not in row:
        raise CorpusError(
            f"{source.spec}, {where}: there is no field '{field}', only {names(row)}. "
            "Say which field holds the text: ?field=NAME after the corpus."
        )
    if not isinstance(row[field], str):
        raise CorpusError(f"{source.spec}, {where}: the field '{field}' holds {type(row[field]).__name__}, not text.")
    text = without_surrogates(row[field])
    if not text.strip():
        return None
    key = source.id or "id"
    if key not in row or row[key] is None:
        if source.id is not None:
            raise CorpusError(f"{source.spec}, {where}: there is no id in the field '{key}'; there are {names(row)}.")
        return Document(text_id(text), text)
    if not isinstance(row[key], str | int):
        raise CorpusError(f"{source.spec}, {where}: the id '{key}' is neither text nor a whole number.")
    return Document(without_surrogates(str(row[key])), text)


def without_surrogates(text: str) -> str:
    """`text` with each half of a broken surrogate pair, which JSON allows and UTF-8 does not, as U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def names(fields: Iterable[str]) -> str:
    """Field names for a message, quoted; a very long list is cut."""
    quoted = [f"'{name}'" for name in fields]
    return ", ".join(quoted[:12]) + (" and more" if len(quoted) > 12 else "") if quoted else "none"


def read_utf8(path: Path, spec: str) -> str:
    """A whole text file.

    Raises:
        CorpusError: It is not UTF-8 text.
    """
    data = path.read_bytes()
    if b"\0" in data:
        raise not_text(spec, path, data.index(b"\0"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_text(spec, path, error.start) from error
    return text.replace("\r\n", "\n")


def not_text(spec: str, path: Path, offset: int) -> CorpusError:
    """The error for a binary file or one in another encoding."""
    return CorpusError(
        f"{path} (corpus '{spec}') is not UTF-8 text (see byte {offset:,}). Convert it, or give .jsonl or .parquet."
    )
