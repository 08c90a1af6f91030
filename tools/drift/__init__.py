"""What became of units in another version of a subject: a later checkpoint, a fine-tune, a quantisation.

from tools.drift import compare, delta_activations

found = compare(old, new, units, sequences)     # which unit of the new one does what each of the old ones did
delta_activations(old, new)                     # how far the models are apart as a whole
"""

from tools.drift.compare import Comparison, Match, UnitMatch, check_comparable, compare
from tools.drift.distance import DeltaActivations, delta_activations

__all__ = [
    "Comparison",
    "DeltaActivations",
    "Match",
    "UnitMatch",
    "check_comparable",
    "compare",
    "delta_activations",
]
