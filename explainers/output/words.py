"""A claim about a unit's effect on the output in plain English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explainers.output.claim import NOTABLE, NOTABLE_KL, OutputClaim, TokenChange
from explainers.rules.english import show
from tools.effects import FOLLOWING

if TYPE_CHECKING:
    from tools.lenses import Promotion

TOKENS_SHOWN = 5


def output_half(claim: OutputClaim, promotion: Promotion | None = None, polarity: str = "+") -> str:
    """What a unit does when on; never empty.

    Args:
        claim: What is claimed.
        promotion: What its write would raise and lower at a positive activation, by the weights; it is told where
            nothing was measured.
        polarity: Of the tail.
    """
    if claim.kind == "changes":
        parts = [_side("raises", claim.raised), _side("lowers", claim.lowered)]
        return f"When on, {' and '.join(part for part in parts if part)}."
    if claim.kind == "varies":
        return (
            f"When on, changes the prediction of the next token{_by(claim.basis.get('kl'))}, but of other tokens in "
            "other texts."
        )
    if claim.kind == "later":
        return (
            "When on, leaves the prediction of the next token as it is and changes those of the tokens that follow"
            f"{_by(claim.basis.get('later'))}: a mark that later positions read."
        )
    if claim.kind == "nothing":
        return (
            f"Does nothing measurable when on: no token's logit moves by {NOTABLE:g} on average, and neither the "
            f"next prediction nor those of the {FOLLOWING} tokens after it by {NOTABLE_KL:g} nats."
        )
    weights = by_weights(promotion, polarity)
    return f"{weights} Not measured: {claim.reason}." if weights else f"What it does was not measured: {claim.reason}."


def by_weights(promotion: Promotion | None, polarity: str) -> str | None:
    """What the write direction would raise and lower; the promotion is that of a positive activation."""
    if promotion is None:
        return None
    raised, lowered = promotion.promoted, promotion.suppressed
    if polarity == "-":
        raised, lowered = lowered, raised
    parts = []
    if raised:
        parts.append("raise " + ", ".join(show(piece) for piece, _ in raised[:TOKENS_SHOWN]))
    if lowered:
        parts.append("lower " + ", ".join(show(piece) for piece, _ in lowered[:TOKENS_SHOWN]))
    return f"By its weights it would {' and '.join(parts)}." if parts else None


def _side(verb: str, tokens: tuple[TokenChange, ...]) -> str:
    if not tokens:
        return ""
    named = ", ".join(show(token.piece) for token in tokens[:TOKENS_SHOWN])
    more = f" and {len(tokens) - TOKENS_SHOWN} more" if len(tokens) > TOKENS_SHOWN else ""
    sizes = [abs(token.size) for token in tokens if token.size is not None]
    size = f" (by {sum(sizes) / len(sizes):.2g} logits)" if sizes else ""
    return f"{verb} {named}{more}{size}"


def _by(divergence: object) -> str:
    return f" (by {divergence:.2g} nats)" if isinstance(divergence, float) else ""
