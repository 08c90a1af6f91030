"""Output success: can a judge tell the texts written with the unit driven from those of other units driven as hard?

Gur-Arieh et al. (2025, arXiv 2501.08319): at strengths that move the next-token distribution by a quarter and by half a
nat (found for each unit by `tools.steering.amount_for_kl`), the subject continues three beginnings with 25 tokens. A
judge is shown the description of what the unit does and three such sets, of the unit and of two others of its group,
and picks one; chance is 1 in 3. They draw once a unit, which says nothing about one unit; here it is drawn `DRAWS`
times, each with other texts and other units in their place. A dictionary's error stays as it is.

The interval is the exact binomial one; the null draws the set's places anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from scipy import stats

from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import PickedSet
from scorers.diagnostics.judged import rng_of
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.steering import output_of, reason_for_none, written
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.types import Null
from tools.errors import InterventionError
from tools.interventions import Where, add_to_unit
from tools.steering import amount_for_kl
from tools.subject import Subject
from tools.types import UnitId

NAME: Final = "output_success"
VERSION: Final = 1
PROMPT: Final = "steered"
BEGINNINGS: Final = ("The explanation is simple:", "I think", "We")
"""As published."""
TARGETS: Final = (0.25, 0.5)
"""Divergences to which units are driven, in nats; on the negative tail they are turned the other way."""
TOKENS: Final = 25
DRAWS: Final = 12
SETS: Final = 3
_ANSWER_TOKENS: Final = 64


def output_success(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`output_success`. Value None, with a reason, where the unit cannot be driven or has too few others beside it."""
    settings = {
        "prompt": setting.kit.prompts.get(PROMPT).digest, "draws": DRAWS, "targets": TARGETS, "tokens": TOKENS,
    }  # fmt: skip
    reason = reason_for_none(setting.subject, [claim.unit])
    if reason is not None or setting.subject is None:
        return [Outcome(NAME, reason=reason)], settings
    return [_outcome(claim, setting, setting.subject)], settings


def _outcome(claim: Claim, setting: Setting, subject: Subject) -> Outcome:
    rng = rng_of(claim, setting, NAME)
    sign = 1.0 if claim.polarity == "+" else -1.0
    own = _strengths(subject, claim.unit, sign)
    if isinstance(own, str):
        return Outcome(NAME, reason=own)
    others = _drivable(subject, [unit for unit in setting.others if unit != claim.unit], sign, rng)
    if len(others) < SETS - 1:
        return Outcome(NAME, reason=f"only {len(others)} other units of the group can be driven as hard")
    prompt, description = setting.kit.prompts.get(PROMPT), output_of(claim.explanation)
    places = rng.integers(SETS, size=DRAWS)
    requests, spent = [], 0
    for draw, place in enumerate(places.tolist()):
        picked = [others[i] for i in rng.choice(len(others), SETS - 1, replace=False).tolist()]
        drivers = [*picked[:place], (claim.unit, own), *picked[place:]]
        sets = [_texts(subject, unit, amounts, int(rng.integers(2**31))) for unit, amounts in drivers]
        spent += sum(map(len, sets)) * TOKENS
        requests.append(
            Request(
                purpose=PROMPT, messages=prompt.render(sets=sets, description=description),
                max_tokens=_ANSWER_TOKENS, seed=draw, prompt_digest=prompt.digest,
            )
        )  # fmt: skip
    answers = setting.kit.llm.ask_all(requests, PickedSet)
    said = np.array([-1 if isinstance(a, LlmError) else a.set - 1 for a in answers], dtype=np.int64)
    usable = (said >= 0) & (said < SETS)
    base = Outcome(
        NAME, n_examples=DRAWS, n_documents=DRAWS, n_active=DRAWS, unparseable=float((~usable).mean()),
        cost={"subject_tokens": float(spent)},
    )  # fmt: skip
    if not usable.any():
        error = next((str(answer) for answer in answers if isinstance(answer, LlmError)), "no set of that number")
        return Outcome(**{**base.__dict__, "reason": f"no answer could be had: {error}"})
    right = int((said == places).sum())
    ends = stats.binomtest(right, DRAWS).proportion_ci(0.95, method="exact")
    by_chance = rng.integers(SETS, size=(setting.resamples, DRAWS)) == said
    null = Null.of("places", right / DRAWS, by_chance.mean(axis=1))
    found = {"value": right / DRAWS, "low": float(ends.low), "high": float(ends.high), "nulls": [null]}
    return Outcome(**{**base.__dict__, **found})


def _strengths(subject: Subject, unit: UnitId, sign: float) -> list[float] | str:
    """What to add to the unit's activation for each target; in words why it cannot be driven."""
    # The first position is left as it is, so a text of one token would not be driven at all.
    contexts = [ids for text in BEGINNINGS if len(ids := subject.encode(text)) > 1]
    try:
        return [amount_for_kl(subject, unit, contexts, sign * target).amount for target in TARGETS]
    except InterventionError as error:
        return str(error).rstrip(".")


def _drivable(
    subject: Subject, units: Sequence[UnitId], sign: float, rng: np.random.Generator
) -> list[tuple[UnitId, list[float]]]:
    """Other units, as many as are needed for different draws, with their strengths."""
    found: list[tuple[UnitId, list[float]]] = []
    for i in rng.permutation(len(units)).tolist():
        amounts = _strengths(subject, units[i], sign)
        if not isinstance(amounts, str):
            found.append((units[i], amounts))
        if len(found) == 2 * SETS:
            break
    return found


def _texts(subject: Subject, unit: UnitId, amounts: Sequence[float], seed: int) -> list[str]:
    texts = []
    for number, amount in enumerate(amounts):
        edit = add_to_unit(subject, unit, amount, Where(since=1))
        texts += written(subject, BEGINNINGS, [edit], tokens=TOKENS, seed=seed + number)
    return texts


#: Gives its scores.
score_output_success = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, [NAME], work=output_success))
