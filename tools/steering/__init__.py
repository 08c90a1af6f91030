"""Driving units: what a model does when one is turned up, next to random directions that push as hard.

    from tools.steering import amount_for_kl, dose_response, effects_at, matched_controls

    strength = amount_for_kl(subject, unit, contexts, 0.5)
    found = dose_response(subject, unit, contexts, [strength.amount / 2, strength.amount])
    found.follows()   # whether tokens follow the dose, more than with random directions

    controls = matched_controls(subject, unit, 32, seed=0)
    found = effects_at(subject, unit, contexts, amounts=[2.0, 4.0], controls=controls)
    found.unit        # what became of the next token's logits, [amount, context, ...]
    found.controls    # the same of each control, [control, amount, context, ...]

An amount is added to the unit's activation, with its sign; zero leaves the run as it is.
"""

from __future__ import annotations

from tools.steering.controls import Control, matched_controls, push_site
from tools.steering.dose import Dose, DoseResponse, dose_response
from tools.steering.effects import Effects, Measure, effects_at, logit_change
from tools.steering.score import Points, Sample, SteeringScore, steering_score
from tools.steering.strength import Strength, amount_for_kl, amount_for_norm, stream_norm, strengths_at
from tools.steering.texts import Driven, write

__all__ = [
    "Control",
    "Dose",
    "DoseResponse",
    "Driven",
    "Effects",
    "Measure",
    "Points",
    "Sample",
    "SteeringScore",
    "Strength",
    "amount_for_kl",
    "amount_for_norm",
    "dose_response",
    "effects_at",
    "logit_change",
    "matched_controls",
    "push_site",
    "steering_score",
    "stream_norm",
    "strengths_at",
    "write",
]
