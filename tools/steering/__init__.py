"""Driving units: what a model does when one is turned up, next to random directions that push as hard.

    from tools.steering import effects_at, matched_controls

    controls = matched_controls(subject, unit, 32, seed=0)
    found = effects_at(subject, unit, contexts, amounts=[2.0, 4.0], controls=controls)
    found.unit        # what became of the next token's logits, [amount, context, ...]
    found.controls    # the same of each control, [control, amount, context, ...]

An amount is added to the unit's activation, with its sign; zero leaves the run as it is.
"""

from __future__ import annotations

from tools.steering.controls import Control, matched_controls, write_site
from tools.steering.effects import Effects, Measure, effects_at, logit_change

__all__ = ["Control", "Effects", "Measure", "effects_at", "logit_change", "matched_controls", "write_site"]
