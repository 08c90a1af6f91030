"""The rule language's values: a rule is an ordered list of clauses, a clause a conjunction of literals.

Everything is immutable and hashable, so that rules can be compared, stored and memoised. Limits are checked when a
value is made: a rule that exists is a rule that can be written, read and evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

VERSION = "rule v1"

MAX_CLAUSES = 256
MAX_LITERALS = 8
"""Literals in one clause."""
MAX_MEMBERS = 4096
"""Members of one set."""
MAX_TEXT = 64
"""Characters of one member."""
MAX_DISTANCE = 64
"""How far back a literal may look, in tokens or words."""
MAX_NUMBER = 1_000_000

PLACE_KINDS = ("token", "word", "text", "near token", "near word")
RELATIONS = ("in", "starts", "ends")
TOKEN_CLASSES = (
    "upper", "title", "lower", "mixed", "digit", "punct", "space", "newline", "indentation", "word-start",
    "word-inside",
)  # fmt: skip
QUANTITIES = ("position", "indent", "column")
OPERATORS = ("<", ">", "=")
STATES = (
    "repeated token", "repeated word", "induction", "inside quotes", "inside ()", "inside []", "inside {}",
    "inside comment", "inside string", "inside docstring", "at sentence start", "at line start",
)  # fmt: skip


class RuleError(ValueError):
    """A rule is not well formed; the message names the line and column where there is one."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RuleError(message)


@dataclass(frozen=True)
class Place:
    """What a set literal looks at.

    ``token`` k tokens back (0 is the current one), ``word`` k words back (0 is the word being read), ``text`` is all of
    the text so far, ``near token``/``near word`` any of the last k (the current one among them).
    """

    kind: str
    offset: int = 0

    def __post_init__(self) -> None:
        _require(self.kind in PLACE_KINDS, f"'{self.kind}' is not a place; places are {', '.join(PLACE_KINDS)}")
        lowest = 1 if self.kind.startswith("near") else 0
        _require(
            lowest <= self.offset <= (0 if self.kind == "text" else MAX_DISTANCE),
            f"a distance is from {lowest} to {MAX_DISTANCE}, not {self.offset}",
        )


@dataclass(frozen=True)
class InSet:
    """True when the text at `place` is, starts with or ends with one of `members`."""

    place: Place
    relation: str
    members: tuple[str, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        _require(self.relation in RELATIONS, f"'{self.relation}' is not a relation")
        allowed = {"text": ("ends",), "near token": ("in",), "near word": ("in",)}.get(self.place.kind, RELATIONS)
        _require(self.relation in allowed, f"'{self.place.kind}' goes with {' or '.join(allowed)}")
        _require(0 < len(self.members) <= MAX_MEMBERS, f"a set has 1 to {MAX_MEMBERS} members")
        _require(len(set(self.members)) == len(self.members), "a set names a member twice")
        for member in self.members:
            _require(0 < len(member) <= MAX_TEXT, f"a member has 1 to {MAX_TEXT} characters")


@dataclass(frozen=True)
class Is:
    """True when the token `offset` tokens back is of a class such as ``upper`` or ``newline``."""

    offset: int
    token_class: str
    negated: bool = False

    def __post_init__(self) -> None:
        _require(self.token_class in TOKEN_CLASSES, f"'{self.token_class}' is not a token class")
        _require(0 <= self.offset <= MAX_DISTANCE, f"a distance is from 0 to {MAX_DISTANCE}, not {self.offset}")


@dataclass(frozen=True)
class Compare:
    """Compares a number with a constant: position in the context, indentation of the line, tokens since the newline."""

    quantity: str
    operator: str
    value: int
    negated: bool = False

    def __post_init__(self) -> None:
        _require(self.quantity in QUANTITIES, f"'{self.quantity}' is not a quantity")
        _require(self.operator in OPERATORS, f"'{self.operator}' is not an operator")
        _require(0 <= self.value <= MAX_NUMBER, f"a number is from 0 to {MAX_NUMBER}, not {self.value}")


@dataclass(frozen=True)
class State:
    """True in a state of the text so far: repetition, inside quotes, brackets, comments, at the start of a line."""

    name: str
    negated: bool = False

    def __post_init__(self) -> None:
        _require(self.name in STATES, f"'{self.name}' is not a state")


Literal = InSet | Is | Compare | State


@dataclass(frozen=True)
class Clause:
    """All of `literals` hold → the unit's predicted magnitude is `strength`."""

    strength: float
    literals: tuple[Literal, ...]

    def __post_init__(self) -> None:
        _require(math.isfinite(self.strength) and self.strength >= 0, "a strength is a finite number, 0 or more")
        _require(0 < len(self.literals) <= MAX_LITERALS, f"a clause has 1 to {MAX_LITERALS} literals")


@dataclass(frozen=True)
class Rule:
    """The first clause that matches gives the predicted magnitude; `default` when none does."""

    clauses: tuple[Clause, ...]
    default: float

    def __post_init__(self) -> None:
        _require(math.isfinite(self.default) and self.default >= 0, "the default is a finite number, 0 or more")
        _require(len(self.clauses) <= MAX_CLAUSES, f"a rule has at most {MAX_CLAUSES} clauses")

    @property
    def n_literals(self) -> int:
        """Literals over all clauses; a set counts as one."""
        return sum(len(clause.literals) for clause in self.clauses)

    @property
    def n_members(self) -> int:
        """Elementary tests over all clauses: each member of each set counts, other literals count as one."""
        return sum(members(literal) for clause in self.clauses for literal in clause.literals)


def members(literal: Literal) -> int:
    """Elementary tests in one literal."""
    return len(literal.members) if isinstance(literal, InSet) else 1
