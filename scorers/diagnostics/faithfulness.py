"""Faithfulness: does driving the unit make the subject write more of what the description names?

As in FADE (arXiv 2502.16994): beginnings out of the corpus are continued with the unit set to multiples of its largest
activation, and with it set to zero; a language model rates the continuations 0, 1 or 2, and p_m is the share rated 2.
Published is the largest (p_m - p_0) / (1 - p_0) over six multiples, negative ones set to 0. That is above 0 by chance:
at a base rate of 30 % its mean over units without effect is 0.12. So the multiple is chosen on one half of the
beginnings and the value is that of the other half, with its sign. Beside it stand the gains over the run without any
edit: what the unit adds to what it does anyway.

A continuation without a rating counts as not rated 2. The interval resamples documents; the null shuffles, beginning by
beginning, which continuation is the driven one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Rated
from scorers.bootstrap import TAIL, mean_resamples
from scorers.diagnostics.judged import rng_of
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.steering import output_of, reason_for_none, written
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.types import DoubleArray, Null
from tools.errors import InterventionError
from tools.interventions import Where, set_unit
from tools.subject import Subject
from tools.types import IntArray

NAME: Final = "faithfulness"
VERSION: Final = 1
METRICS: Final = (NAME, f"{NAME}_over_unmodified")
PROMPT: Final = "rate"
MULTIPLES: Final = (1.0, 3.0, 10.0, -1.0, -10.0)
"""Of the largest activation of the described tail."""
BEGINNINGS: Final = 24
"""Half of them for the choice."""
_BEGINNING_TOKENS, _TOKENS = 12, 30
_PER_REQUEST, _ANSWER_TOKENS = 16, 600


def faithfulness(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`faithfulness` and `faithfulness_over_unmodified`, from the same ratings."""
    settings = {
        "prompt": setting.kit.prompts.get(PROMPT).digest, "multiples": MULTIPLES, "beginnings": BEGINNINGS,
        "tokens": _TOKENS,
    }  # fmt: skip
    reason = reason_for_none(setting.subject, [claim.unit])
    if reason is not None or setting.subject is None:
        return [Outcome(metric, reason=reason) for metric in METRICS], settings
    return _outcomes(claim, setting, setting.subject), settings


def _outcomes(claim: Claim, setting: Setting, subject: Subject) -> list[Outcome]:
    rng = rng_of(claim, setting, NAME)
    prompts, documents = _beginnings(setting, rng)
    if len(prompts) < 8:
        return [
            Outcome(metric, reason=f"only {len(prompts)} documents have a beginning long enough") for metric in METRICS
        ]
    values = setting.view.sample(claim.unit).values
    sign = 1.0 if claim.polarity == "+" else -1.0
    strongest = float((sign * values).max(initial=0.0)) or claim.threshold
    seed = int(rng.integers(2**31))
    texts: dict[str, list[str]] = {"unmodified": written(subject, prompts, [], tokens=_TOKENS, seed=seed)}
    for name, level in {"ablated": 0.0, **{f"{m:g}": sign * m * strongest for m in MULTIPLES}}.items():
        edit = set_unit(subject, claim.unit, level, Where(since=1))
        try:
            texts[name] = written(subject, prompts, [edit], tokens=_TOKENS, seed=seed)
        except InterventionError:
            continue  # so strong that its logits overflow
    ratings, missing, problem = _rated(claim, setting, texts)
    half = len(prompts) // 2
    base: dict[str, Any] = {
        "n_examples": half, "n_documents": len(set(documents[1::2].tolist())), "n_active": half, "unparseable": missing,
        "cost": {"subject_tokens": float(sum(map(len, texts.values())) * _TOKENS)},
    }  # fmt: skip
    if missing == 1:
        return [Outcome(metric, reason=f"no rating could be had: {problem}", **base) for metric in METRICS]
    driven = [name for name in texts if name not in ("unmodified", "ablated")]
    first, second = slice(0, None, 2), slice(1, None, 2)
    gains = {name: float((ratings[name][first] - ratings["ablated"][first]).mean()) for name in driven}
    best = max(driven, key=lambda name: gains[name])
    return [
        _outcome(
            metric, (ratings[best][second], ratings[against][second]), documents[second], setting, rng=rng, base=base
        )
        for metric, against in zip(METRICS, ("ablated", "unmodified"), strict=True)
    ]


def _outcome(
    metric: str,
    pair: tuple[DoubleArray, DoubleArray],
    documents: IntArray,
    setting: Setting,
    *,
    rng: np.random.Generator,
    base: Mapping[str, Any],
) -> Outcome:
    """The gain of the driven run over another, in shares of what there is to gain."""
    driven, plain = pair
    room = 1 - float(plain.mean())
    if not room:
        return Outcome(metric, reason="all continuations hold it without the unit being driven", **base)
    difference = driven - plain
    value = float(difference.mean()) / room
    draws = mean_resamples(difference, documents, resamples=setting.resamples, rng=rng) / room
    low, high = (float(end) for end in np.quantile(draws, [TAIL, 1 - TAIL]))
    turned = rng.choice([-1.0, 1.0], size=(setting.resamples, len(difference)))
    null = Null.of("signs", value, (turned * difference).mean(axis=1) / room)
    return Outcome(metric, value, min(low, value), max(high, value), [null], **base)


def _beginnings(setting: Setting, rng: np.random.Generator) -> tuple[list[list[int]], IntArray]:
    """First tokens of texts of the split, each of another document."""
    view = setting.view
    contexts, _ = view.panel_index
    found: dict[int, list[int]] = {}
    for context in rng.permutation(np.unique(contexts)).tolist():
        ids = view.texts.ids(context)
        if len(ids) >= _BEGINNING_TOKENS:
            found.setdefault(view.texts.document(context), ids[:_BEGINNING_TOKENS].tolist())
        if len(found) == BEGINNINGS:
            break
    return list(found.values()), np.array(list(found), dtype=np.int64)


def _rated(
    claim: Claim, setting: Setting, texts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, DoubleArray], float, str | None]:
    """Of each run whether each continuation is rated 2, the share without a rating, and why the first has none."""
    prompt, description = setting.kit.prompts.get(PROMPT), output_of(claim.explanation)
    flat = [text for some in texts.values() for text in some]
    parts = [flat[i : i + _PER_REQUEST] for i in range(0, len(flat), _PER_REQUEST)]
    requests = [
        Request(purpose=PROMPT, messages=prompt.render(texts=part, description=description),
                max_tokens=_ANSWER_TOKENS, prompt_digest=prompt.digest)
        for part in parts
    ]  # fmt: skip
    two: list[float] = []
    missing, problem = 0, None
    for part, answer in zip(parts, setting.kit.llm.ask_all(requests, Rated), strict=True):
        given: dict[int, set[int]] = {}
        if isinstance(answer, LlmError):
            problem = problem or str(answer)
        else:
            for rating in answer.ratings:
                given.setdefault(rating.text, set()).add(rating.rating)
        for number in range(1, len(part) + 1):
            said = given.get(number, set())
            missing += len(said) != 1
            two.append(float(said == {2}))
    values = iter(two)
    rows = {name: np.array([next(values) for _ in some]) for name, some in texts.items()}
    return rows, missing / max(1, len(flat)), problem or ("the model left texts out" if missing else None)


#: Gives its scores.
score_faithfulness = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, METRICS, work=faithfulness))
