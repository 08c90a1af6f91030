"""Plain text: a single file is cut into paragraphs; a file within a folder is one document."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_suffix
from tools.corpora.rows import read_utf8, text_id

#: Files that hold prose, of which a single one is cut into paragraphs, and whose text in a folder is one document.
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".text")
#: Files that only make sense whole.
CODE_SUFFIXES = (".py", ".c", ".h", ".cpp", ".js", ".ts", ".java", ".go", ".rs", ".html", ".tex")


@register_suffix(*TEXT_SUFFIXES)
def read_paragraphs(source: Source) -> Iterator[Document]:
    """One document for each paragraph, that is, each run of lines between blank lines.

    A paragraph's id is the hash of its text, so that it keeps its split when the file grows.
    """
    for paragraph in re.split(r"\n(?:[^\S\n]*\n)+", read_utf8(source.path, source.spec)):
        text = paragraph.strip("\n")
        if text.strip():
            yield Document(text_id(text), text)


@register_suffix(*CODE_SUFFIXES)
def read_whole(source: Source) -> Iterator[Document]:
    """One document: the whole file, with its name as id."""
    text = read_utf8(source.path, source.spec)
    if text.strip():
        yield Document(source.path.name, text)
