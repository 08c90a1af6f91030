"""What a unit does to the model's output, as a language model is shown it: tokens that it raises and lowers.

Two lists (Gur-Arieh et al. 2025, arXiv 2501.08319): the vocabulary projection of what the unit writes, read off the
weights, and the token change, measured by setting the unit's activation on texts of the explore split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explainers.prompted.asking import quoted
from explainers.types import Evidence
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

    def lists(self) -> dict[str, str]:
        """For templates: `raises` and `lowers`, the tokens of both lists, those of the measured one first."""
        promotions = [p for p in (self.changed, self.projected) if p is not None]
        return {
            "raises": quoted(_merged([p.promoted for p in promotions])),
            "lowers": quoted(_merged([p.suppressed for p in promotions])),
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
        texts = evidence.explore.texts
        panel = np.asarray(evidence.explore.panel_contexts)
        spread = np.unique(np.linspace(0, len(panel) - 1, min(_TEXTS, len(panel))).round().astype(int))
        contexts = [texts.ids(int(panel[i]))[:_LENGTH].tolist() for i in spread]
        if strength > 0 and any(len(context) > 1 for context in contexts):
            changed = token_change(subject, unit, contexts, evidence.sign * strength, CHANGED)
    if evidence.polarity == "-" and projected is not None:
        projected = Promotion(projected.suppressed, projected.promoted)
    return None if projected is None and changed is None else Writes(projected, changed)


def _merged(lists: list[tuple[tuple[str, float], ...]]) -> list[str]:
    return [piece for one in lists for piece, _ in one]
