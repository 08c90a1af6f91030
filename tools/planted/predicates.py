"""Predicates over the tokens of a context: the truth of planted units, written apart from every explainer.

A predicate is asked about all positions of a context at once and gives one truth value for each. It sees the texts of
the tokens ("pieces") as the tokenizer writes them, leading spaces included, with the beginning-of-sequence token at
position 0. At position i it may look at pieces 0 to i only. Nothing here is shared with the rule language, so that
agreement between the two means something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from tools.types import BoolArray


@runtime_checkable
class Predicate(Protocol):
    """True or false at each position of a context."""

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        """For each position whether it is true there; shape [len(pieces)]."""
        ...

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the key ``kind``; `from_json` turns it back."""
        ...


_KINDS: dict[str, Callable[[Mapping[str, Any]], Predicate]] = {}


def from_json(data: Mapping[str, Any]) -> Predicate:
    """The predicate that `Predicate.to_json` wrote.

    Raises:
        ValueError: No known kind.
    """
    kind = data.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of predicate; there are {', '.join(_KINDS)}")
    return _KINDS[str(kind)](data)


def _kind(cls: Any) -> Any:
    """Class decorator: makes `from_json` know a predicate by its `kind`."""
    _KINDS[cls.kind] = cls.read
    return cls


def token_set(tokens: Iterable[str]) -> tuple[str, ...]:
    """Texts of tokens in one order, each once."""
    return tuple(sorted(set(tokens)))


@_kind
@dataclass(frozen=True)
class TokenIn:
    """The current token is one of these."""

    tokens: tuple[str, ...]
    kind: ClassVar[str] = "token in"

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self.tokens)

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        return np.fromiter((piece in self._members for piece in pieces), bool, len(pieces))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": list(self.tokens)}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> TokenIn:
        return cls(tuple(data["tokens"]))


@_kind
@dataclass(frozen=True)
class Before:
    """The token `distance` back (1: the previous one) is one of these."""

    distance: int
    tokens: tuple[str, ...]
    kind: ClassVar[str] = "before"

    def __post_init__(self) -> None:
        if self.distance < 1:
            raise ValueError(f"a distance is at least 1, not {self.distance}")

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self.tokens)

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        for i in range(self.distance, len(pieces)):
            held[i] = pieces[i - self.distance] in self._members
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "distance": self.distance, "tokens": list(self.tokens)}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Before:
        return cls(int(data["distance"]), tuple(data["tokens"]))


@_kind
@dataclass(frozen=True)
class Within:
    """At least one of the `k` tokens before the current one, which does not count itself, is one of these."""

    k: int
    tokens: tuple[str, ...]
    kind: ClassVar[str] = "within"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is at least 1, not {self.k}")

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self.tokens)

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        for i, piece in enumerate(pieces):
            if piece in self._members:
                held[i + 1 : i + 1 + self.k] = True
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "k": self.k, "tokens": list(self.tokens)}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Within:
        return cls(int(data["k"]), tuple(data["tokens"]))


@_kind
@dataclass(frozen=True)
class Position:
    """The position in the context is from `low` to `high`, both included; the beginning-of-sequence token has 0."""

    low: int
    high: int
    kind: ClassVar[str] = "position"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        places = np.arange(len(pieces))
        held: BoolArray = (places >= self.low) & (places <= self.high)
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "low": self.low, "high": self.high}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Position:
        return cls(int(data["low"]), int(data["high"]))


@_kind
@dataclass(frozen=True)
class Repeated:
    """The current token stood earlier in the context. Position 0 takes no part."""

    kind: ClassVar[str] = "repeated"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        seen: set[str] = set()
        for i in range(1, len(pieces)):
            held[i] = pieces[i] in seen
            seen.add(pieces[i])
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Repeated:
        return cls()


@_kind
@dataclass(frozen=True)
class Induction:
    """The previous and the current token stood side by side earlier in the context, in this order."""

    kind: ClassVar[str] = "induction"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        seen: set[tuple[str, str]] = set()
        for i in range(1, len(pieces)):
            pair = (pieces[i - 1], pieces[i])
            held[i] = pair in seen
            seen.add(pair)
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Induction:
        return cls()


@_kind
@dataclass(frozen=True)
class All:
    """Every part holds; true where there are no parts."""

    parts: tuple[Predicate, ...]
    kind: ClassVar[str] = "all"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.ones(len(pieces), bool)
        for part in self.parts:
            held &= part.holds(pieces)
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [part.to_json() for part in self.parts]}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> All:
        return cls(tuple(from_json(part) for part in data["parts"]))


@_kind
@dataclass(frozen=True)
class AnyOf:
    """At least one part holds; false where there are no parts."""

    parts: tuple[Predicate, ...]
    kind: ClassVar[str] = "any"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        for part in self.parts:
            held |= part.holds(pieces)
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [part.to_json() for part in self.parts]}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> AnyOf:
        return cls(tuple(from_json(part) for part in data["parts"]))


@_kind
@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Predicate
    kind: ClassVar[str] = "not"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        return ~self.part.holds(pieces)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "part": self.part.to_json()}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Not:
        return cls(from_json(data["part"]))


@_kind
@dataclass(frozen=True)
class Earlier:
    """The part held at an earlier position of the context. Position 0 takes no part."""

    part: Predicate
    kind: ClassVar[str] = "earlier"

    def holds(self, pieces: Sequence[str]) -> BoolArray:
        held = np.zeros(len(pieces), bool)
        before = self.part.holds(pieces)
        before[:1] = False
        found = np.flatnonzero(before)
        if len(found):
            held[found[0] + 1 :] = True
        return held

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "part": self.part.to_json()}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Earlier:
        return cls(from_json(data["part"]))
