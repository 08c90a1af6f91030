"""Descriptions of functions against the functions themselves, on inputs that stand in no corpus.

Global score: NMSE = sum (y - y')^2 / sum y^2 over the held-out inputs, where y is what the unit shows (observation
noise included) and y' what the description's formula says; below 0.1 it counts as a success (FIND, Schwettmann et al.
2023, arXiv 2309.03886). Local score: the same over the corrupted held-out inputs alone (but for the two at its ends,
of which no number that may be asked could tell), and the overlap (intersection
over union, over held-out inputs) of the part that the description names with the part that is corrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from explainers.symbolic.asking import as_number
from explainers.types import Explainer
from tools.functions import (
    FindSpec,
    FormulaError,
    FunctionTruth,
    evaluate,
    grid,
    is_held_out,
    number_text,
    parse,
    words,
)
from tools.functions.expression import DoubleArray, Inputs, inside
from tools.subject import Subject
from tools.types import BoolArray, UnitId
from tools.units import unit_activations

SUCCESS = 0.1
_TOGETHER = 60


@dataclass(frozen=True)
class Mark:
    """How one function came off."""

    unit: str
    domain: str
    category: str
    family: str
    nmse: float | None
    """Over all held-out inputs; None where there is no formula, infinite where it is not defined on one of them."""
    floor: float
    """NMSE of the truth without its noise: what observation noise and noise in a corrupted part leave at best."""
    success: bool
    local_nmse: float | None
    """Over corrupted held-out inputs; None where there are none, or no formula."""
    local_floor: float | None
    overlap: float | None
    """Intersection over union of the part named and the part corrupted; None for functions that are not corrupted."""
    local_success: bool
    """The part named overlaps the corrupted one by half or more, and is told as well as can be: its NMSE is below 0.1,
    or (noise cannot be predicted) below 1.2 times the local floor."""
    false_part: bool
    """A part is named, but the function is not corrupted."""
    f1: float | None
    """On sealed text, of the tail that does best."""
    pearson: float | None
    queries: int
    """Inputs that the explainer asked for."""
    held_out_queries: int
    """Of them, those that were held out; anything but 0 voids the scores."""
    formula: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite error is None with success false."""
        return {
            key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(self).items()
        }  # fmt: skip


class Ground:
    """The truth of some functions of a subject and what their units show at held-out inputs."""

    def __init__(self, subject: Subject, spec: FindSpec, truths: Sequence[FunctionTruth]):
        self.truths = {truth.unit: truth for truth in truths}
        numbers = [float(x) for x in grid().tolist() if is_held_out(x)]
        strings = [word for word in words(spec.size) if is_held_out(word)]
        self.inputs: dict[str, Inputs] = {"numeric": np.array(numbers), "string": strings}
        self.shown: dict[str, DoubleArray] = {}
        for domain, texts in (("numeric", [number_text(x) for x in numbers]), ("string", strings)):
            units = [UnitId.parse(unit) for unit, truth in self.truths.items() if truth.domain == domain]
            values = _show(subject, units, texts)
            self.shown.update({str(unit): values[row] for row, unit in enumerate(units)})

    def mark(self, unit: str, details: Mapping[str, Any], explainer: Explainer, scores: Mapping[str, float | None],
             asked: Sequence[str]) -> Mark:  # fmt: skip
        """Judge a description of a unit.

        Args:
            unit: Which.
            details: Of the description; ``formula``, ``interval`` and ``other_words`` are looked at.
            explainer: Who wrote it; one with a method ``values`` is asked itself.
            scores: 'f1' and 'pearson' on sealed text.
            asked: Inputs that the explainer put to the unit.
        """
        truth, y = self.truths[unit], self.shown[unit]
        inputs = self.inputs[truth.domain]
        predicted = _values(explainer, details, inputs)
        without_noise = np.array(truth.values(inputs))
        corrupted = truth.corrupted_mask(inputs)
        if truth.corruption is not None and truth.corruption.instead is None:
            without_noise[corrupted] = truth.corruption.mean
        error = None if predicted is None else nmse(y, predicted)
        named = _named(details, inputs)
        some = bool(corrupted.any())
        clear = corrupted & _told_apart(truth, inputs)
        local = nmse(y[clear], predicted[clear]) if some and predicted is not None else None
        local_floor = nmse(y[clear], without_noise[clear]) if some else None
        overlap = float((named & corrupted).sum() / max((named | corrupted).sum(), 1)) if some else None
        return Mark(
            unit=unit,
            domain=truth.domain,
            category=truth.category,
            family=truth.family,
            nmse=error,
            floor=nmse(y, without_noise),
            success=error is not None and error < SUCCESS,
            local_nmse=local,
            local_floor=local_floor,
            overlap=overlap,
            local_success=local is not None
            and (overlap or 0.0) >= 0.5
            and local < max(SUCCESS, 1.2 * (local_floor or 0)),
            false_part=bool(named.any()) and truth.corruption is None,
            f1=scores.get("f1"),
            pearson=scores.get("pearson"),
            queries=len(asked),
            held_out_queries=sum(_is_held_out(text) for text in asked),
            formula=details.get("formula"),
        )


