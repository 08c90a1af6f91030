"""What is known of a planted unit: when it fires, how strongly, and what it does to the next token."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.errors import SubjectError
from tools.planted.predicates import Predicate, from_json
from tools.types import BoolArray, FloatArray

#: The file of a planted subject's folder that holds the truth.
TRUTH_FILE = "truth.json"
#: Version of the file.
TRUTH_FORMAT = 1
#: An inert unit, set to zero at a position, changes no logit there by more than this.
INERT = 0.02


@dataclass(frozen=True)
class Case:
    """Where the predicate holds, and no earlier case's does, the activation's magnitude is `level`."""

    when: Predicate
    level: float

    def to_json(self) -> dict[str, Any]:
        return {"when": self.when.to_json(), "level": self.level}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Case:
        return cls(from_json(data["when"]), float(data["level"]))


@dataclass(frozen=True)
class Effect:
    """What an active unit does to the logits of the same position.

    The mean logit of `tokens`, less the mean logit of the whole vocabulary, is higher (`sign` +1) or lower (-1) by at
    least `least` with the unit as it is than with its activation set to zero at that position.
    """

    tokens: tuple[str, ...]
    sign: int
    least: float

    def to_json(self) -> dict[str, Any]:
        return {"tokens": list(self.tokens), "sign": self.sign, "least": self.least}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Effect:
        return cls(tuple(data["tokens"]), int(data["sign"]), float(data["least"]))


@dataclass(frozen=True)
class UnitTruth:
    """The truth about one tail of one planted unit.

    Magnitudes are of that tail: with polarity ``-`` the activation is minus the magnitude, and a tail that is not
    there has magnitude 0.
    """

    unit: str
    """As `tools.types.UnitId` writes it."""
    polarity: str
    """``+`` or ``-``."""
    family: str
    cases: tuple[Case, ...]
    """The expected magnitude is the level of the first case whose predicate holds. Empty for units without a rule."""
    default: float
    """Expected magnitude where no case holds."""
    tolerance: float
    """How far the activation may be from what is expected. Infinite for units without a rule."""
    noise: bool = False
    """Dead, dense and random units: no description of when they fire should be accepted."""
    concepts: tuple[Predicate, ...] = ()
    """The separate rules of a polysemantic unit."""
    exception: Predicate | None = None
    """Where a global rule, which would hold, rarely does not."""
    effect: Effect | None = None
    """What it does when on; None: nothing (see `inert`) or nothing that is claimed."""
    inert: bool = False
    """Whether it is certain that it changes no logit by more than `INERT`."""
    twin: str | None = None
    """The unit of which it is a near-duplicate."""
    causal_note: str = ""
    """In words, what it does and through what."""

    @property
    def key(self) -> str:
        """The unit's id and polarity in one, as ``mlp:0:13+``."""
        return f"{self.unit}{self.polarity}"

    @property
    def has_rule(self) -> bool:
        """Whether `expected` says anything: not so for dense and random units."""
        return math.isfinite(self.tolerance)

    @property
    def level(self) -> float:
        """The largest magnitude that is expected anywhere; 0 for a unit that never fires or has no rule."""
        return max((case.level for case in self.cases), default=0.0)

    def expected(self, pieces: Sequence[str]) -> FloatArray:
        """Expected magnitude at each position; float32 [len(pieces)]. What stands at position 0 means nothing.

        Raises:
            ValueError: The unit has no rule.
        """
        if not self.has_rule:
            raise ValueError(f"{self.key} is a unit of the family '{self.family}': nothing is expected of it")
        values = np.full(len(pieces), self.default, dtype=np.float32)
        for case in reversed(self.cases):
            values[case.when.holds(pieces)] = case.level
        return values

    def active(self, pieces: Sequence[str]) -> BoolArray:
        """Where the expected magnitude is more than half of the largest; bool [len(pieces)]. Nowhere for a dead unit.

        Raises:
            ValueError: The unit has no rule.
        """
        cut = 0.5 * max(self.level, self.default)
        held: BoolArray = self.expected(pieces) > cut
        return held

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "polarity": self.polarity,
            "family": self.family,
            "cases": [case.to_json() for case in self.cases],
            "default": self.default,
            "tolerance": self.tolerance if self.has_rule else None,
            "noise": self.noise,
            "concepts": [concept.to_json() for concept in self.concepts],
            "exception": None if self.exception is None else self.exception.to_json(),
            "effect": None if self.effect is None else self.effect.to_json(),
            "inert": self.inert,
            "twin": self.twin,
            "causal_note": self.causal_note,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> UnitTruth:
        """The truth that `to_json` wrote."""
        tolerance, exception, effect, twin = (data[key] for key in ("tolerance", "exception", "effect", "twin"))
        return cls(
            unit=str(data["unit"]),
            polarity=str(data["polarity"]),
            family=str(data["family"]),
            cases=tuple(Case.read(case) for case in data["cases"]),
            default=float(data["default"]),
            tolerance=math.inf if tolerance is None else float(tolerance),
            noise=bool(data["noise"]),
            concepts=tuple(from_json(concept) for concept in data["concepts"]),
            exception=None if exception is None else from_json(exception),
            effect=None if effect is None else Effect.read(effect),
            inert=bool(data["inert"]),
            twin=None if twin is None else str(twin),
            causal_note=str(data["causal_note"]),
        )


def write_truth(folder: Path, truths: Sequence[UnitTruth]) -> None:
    """Write `TRUTH_FILE` into a model folder."""
    data = {"format": TRUTH_FORMAT, "units": [truth.to_json() for truth in truths]}
    (folder / TRUTH_FILE).write_text(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=0), encoding="utf-8")


def load_truth(folder: Path) -> dict[str, UnitTruth]:
    """The truth of a planted subject's folder, by `UnitTruth.key`.

    Raises:
        SubjectError: The folder has no truth in it, or one that cannot be read.
    """
    path = folder / TRUTH_FILE
    if not path.is_file():
        raise SubjectError(f"{folder} holds no {TRUTH_FILE}: it is not a planted subject.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != TRUTH_FORMAT:
            raise ValueError(f"it is of format {data['format']}, and this version reads {TRUTH_FORMAT}")
        truths = [UnitTruth.read(entry) for entry in data["units"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SubjectError(f"{path} cannot be read: {error}. Delete the folder, and it is built anew.") from error
    return {truth.key: truth for truth in truths}
