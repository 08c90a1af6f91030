"""A registry by name; there is one of metrics and one of scorers, so that adding one of either touches one new file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from scorers.errors import ScorerError

T = TypeVar("T")


class Registry(Generic[T]):
    """Things by name, in the order of their registration."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry`; a name can be taken only once.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"the {self.noun} '{name}' is registered already")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """The entry of that name.

        Raises:
            ScorerError: there is none; the message lists what there is.
        """
        if name not in self._entries:
            raise ScorerError(f"There is no {self.noun} '{name}'. Known: {', '.join(self._entries)}.")
        return self._entries[name]

    def names(self) -> list[str]:
        return list(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.values())
