"""All that is measured of a unit's effect on the output before anything is claimed: on open text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.effects.measure import (
    FEW_PLACES,
    FOLLOWING,
    Effects,
    Tokens,
    dose_curve,
    measure_effects,
    not_measurable,
)
from tools.effects.places import Off, Places, View, active_places, off_values
from tools.effects.tokens import MOST_TOKENS, consistent_tokens
from tools.interventions import Beginnings
from tools.subject import Subject
from tools.types import FloatArray, UnitId

#: With fewer documents in which a unit is on, nothing can be said of what it does there.
FEWEST_PLACES = 4
#: Strengths of a dose-response curve, as shares of the strongest activation of the tail.
DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Measured:
    """What a unit does where it is on, at places of one split."""

    places: Places
    off: Off
    effects: Effects
    tokens: Tokens
    """Those that change most, in every text alike; see `consistent_tokens`."""
    pieces: tuple[str, ...]
    """Their texts."""
    sizes: FloatArray
    """Their mean changes, in logits, with their signs."""
    doses: FloatArray
    """Activations that were set, from 0 to the strongest of the tail."""
    curve: FloatArray
    """Mean shift of the tokens at each dose, against the first, [place, dose]; no places where there are no tokens."""


def measure_output(
    view: View,
    subject: Subject,
    unit: UnitId,
    *,
    sign: float,
    threshold: float,
    strongest: float,
    least: float,
    seed: int = 0,
    common_seed: int = 0,
    beginnings: Beginnings | None = None,
) -> Measured | str:
    """Measure what one tail of a unit does to the output, on an open split.

    Args:
        view: Of the split.
        subject: The model.
        unit: The unit.
        sign: 1 or -1, the tail.
        threshold: Magnitude above which it is on.
        strongest: Largest magnitude of the tail.
        least: Mean changes of logits below this are none.
        seed: Of the unit.
        common_seed: Of the campaign, so that units share texts.
        beginnings: Where the texts' keys and values are kept for other units.

    Returns:
        What was measured; in words why not, where it was not.
    """
    reason = not_measurable(subject, unit)
    if reason is not None:
        return reason
    places = active_places(
        view, unit, sign, threshold, room=subject.context - FOLLOWING, seed=seed, common_seed=common_seed
    )
    if len(places) < FEWEST_PLACES:
        return f"it is on in only {len(places)} documents of the explore split that leave room behind it"
    beginnings = beginnings or Beginnings(subject)
    off = off_values(view.sample(unit), threshold, seed=seed)
    effects = measure_effects(subject, unit, places, off.at(len(places)), beginnings=beginnings)
    tokens = consistent_tokens(effects.change, least, MOST_TOKENS)
    doses = np.array([sign * strongest * share for share in DOSES], dtype=np.float32)
    curve = np.zeros((0, len(doses)), dtype=np.float32)
    if len(tokens.ids):
        few = places.take(places.shortest(FEW_PLACES))
        curve = dose_curve(subject, unit, few, doses.tolist(), tokens, beginnings=beginnings)
    sizes = effects.change.mean(0)[tokens.ids]
    return Measured(
        places, off, effects, tokens, tuple(subject.pieces(tokens.ids.tolist())), sizes, doses, curve
    )  # fmt: skip
