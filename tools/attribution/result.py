"""The one result of every attribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tools.attribution.anchors import Anchor
from tools.attribution.faithful import Faithfulness
from tools.attribution.targets import Array, Target

Kind: TypeAlias = Literal["input", "unit", "component"]
Method: TypeAlias = Literal[
    "gradient", "ig", "normxlogit", "occlusion", "anchor", "conductance", "direct",
]  # fmt: skip


@dataclass(frozen=True)
class Attribution:
    """Parts of a target, by tokens of the text (`input`), units, or parts of the model (`component`)."""

    kind: Kind
    method: Method
    target: Target
    """Its position filled in."""
    tokens: tuple[str, ...]
    """The text, of a decoder up to the target's position."""
    names: tuple[str, ...]
    """Of the parts: tokens' texts, unit ids, or parts of the model as `direct_attribution` names them."""
    scores: Array
    """[part]; positive parts make the target larger."""
    value: float
    """The target on the text."""
    positions: tuple[int, ...] | None = None
    """Of tokens."""
    by_position: Array | None = None
    """[part, pos] of units; a unit's score is the sum. The first position is left as it is."""
    baseline: str | None = None
    """What parts are compared with."""
    reference: str | None = None
    """Hash of the reference texts, where they matter."""
    baseline_value: float | None = None
    """The target at the baseline."""
    error: float | None = None
    """How far the numerical sum over a path, or over the model's parts, is from what it should be."""
    p_values: Array | None = None
    """[part] of occlusion, against the hypothesis that the target does not depend on the token."""
    anchor: Anchor | None = None
    check: Faithfulness | None = None
    """The order of the parts tried out on the model."""
    note: str = ""
    """What is to be known of the result."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def ranked(self) -> list[int]:
        """Indices of parts, largest first by size."""
        return sorted(range(len(self.scores)), key=lambda i: -abs(self.scores[i]))

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return {
            "kind": self.kind,
            "method": self.method,
            "target": self.target.to_json(),
            "value": self.value,
            "tokens": list(self.tokens),
            "names": list(self.names),
            "positions": None if self.positions is None else list(self.positions),
            "scores": self.scores.tolist(),
            "by_position": None if self.by_position is None else self.by_position.tolist(),
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "reference": self.reference,
            "error": self.error,
            "p_values": None if self.p_values is None else self.p_values.tolist(),
            "anchor": None if self.anchor is None else self.anchor.to_json(),
            "check": None if self.check is None else self.check.to_json(),
            "note": self.note,
            "settings": dict(self.settings),
        }
