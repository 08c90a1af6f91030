"""Responsiveness and purity: do the unit's activations single out the natural text that the description is about?

As in FADE (arXiv 2502.16994): a language model rates sealed windows of the corpus by how clearly they hold what the
description names, 0, 1 or 2; those rated 1 are left out. Responsiveness is 2 * AUROC - 1 of the windows' largest signed
activations between those rated 2 and those rated 0, with its sign; purity is the average precision of finding those
rated 2 by activation. FADE draws a tenth of its samples from the top and counts them like the rest; here every window
counts by its weight, so that both are at the corpus's prevalence. For purity that is decisive: by chance it is the
share of the corpus that is rated 2.

Average precision over a hundred windows is a little too high where it is low: for ratings at random, by 0.035 at a
prevalence of 10 %, and its interval then covers the truth in 91 % of draws instead of 95 %. Elsewhere both are right.

A window without a rating, or with several that differ, counts as wrong: as rated 2 where the unit is silent, as rated 0
where it is active. The interval resamples documents; the null gives windows the ratings
of other windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from explainers.llm.show import show
from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Rated
from explainers.prompted.negatives import by_likeness
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.ranks import rank
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import description_of
from scorers.simulation import generator, held_out
from scorers.types import DoubleArray
from scorers.windows import Draw, draw_windows
from tools.types import IntArray

NAME: Final = "rated"
VERSION: Final = 1
PROMPT: Final = "rate"
RESPONSIVENESS: Final = "responsiveness"
PURITY: Final = "purity"
PER_REQUEST: Final = 16
"""Windows in one request. The common ones come first, so that units share those requests but for the description."""
_ANSWER_TOKENS: Final = 600
_UNKNOWN: Final = -1


def rated(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`responsiveness` and `purity`, from the same ratings.

    Value None, with a reason, where no rating could be had, where no window is rated 2 or none is rated 0, or where the
    activation does not vary.
    """
    held = held_out(setting.view, claim.unit, claim.polarity, claim.threshold)
    draw = draw_windows(
        setting.view, held, others=setting.others, rank=by_likeness(setting.kit.likeness), seed=setting.seed,
        common_seed=setting.common_seed,
    )  # fmt: skip
    ratings, problem = rate(claim, setting, draw)
    peaks = np.array([window.peak for window in draw.windows])
    active = np.array([window.active for window in draw.windows], dtype=np.bool_)
    weights = np.array([window.weight for window in draw.windows])
    documents = np.array([window.document for window in draw.windows], dtype=np.int64)
    missing = ratings == _UNKNOWN
    wrong = np.where(active, 0, 2)
    filled = np.where(missing, wrong, ratings)
    kept = filled != 1
    prompt = setting.kit.prompts.get(PROMPT)
    settings = {
        "prompt": prompt.digest, "likeness": setting.kit.likeness.name, "per request": PER_REQUEST, **draw.settings,
    }  # fmt: skip
    outcomes = []
    for metric in (RESPONSIVENESS, PURITY):
        outcome = Outcome(
            metric, n_examples=len(ratings), n_documents=len(np.unique(documents)), n_active=int(active.sum()),
            unparseable=float(missing.mean()), reason=_reason(peaks, ratings, filled, problem),
        )  # fmt: skip
        if outcome.reason is None:
            found = rank(
                peaks[kept], filled[kept] == 2, documents[kept], weights[kept], threshold=claim.threshold,
                signed=metric == RESPONSIVENESS, resamples=setting.resamples,
                rng=generator(setting.seed, claim.unit, claim.polarity),
            )  # fmt: skip
            nulls = [found.null] if found.null else []
            outcome = replace(
                outcome, value=found.value, low=found.low, high=found.high, nulls=nulls, reason=found.reason
            )
        outcomes.append(outcome)
    return outcomes, settings


def rate(claim: Claim, setting: Setting, draw: Draw) -> tuple[IntArray, str | None]:
    """The rating of each window of a draw, -1 where there is none; and why the first of them is missing."""
    prompt, description = setting.kit.prompts.get(PROMPT), description_of(claim.explanation)
    texts = [show(window.pieces(setting.view)).text for window in draw.windows]
    starts = range(0, len(texts), PER_REQUEST)
    requests = [
        Request(
            purpose=prompt.name,
            messages=prompt.render(texts=texts[start : start + PER_REQUEST], description=description),
            max_tokens=_ANSWER_TOKENS,
            prompt_digest=prompt.digest,
        )
        for start in starts
    ]
    ratings = np.full(len(texts), _UNKNOWN, dtype=np.int64)
    problem = None
    for start, answer in zip(starts, setting.kit.llm.ask_all(requests, Rated), strict=True):
        if isinstance(answer, LlmError):
            problem = problem or str(answer)
            continue
        given: dict[int, set[int]] = {}
        for rating in answer.ratings:
            given.setdefault(rating.text, set()).add(rating.rating)
        for number in range(len(texts[start : start + PER_REQUEST])):
            said = given.get(number + 1, set())
            if len(said) == 1:
                ratings[start + number] = said.pop()
            else:
                problem = problem or "the model left windows out, or gave them several ratings"
    return ratings, problem


def _reason(peaks: DoubleArray, ratings: IntArray, filled: IntArray, problem: str | None) -> str | None:
    if (ratings == _UNKNOWN).all():
        return f"no rating could be had: {problem}" if len(ratings) else "the split has no windows"
    for label in (2, 0):
        if not (ratings == label).any() or not (filled == label).any():
            return f"no window was rated {label}"
    if np.ptp(peaks) == 0:
        return "the activation is the same in every window"
    return None


#: Gives its scores.
score_rated = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, [RESPONSIVENESS, PURITY], work=rated))
