"""Planted subjects: real transformers whose parts were written by hand, so that the truth about each is known."""

from __future__ import annotations

from tools.planted.predicates import (
    All,
    AnyOf,
    Before,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    Within,
    from_json,
)
from tools.planted.truth import Case, Effect, UnitTruth, load_truth

__all__ = [
    "All",
    "AnyOf",
    "Before",
    "Case",
    "Effect",
    "Induction",
    "Not",
    "Position",
    "Predicate",
    "Repeated",
    "TokenIn",
    "UnitTruth",
    "Within",
    "from_json",
    "load_truth",
]
