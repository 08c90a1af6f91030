"""What a description claims of a unit's effect on the output, in a form that can be tested, and how it comes about.

    changes   the logits of named tokens, in every text alike
    varies    the next token's prediction, but of other tokens in other texts
    later     nothing at once, but the predictions of the tokens that follow
    nothing   it fires, and nothing that can be measured follows
    untested  nothing is claimed; `reason` says why

A claim is part of an explanation's details, under 'output'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tools.effects import FOLLOWING, Measured, Tokens, cross_fitted_shift
from tools.types import FloatArray

Kind = Literal["changes", "varies", "later", "nothing", "untested"]

#: A mean change of logits that counts; what is smaller is called nothing.
NOTABLE = 0.1
#: The same for predictions as a whole: Kullback-Leibler divergence, nats.
NOTABLE_KL = 0.001
#: Key of an explanation's details.
KEY = "output"


@dataclass(frozen=True)
class TokenChange:
    """A token that is raised or lowered."""

    id: int
    piece: str
    size: float | None = None
    """Mean change of its logit where it was measured, in logits, with its sign."""

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "piece": self.piece, "size": self.size}


@dataclass(frozen=True)
class OutputClaim:
    """What is claimed of one tail of a unit, and what it rests on."""

    kind: Kind
    reason: str | None = None
    """Why nothing is claimed, of kind 'untested' alone."""
    raised: tuple[TokenChange, ...] = ()
    """Of kind 'changes' alone, strongest first."""
    lowered: tuple[TokenChange, ...] = ()
    basis: Mapping[str, Any] = field(default_factory=dict)
    """What was measured on open text: JSON values, see `measured_basis`. It is no part of what is claimed."""

    @property
    def tokens(self) -> Tokens:
        """Those that are said to change."""
        named = (*self.raised, *self.lowered)
        signs = [1.0] * len(self.raised) + [-1.0] * len(self.lowered)
        return Tokens(np.array([token.id for token in named], dtype=np.int64), np.array(signs, dtype=np.float32))

    @property
    def asserted(self) -> dict[str, Any]:
        """What is claimed and tested, without how it was found: by this it is known."""
        return {
            "kind": self.kind,
            "raised": [token.id for token in self.raised],
            "lowered": [token.id for token in self.lowered],
            "off": self.basis.get("off"),
            "following": FOLLOWING,
        }

    def to_json(self) -> dict[str, Any]:
        """For an explanation's details; `from_json` reverses it."""
        return {
            "kind": self.kind,
            "reason": self.reason,
            "raised": [token.to_json() for token in self.raised],
            "lowered": [token.to_json() for token in self.lowered],
            "basis": dict(self.basis),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OutputClaim:
        """The claim that `to_json` wrote."""
        raised, lowered = (tuple(TokenChange(**token) for token in data[name]) for name in ("raised", "lowered"))
        return cls(data["kind"], data["reason"], raised, lowered, data["basis"])


def claim_in(details: Mapping[str, Any]) -> OutputClaim | None:
    """The claim of an explanation; None where its explainer made none."""
    return OutputClaim.from_json(details[KEY]) if KEY in details else None


def untested(reason: str, measured: Measured | str | None = None) -> OutputClaim:
    """No claim, and why."""
    return OutputClaim("untested", reason, basis=measured_basis(measured) if isinstance(measured, Measured) else {})


def measured_claim(measured: Measured | str | None) -> OutputClaim:
    """What the measurements say, as a claim.

    Named tokens must move by `NOTABLE` also where they were not chosen (the places are halved for that). Where none do,
    what is claimed is the first that holds: that predictions change all the same, that later ones do, or nothing.
    """
    if not isinstance(measured, Measured):
        return untested(measured or "nobody tried")
    effects, basis = measured.effects, measured_basis(measured)
    shift = cross_fitted_shift(effects.change, NOTABLE)
    if len(measured.tokens.ids) and shift is not None and shift >= NOTABLE:
        named = [
            TokenChange(int(token), piece, rounded(size))
            for token, piece, size in zip(
                measured.tokens.ids.tolist(), measured.pieces, measured.sizes.tolist(), strict=True
            )
        ]
        raised = tuple(token for token in named if (token.size or 0) > 0)
        return OutputClaim("changes", None, raised, tuple(t for t in named if (t.size or 0) <= 0), basis)
    if float(effects.kl.mean()) >= NOTABLE_KL:
        return OutputClaim("varies", basis=basis)
    later = mean_of(effects.later)
    if later is not None and later >= NOTABLE_KL:
        return OutputClaim("later", basis=basis)
    return OutputClaim("nothing", basis=basis)


def measured_basis(measured: Measured) -> dict[str, Any]:
    """What was measured on open text: places, what stood for off, effect sizes, the dose-response curve."""
    effects = measured.effects
    mean = effects.change.mean(0)
    return {
        "places": len(effects),
        "off": measured.off.to_json(),
        "site": str(effects.site),
        "largest": rounded(float(np.abs(mean).max())),
        "shift": rounded(float(measured.tokens.shift(effects.change).mean())) if len(measured.tokens.ids) else None,
        "shift_error": _standard_error(measured.tokens.shift(effects.change)) if len(measured.tokens.ids) else None,
        "fitted": rounded(cross_fitted_shift(effects.change, NOTABLE)),
        "kl": rounded(float(effects.kl.mean())),
        "later": rounded(mean_of(effects.later)),
        "loss": rounded(mean_of(effects.loss)),
        "moved": rounded(float(effects.moved.mean())),
        "doses": [rounded(dose) for dose in measured.doses.tolist()],
        "curve": [rounded(shift) for shift in measured.curve.mean(0).tolist()] if len(measured.curve) else [],
    }


def _standard_error(values: FloatArray) -> float | None:
    """Of the mean over places, each from a document of its own; None of a single one."""
    if len(values) < 2:
        return None
    return rounded(float(values.std(ddof=1, dtype=np.float64)) / len(values) ** 0.5)


def mean_of(values: FloatArray) -> float | None:
    """Of those that are known; None of none."""
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None


def rounded(value: float | None) -> float | None:
    """To four digits."""
    return None if value is None else float(f"{value:.4g}")
