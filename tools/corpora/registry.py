"""Where documents come from: a reader for each scheme (``stdlib:``) and each file suffix (``.jsonl``)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.corpora.corpus import Document


@dataclass(frozen=True)
class Source:
    """What a reader is to read."""

    spec: str
    """As the user gave it, for messages."""
    address: str
    """The path, or what follows the scheme."""
    field: str | None = None
    """Option ``?field=``: which field or column holds the text. None: ``text``."""
    id: str | None = None
    """Option ``?id=``: which field or column holds the id. None: ``id`` where there is one, else a hash of the text."""
    config: str | None = None
    """Option ``?config=``: which configuration of a hub data set."""
    limit: int | None = None
    """How many documents will be chosen of those read; for readers whose source is too long to read whole."""

    @property
    def path(self) -> Path:
        return Path(self.address)


Reader = Callable[[Source], Iterator[Document]]

_SCHEMES: dict[str, Reader] = {}
_SUFFIXES: dict[str, Reader] = {}


def register_scheme(scheme: str) -> Callable[[Reader], Reader]:
    """Decorator: the function reads specs that begin with ``scheme:``."""

    def add(reader: Reader) -> Reader:
        _SCHEMES[scheme] = reader
        return reader

    return add


def register_suffix(*suffixes: str) -> Callable[[Reader], Reader]:
    """Decorator: the function reads files with one of these suffixes, alone or within a folder."""

    def add(reader: Reader) -> Reader:
        for suffix in suffixes:
            _SUFFIXES[suffix] = reader
        return reader

    return add


def readers() -> tuple[dict[str, Reader], dict[str, Reader]]:
    """All readers, by scheme and by suffix: of all modules of this package, so that a new one is one new file."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"tools.corpora.{module.name}")
    return dict(sorted(_SCHEMES.items())), dict(sorted(_SUFFIXES.items()))
