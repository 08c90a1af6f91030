"""What is true of a generated function: its formula, where it is corrupted and how, and its noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.errors import SubjectError
from tools.functions.expression import DoubleArray, Expr, FormulaError, Inputs, evaluate
from tools.functions.inputs import unit_normal
from tools.types import BoolArray

FILE = "functions.json"
#: What a function is made of, and what is done to it; one each.
CATEGORIES = ("atom", "compound", "corrupted", "noisy")


@dataclass(frozen=True)
class Corruption:
    """A part of the domain where something else is given than the formula says."""

    where: Expr
    """Condition: 'inside' for numbers; a truth value of the word for words."""
    instead: Expr | None
    """Another formula; None for noise."""
    mean: float = 0.0
    """Of the noise."""
    std: float = 0.0
    """Of the noise, which is drawn once for each input: asked again, the function gives the same."""
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        instead = None if self.instead is None else self.instead.to_json()
        return {"where": self.where.to_json(), "instead": instead, "mean": self.mean, "std": self.std,
                "seed": self.seed}  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Corruption:
        instead = None if data["instead"] is None else Expr.from_json(data["instead"])
        return cls(Expr.from_json(data["where"]), instead, data["mean"], data["std"], data["seed"])


@dataclass(frozen=True)
class FunctionTruth:
    """One function: ``value(x) = scale * formula(x)``, or what its corruption puts there.

    What a subject's unit shows is this value plus observation noise, which depends on the position in the text.
    """

    unit: str
    category: str
    """One of `CATEGORIES`."""
    family: str
    """What it was drawn as, such as 'sin' or 'product'; for statistics."""
    formula: Expr
    scale: float
    """By which the formula is multiplied, so that its root mean square over the grid is 1; 1 for words."""
    corruption: Corruption | None = None
    noise: float = 0.0
    """Standard deviation of the observation noise."""

    @property
    def domain(self) -> str:
        """'numeric' or 'string'."""
        return self.unit.split(":")[1]

    def values(self, inputs: Inputs) -> DoubleArray:
        """Values without observation noise, float64 [n]; `inputs` are float64 [n] or words."""
        values = self.scale * evaluate(self.formula, inputs)
        if self.corruption is None:
            return values
        held = self.corrupted_mask(inputs)
        if self.corruption.instead is not None:
            return np.where(held, self.scale * evaluate(self.corruption.instead, inputs), values)
        for i in np.flatnonzero(held):
            key = float(inputs[i]) if isinstance(inputs, np.ndarray) else inputs[int(i)]
            values[i] = self.corruption.mean + self.corruption.std * unit_normal(self.corruption.seed, key)
        return values

    def value(self, x: float | str) -> float:
        """The value at one input, without observation noise."""
        return float(self.values(_one(x))[0])

    def corrupted_mask(self, inputs: Inputs) -> BoolArray:
        """Where the function is corrupted, bool [n]."""
        if self.corruption is None:
            return np.zeros(len(inputs), dtype=np.bool_)
        return evaluate(self.corruption.where, inputs) > 0.5

    def corrupted(self, x: float | str) -> bool:
        """Whether the function is corrupted at one input."""
        return bool(self.corrupted_mask(_one(x))[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` turns them back. ``text`` is the formula for people to read."""
        return {
            "unit": self.unit, "category": self.category, "family": self.family, "text": str(self.formula),
            "formula": self.formula.to_json(), "scale": self.scale, "noise": self.noise,
            "corruption": None if self.corruption is None else self.corruption.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FunctionTruth:
        """The function that `to_json` wrote."""
        corruption = None if data["corruption"] is None else Corruption.from_json(data["corruption"])
        return cls(
            data["unit"], data["category"], data["family"], Expr.from_json(data["formula"]), data["scale"], corruption,
            data["noise"],
        )  # fmt: skip


def _one(x: float | str) -> Inputs:
    return [x] if isinstance(x, str) else np.array([x], dtype=np.float64)


def write_truth(folder: Path, functions: Sequence[FunctionTruth], spec: str) -> None:
    """Keep the truth beside the weights."""
    data = {"spec": spec, "functions": [function.to_json() for function in functions]}
    (folder / FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def load_truth(folder: Path) -> dict[str, FunctionTruth]:
    """The functions of a ``find`` subject's folder, by unit id.

    Raises:
        SubjectError: The folder is not one of those, or its truth cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise SubjectError(f"{folder} is not a subject of generated functions: it has no {FILE}.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["functions"]
        return {row["unit"]: FunctionTruth.from_json(row) for row in rows}
    except (ValueError, KeyError, TypeError, FormulaError) as error:
        raise SubjectError(f"{path} cannot be read ({type(error).__name__}: {error}). Delete its folder.") from error
