"""Intruder: of five texts, which is the one in which the unit is not active?

Nothing is said of the unit: the score is the unit's own, and says whether what it fires on can be seen in texts at all
(Paulo & Belrose 2025, arXiv 2507.08473). Active tokens are marked, and the intruder is marked where the active text
whose place it takes is, so that marks alone give nothing away. Its place is drawn anew each time: chance is 1 in 5.

The intruders are random silent texts, and hard ones under a metric of their own. The interval resamples the documents
that the intruders are from; the null draws their places again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Odd
from scorers.bootstrap import intervals
from scorers.diagnostics.judged import Item, draw_items, matched, rng_of
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.metrics import METRICS as SHARES
from scorers.metrics import Comparison
from scorers.types import Null

NAME: Final = "intruder"
VERSION: Final = 1
METRICS: Final = ("intruder_accuracy", "intruder_hard_accuracy")
SHOWN: Final = 5
"""Texts of a trial."""
TRIALS: Final = 10
"""Trials with random intruders, and as many with hard ones."""
_ANSWER_TOKENS: Final = 64


@dataclass(frozen=True)
class _Trial:
    items: tuple[Item, ...]
    place: int
    """Of the intruder, from 0."""


def intruder(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`intruder_accuracy` with random intruders, `intruder_hard_accuracy` with hard ones."""
    prompt = setting.kit.prompts.get(NAME)
    items = draw_items(claim, setting)
    rng = rng_of(claim, setting, NAME)
    trials = [_trials(items.active, silent, rng) for silent in (items.random, items.hard)]
    asked = [
        Request(
            purpose=NAME,
            messages=prompt.render(texts=[item.marked_text for item in trial.items]),
            max_tokens=_ANSWER_TOKENS,
            prompt_digest=prompt.digest,
        )
        for some in trials
        for trial in some
    ]
    answers = iter(setting.kit.llm.ask_all(asked, Odd) if asked else [])
    outcomes = [
        _outcome(metric, some, [next(answers) for _ in some], claim, setting, n_active=len(items.active))
        for metric, some in zip(METRICS, trials, strict=True)
    ]
    return outcomes, {"prompt": prompt.digest, "shown": SHOWN, "trials": TRIALS, **items.settings}


def _trials(active: Sequence[Item], silent: Sequence[Item], rng: np.random.Generator) -> list[_Trial]:
    """Trials, each with another intruder, which has the marks of another active text.

    All texts of a trial are drawn from the pairs, in no order: an active text that no silent one can take the marks of
    must not be shown, or the intruder's marks would differ from the others'.
    """
    pairs = matched(active, silent, rng)
    if len(pairs) < SHOWN:
        return []
    trials = []
    for replaced, intruder in pairs[:TRIALS]:
        others = [item for item, _ in pairs if item is not replaced]
        chosen = [others[i] for i in rng.choice(len(others), SHOWN - 1, replace=False).tolist()]
        place = int(rng.integers(SHOWN))
        trials.append(_Trial((*chosen[:place], intruder, *chosen[place:]), place))
    return trials


def _outcome(
    metric: str,
    trials: Sequence[_Trial],
    answers: Sequence[Odd | LlmError],
    claim: Claim,
    setting: Setting,
    *,
    n_active: int,
) -> Outcome:
    """The share of intruders found."""
    places = np.array([trial.place for trial in trials], dtype=np.int64)
    said = np.array([-1 if isinstance(a, LlmError) else a.text - 1 for a in answers], dtype=np.int64)
    usable = (said >= 0) & (said < SHOWN)
    documents = np.array([trial.items[trial.place].document for trial in trials], dtype=np.int64)
    base: dict[str, Any] = {
        "n_examples": len(trials), "n_documents": len(set(documents.tolist())), "n_active": n_active,
        "unparseable": float((~usable).mean()) if len(trials) else 0.0,
    }  # fmt: skip
    if not len(trials):
        reason = f"fewer than {SHOWN} active texts can be matched with a silent one (there are {n_active} active ones)"
        return Outcome(metric, reason=reason, **base)
    if not usable.any():
        error = next((str(answer) for answer in answers if isinstance(answer, LlmError)), "no text of that number")
        return Outcome(metric, reason=f"no answer could be had: {error}", **base)
    rng = rng_of(claim, setting, f"{metric} statistics")
    found = said == places
    # The share found is the recall of intruders, whose interval knows of errors that few trials do not show.
    ones = np.ones(len(trials))
    rows = Comparison(ones, ones > 0, found.astype(np.float64), found, ones)
    ends = intervals([SHARES.get("recall")], rows, documents, resamples=setting.resamples, rng=rng)["recall"]
    by_chance = rng.integers(SHOWN, size=(setting.resamples, len(trials))) == said
    value = float(found.mean())
    null = Null.of("places", value, by_chance.mean(axis=1))
    return Outcome(metric, value, ends.low, ends.high, [null], **base)


#: Gives its scores.
score_intruder = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, METRICS, work=intruder))
