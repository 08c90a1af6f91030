"""How sure a description is, and of what it speaks, in plain sentences."""

from __future__ import annotations

from agent.bench import Bench
from agent.state import Json
from agent.triage import Tail


def confidence(filed: Json | None, standing: Json) -> str:
    """How sure the description is of itself, before sealed text was looked at.

    Args:
        filed: What it predicts; None where predictions are off.
        standing: Of what is asserted (`agent.disagreement.Standing`).
    """
    parts = []
    if filed is not None:
        f1 = (filed["sealed"] or {}).get("f1")
        if f1 is not None:
            ends = "" if f1["low"] is None or f1["high"] is None else f" [{f1['low']:.2f}, {f1['high']:.2f}]"
            parts.append(f"its F1 on sealed text was expected to be {f1['value']:.2f}{ends}")
        if filed["constructed"] is not None:
            parts.append(
                f"what it says of a made-up input was expected to be right in {_percent(filed['constructed']['right'])}"
            )
    if standing["selection"] < 1:
        parts.append(f"it does best in {_percent(standing['selection'])} of resamples")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def scope(bench: Bench, tail: Tail) -> str:
    """On what texts and positions the description is about, and what it calls active."""
    spec = bench.spec
    room = min(256, bench.subject.context) if spec.context is None else spec.context
    side = "above" if tail.polarity == "+" else "below"
    threshold = tail.threshold if tail.polarity == "+" else -tail.threshold
    return (
        f"Texts of {spec.corpus}, in contexts of up to {room} tokens; the first position of each is left out. Active "
        f"means {side} {threshold:.3g}, which it is at {_percent(tail.density)} of tokens."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
