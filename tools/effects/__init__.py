"""What a unit does to the model's output when it is on, measured on text."""

from tools.effects.measure import (
    CONTROLS,
    FEW_PLACES,
    FOLLOWING,
    Effects,
    RandomEffects,
    Tokens,
    dose_curve,
    measure_effects,
    not_measurable,
    random_effects,
    rank_auc,
)
from tools.effects.measured import DOSES, FEWEST_PLACES, Measured, measure_output
from tools.effects.places import MOST_PLACES, Off, Places, active_places, off_values
from tools.effects.tokens import MOST_TOKENS, consistent_tokens, cross_fitted_shift

__all__ = [
    "CONTROLS",
    "DOSES",
    "FEWEST_PLACES",
    "FEW_PLACES",
    "FOLLOWING",
    "MOST_PLACES",
    "MOST_TOKENS",
    "Effects",
    "Measured",
    "Off",
    "Places",
    "RandomEffects",
    "Tokens",
    "active_places",
    "consistent_tokens",
    "cross_fitted_shift",
    "dose_curve",
    "measure_effects",
    "measure_output",
    "not_measurable",
    "off_values",
    "random_effects",
    "rank_auc",
]
