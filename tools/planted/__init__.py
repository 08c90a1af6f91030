"""Planted subjects: real transformers whose parts were written by hand, so that the truth about each is known."""

from __future__ import annotations

from tools.planted.build import build, subject_folder
from tools.planted.concepts import prevalences
from tools.planted.corpus import documents
from tools.planted.near import near_misses
from tools.planted.predicates import (
    All,
    AnyOf,
    Before,
    Earlier,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    Within,
    from_json,
)
from tools.planted.spec import PlantedSpec, is_planted, planted_spec
from tools.planted.truth import INERT, Case, Effect, UnitTruth, load_truth

__all__ = [
    "INERT",
    "All",
    "AnyOf",
    "Before",
    "Case",
    "Earlier",
    "Effect",
    "Induction",
    "Not",
    "PlantedSpec",
    "Position",
    "Predicate",
    "Repeated",
    "TokenIn",
    "UnitTruth",
    "Within",
    "build",
    "documents",
    "from_json",
    "is_planted",
    "load_truth",
    "near_misses",
    "planted_spec",
    "prevalences",
    "subject_folder",
]
