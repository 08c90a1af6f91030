"""What a claim predicts before the seal is opened, and how that came out.

Before sealed text is looked at, a claim says in numbers what will be seen: its scores there, the size of its effect on
the output, and the probability that the unit is active at each of some inputs that were made up. That is written down,
with a digest that goes on record with the opening of the seal. Afterwards it is compared with what came. No verdict
rests on it: predictions say how far a description may be relied on, verdicts whether it holds.
"""

from agent.predictions.expectations import expected_effect, expected_scores
from agent.predictions.filing import filed
from agent.predictions.settling import active_share, settled

__all__ = ["active_share", "expected_effect", "expected_scores", "filed", "settled"]
