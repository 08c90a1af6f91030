"""From values of other rooms to the plain JSON values that checkpoints and the database hold."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tools.types import UnitId


def plain(value: Any) -> Any:
    """The same value out of dicts with text keys, lists, text, numbers, booleans and None.

    A float that is not finite becomes None (the database keeps none); dataclasses become dicts of their fields.

    Raises:
        TypeError: There is something in it that has no plain form.
    """
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, UnitId):
        return str(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no plain form")


def digest(value: Any) -> str:
    """SHA-256 (32 hex digits) of a value's plain form."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:32]


def short(value: float) -> float:
    """A number with the four digits that a result is read with."""
    return float(f"{float(value):.4g}")
