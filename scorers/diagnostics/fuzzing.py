"""Fuzzing: are the marked tokens the ones that the description speaks of?

After Paulo et al. 2024 (arXiv 2410.13928): in active texts the active tokens are marked, in silent ones others. There
the silent texts are marked at positions that differ from those of active ones, so that a judge can tell them apart
without reading them. Here every silent text has the marks of an active one, at the same positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from scorers.diagnostics.judged import PER_REQUEST, Item, dealt, draw_items, judge, matched, rng_of
from scorers.diagnostics.kinds import judged_metrics, judged_outcomes
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import description_of

NAME: Final = "fuzzing"
VERSION: Final = 1


def fuzzing(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`fuzzing_balanced_accuracy`, `_f1` and `_auroc` against random texts, `fuzzing_hard_…` against hard ones.

    An active text is in a score only with the silent one that has its marks.
    """
    prompt = setting.kit.prompts.get(NAME)
    items = draw_items(claim, setting)
    rng = rng_of(claim, setting, NAME)
    random, hard = (
        [item for pair in matched(items.active, silent, rng) for item in pair] for silent in (items.random, items.hard)
    )
    shown: dict[int, Item] = {id(item): item for item in (*random, *hard)}
    requests = dealt(list(shown.values()), rng)
    verdicts = judge(setting, prompt, requests, marked=True, description=description_of(claim.explanation))
    outcomes = judged_outcomes(NAME, verdicts, claim, setting, random=random, hard=hard)
    return outcomes, {"prompt": prompt.digest, "a request": PER_REQUEST, **items.settings}


#: Gives its scores.
score_fuzzing = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, judged_metrics(NAME), work=fuzzing))
