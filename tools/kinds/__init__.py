"""Unit kinds: one module each, found by the registry when it is imported."""

from __future__ import annotations

from tools.kinds import direction, function, head, neuron, sae
from tools.kinds.registry import UnitKind, kind_of, names

__all__ = ["UnitKind", "direction", "function", "head", "kind_of", "names", "neuron", "sae"]
