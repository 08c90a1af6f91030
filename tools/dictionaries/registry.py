"""The architectures that can be read, by the name that ``cfg.json`` gives them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from tools.dictionaries.base import Dictionary
from tools.errors import DictionaryError

_ARCHITECTURES: dict[str, type[Dictionary]] = {}


def register(*names: str) -> Callable[[type[Dictionary]], type[Dictionary]]:
    """Class decorator: dictionaries whose configuration names one of these architectures are of this class."""

    def add(kind: type[Dictionary]) -> type[Dictionary]:
        for name in names:
            _ARCHITECTURES[name] = kind
        return kind

    return add


def architectures() -> dict[str, type[Dictionary]]:
    """All registered architectures: those of every module of this package, so that a new one is one new file."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"tools.dictionaries.{module.name}")
    return dict(sorted(_ARCHITECTURES.items()))


def architecture(name: str) -> type[Dictionary]:
    """The class of an architecture.

    Raises:
        DictionaryError: Nobody registered it; the message lists what is known.
    """
    known = architectures()
    if name not in known:
        raise DictionaryError(f"Dictionaries of architecture '{name}' cannot be read. Known: {', '.join(known)}.")
    return known[name]
