"""Detection: from the description alone, in which texts is the unit active?

After Paulo et al. 2024 (arXiv 2410.13928), with four differences. The texts are of a sealed split that no explainer has
seen. Near negatives stand beside random ones, under metrics of their own. The judge says how sure it is, which gives a
ranking as well. And an answer that could not be had is wrong, not left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from scorers.diagnostics.judged import PER_REQUEST, dealt, draw_items, judge, rng_of
from scorers.diagnostics.kinds import judged_metrics, judged_outcomes
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import description_of

NAME: Final = "detection"
VERSION: Final = 1


def detection(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`detection_balanced_accuracy`, `_f1` and `_auroc` against random texts, `detection_hard_…` against hard ones."""
    prompt = setting.kit.prompts.get(NAME)
    items = draw_items(claim, setting)
    requests = dealt(items.all, rng_of(claim, setting, NAME))
    verdicts = judge(setting, prompt, requests, marked=False, description=description_of(claim.explanation))
    random, hard = (*items.active, *items.random), (*items.active, *items.hard)
    outcomes = judged_outcomes(NAME, verdicts, claim, setting, random=random, hard=hard)
    return outcomes, {"prompt": prompt.digest, "a request": PER_REQUEST, **items.settings}


#: Gives its scores.
score_detection = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, judged_metrics(NAME), work=detection))
