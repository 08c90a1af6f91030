"""What a unit does to the model's output, as a language model is shown it: tokens that it raises and lowers.

Two lists (Gur-Arieh et al. 2025, arXiv 2501.08319): the vocabulary projection of what the unit writes, read off the
weights, and the token change, measured by setting the unit's activation on texts of the explore split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explainers.output.claim import mean_of
from explainers.prompted.asking import quoted
from explainers.types import Evidence
from tools.effects import Measured
from tools.lenses import Promotion, write_lens
from tools.token_change import token_change

PROJECTED = 25
"""Tokens of each kind shown of the vocabulary projection."""
CHANGED = 12
"""Tokens of each kind shown of the token change."""
_TEXTS, _LENGTH = 16, 32


@dataclass(frozen=True)
class Writes:
    """Tokens that a unit raises and lowers when it is on, strongest first."""

    projected: Promotion | None
    changed: Promotion | None
    measured: tuple[str, ...] = ()
    """Lines on what turning the unit off did on texts: sizes, doses, divergences."""

    def lists(self) -> dict[str, str | tuple[str, ...]]:
        """For templates: `raises` and `lowers`, the tokens of both lists, those of the measured one first; `measured`,
        lines."""
        promotions = [p for p in (self.changed, self.projected) if p is not None]
        return {
            "raises": quoted(_merged([p.promoted for p in promotions])),
            "lowers": quoted(_merged([p.suppressed for p in promotions])),
            "measured": self.measured,
        }


def writes_of(evidence: Evidence, strength: float) -> Writes | None:
    """Both lists for the polarity that is explained; None when the unit's write is known in neither way.

    Args:
        evidence: Of the unit.
        strength: Magnitude to which the activation is set, such as its largest on the explore split. (The source sets
            ±10 for all units, whatever their scale.)
    """
    projected, changed = evidence.promotion, None
    subject, unit = evidence.subject, evidence.unit
    if subject is not None:
        # A head's projection depends on what it attends to, and comes with the evidence.
        projected = write_lens(subject, unit, PROJECTED) or projected
    measured = evidence.output
    if isinstance(measured, Measured):
        changed = _changed(evidence, measured)
    elif subject is not None:
        texts = evidence.explore.texts
        panel = np.asarray(evidence.explore.panel_contexts)
        spread = np.unique(np.linspace(0, len(panel) - 1, min(_TEXTS, len(panel))).round().astype(int))
        contexts = [texts.ids(int(panel[i]))[:_LENGTH].tolist() for i in spread]
        if strength > 0 and any(len(context) > 1 for context in contexts):
            changed = token_change(subject, unit, contexts, evidence.sign * strength, CHANGED)
    if evidence.polarity == "-" and projected is not None:
        projected = Promotion(projected.suppressed, projected.promoted)
    if projected is None and changed is None:
        return None
    return Writes(projected, changed, measured_lines(measured) if isinstance(measured, Measured) else ())


def measured_lines(measured: Measured) -> tuple[str, ...]:
    """What turning a unit off did, as a language model is shown it."""
    effects = measured.effects
    lines = []
    for word, sign in (("raised", 1.0), ("lowered", -1.0)):
        told = [
            f"{quoted([piece])} {size:+.2f}"
            for piece, size in zip(measured.pieces, measured.sizes.tolist(), strict=True)
            if sign * size > 0
        ]
        lines += [f"{word} in all texts alike (logits): {', '.join(told)}"] if told else []
    if not lines:
        lines.append("no token is raised or lowered in all texts alike")
    if len(measured.curve):
        curve = ", ".join(f"{shift:.2f}" for shift in measured.curve.mean(0).tolist())
        lines.append(f"the same at 0, 25, 50, 75 and 100 % of its strongest activation: {curve}")
    later = mean_of(effects.later)
    after = "" if later is None else f", those of the tokens after it by {later:.2g}"
    lines.append(f"the next prediction changes by {float(effects.kl.mean()):.2g} nats{after}")
    return tuple(lines)


def _changed(evidence: Evidence, measured: Measured) -> Promotion | None:
    """The tokens that change most on average, whether in all texts alike or not."""
    if evidence.subject is None:
        pairs = list(zip(measured.pieces, measured.sizes.tolist(), strict=True))
        return Promotion(tuple(p for p in pairs if p[1] > 0), tuple(p for p in pairs if p[1] <= 0))
    mean = measured.effects.change.mean(0)
    order = np.argsort(-mean, kind="stable")
    high, low = order[:CHANGED].tolist(), order[::-1][:CHANGED].tolist()
    pieces = evidence.subject.pieces([*high, *low])
    sizes = mean[[*high, *low]].tolist()
    rows = tuple(zip(pieces, sizes, strict=True))
    return Promotion(rows[: len(high)], rows[len(high) :])


def _merged(lists: list[tuple[tuple[str, float], ...]]) -> list[str]:
    return [piece for one in lists for piece, _ in one]