def nmse(y: DoubleArray, predicted: DoubleArray) -> float:
    """sum (y - y')^2 / sum y^2; infinite where a prediction is not a number, for leaving it out would flatter."""
    if not np.isfinite(predicted).all():
        return math.inf
    power = float((y**2).sum())
    error = float(((y - predicted) ** 2).sum())
    return error / power if power else (0.0 if error == 0 else math.inf)


def _show(subject: Subject, units: Sequence[UnitId], texts: Sequence[str]) -> np.ndarray[tuple[int, int], Any]:
    """What units show at inputs, [unit, input]; each input stands at a place drawn at random."""
    order = np.random.default_rng(0).permutation(len(texts))
    parts = [order[i : i + _TOGETHER] for i in range(0, len(order), _TOGETHER)]
    sequences = [subject.encode(" ".join(texts[i] for i in part)) for part in parts]
    found = np.empty((len(units), len(texts)))
    if units:
        for part, values in zip(parts, unit_activations(subject, units, sequences), strict=True):
            found[:, part] = values[:, len(subject.prefix) :]
    return found


def _values(explainer: Explainer, details: Mapping[str, Any], inputs: Inputs) -> DoubleArray | None:
    """What a description says of inputs; None when it has no formula."""
    own = getattr(explainer, "values", None)
    if own is not None:
        return np.asarray(own(details, inputs))
    if details.get("formula") is None:
        return None
    try:
        return evaluate(parse(details["formula"]), inputs)
    except FormulaError:  # a text that is no formula, or is about the other domain: wrong everywhere
        return np.full(len(inputs), np.nan)


def _named(details: Mapping[str, Any], inputs: Inputs) -> BoolArray:
    """The inputs of the part that a description names as an exception."""
    interval, condition = details.get("interval"), details.get("other_words")
    if interval is not None and isinstance(inputs, np.ndarray):
        low, high = interval
        bounds = inside(-math.inf if low is None else low, math.inf if high is None else high)
        return np.asarray(evaluate(bounds, inputs) > 0.5)
    if condition is not None and not isinstance(inputs, np.ndarray):
        return np.asarray(evaluate(parse(condition), inputs) > 0.5)
    return np.zeros(len(inputs), dtype=np.bool_)


def _is_held_out(text: str) -> bool:
    number = as_number(text)
    return is_held_out(text if number is None else number)


def _told_apart(truth: FunctionTruth, inputs: Inputs) -> BoolArray:
    """Inputs of which what may be asked could tell whether they are corrupted: not those at the very ends of a part.

    A number lies half a unit from the nearest one that may be asked on either side; where one of these is corrupted
    and the other is not, nothing can tell.
    """
    if not isinstance(inputs, np.ndarray):
        return np.ones(len(inputs), dtype=np.bool_)
    return np.asarray(truth.corrupted_mask(inputs - 0.5) == truth.corrupted_mask(inputs + 0.5))
