"""What a unit does to the model's output when it is on, measured on text."""

from tools.effects.measure import (
    CONTROLS,
    FEW_PLACES,
    FOLLOWING,
    Effects,
    RandomEffects,
    Tokens,
    dose_response,
    measure_effects,
    not_measurable,
    random_effects,
    rank_auc,
    write_site,
)
from tools.effects.places import MOST_PLACES, Off, Places, active_places, off_values

__all__ = [
    "CONTROLS",
    "FEW_PLACES",
    "FOLLOWING",
    "MOST_PLACES",
    "Effects",
    "Off",
    "Places",
    "RandomEffects",
    "Tokens",
    "active_places",
    "dose_response",
    "measure_effects",
    "not_measurable",
    "off_values",
    "random_effects",
    "rank_auc",
    "write_site",
]
