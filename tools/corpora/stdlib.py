"""The source of the Python standard library on this machine: real text that is present everywhere."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tools.corpora.corpus import Document
from tools.corpora.registry import Source, register_scheme
from tools.errors import CorpusError

#: Folders that are no part of the library proper, or hold nothing but tests and bundled programs.
LEFT_OUT = frozenset(
    {
        "site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "idlelib", "lib2to3",
        "turtledemo", "ensurepip", "_bundled",
    }
)  # fmt: skip


@register_scheme("stdlib")
def read_stdlib(source: Source) -> Iterator[Document]:
    """One document for each UTF-8 ``.py`` file, in order of path; the id is the path below the library's folder."""
    if source.address:
        raise CorpusError(f"'{source.spec}': write 'stdlib:' alone; it reads this Python's own standard library.")
    yield from python_files(Path(sysconfig.get_paths()["stdlib"]))


def python_files(root: Path) -> Iterator[Document]:
    """The library's documents below `root`.

    Raises:
        CorpusError: There is no source there, as in an installation that is packed in a zip file.
    """
    paths: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        paths.extend(Path(folder, name) for name in files if name.endswith(".py"))
    if not paths:
        raise CorpusError(f"This Python has no source of its standard library under {root}. Give another corpus.")
    for path in sorted(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a few files of the library are in other encodings on purpose
        if text.strip():
            yield Document(path.relative_to(root).as_posix(), text)
