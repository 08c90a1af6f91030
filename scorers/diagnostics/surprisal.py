"""Surprisal: does the description make the texts in which the unit is active less surprising than silent ones?

After Paulo et al. 2024 (arXiv 2410.13928). With L(x | d) the mean cross-entropy of the tokens of a text x after a
description d, texts are ranked by L(x | neutral) - L(x | description), in nats a token, and the score is the AUROC of
active against silent texts. The neutral description is fixed and says nothing of any unit, so that what makes a text
surprising by itself cancels.

It needs the log-probabilities of a prompt's own tokens (`prompt_logprobs`), which vLLM gives and most others do not.
Without them there is no score, and the reason is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from explainers.llm.prompts import Prompt
from explainers.llm.types import LlmError, TokenLogprobs
from scorers.diagnostics.judged import Items, draw_items
from scorers.diagnostics.kinds import ranked_metrics, ranked_outcomes
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import description_of
from scorers.types import DoubleArray

NAME: Final = "surprisal"
VERSION: Final = 1
NEUTRAL: Final = "Ordinary text, of any kind and on any subject."
"""The description that says nothing."""
UNABLE: Final = "the endpoint gives no log-probabilities of a prompt's tokens (prompt_logprobs)"


def surprisal(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`surprisal_auroc` against random texts, `surprisal_hard_auroc` against hard ones."""
    prompt = setting.kit.prompts.get(NAME)
    settings = {"prompt": prompt.digest, "neutral": NEUTRAL}
    if not setting.kit.llm.abilities.prompt_logprobs:
        return [Outcome(metric, reason=UNABLE) for metric in ranked_metrics(NAME)], settings
    items = draw_items(claim, setting)
    gains, problem = _gains(setting, prompt, description_of(claim.explanation), items)
    outcomes = ranked_outcomes(NAME, items, gains, claim, setting, problem=problem)
    return outcomes, {**settings, **items.settings}


def _gains(setting: Setting, prompt: Prompt, description: str, items: Items) -> tuple[DoubleArray, str | None]:
    """[n_texts] how much less surprising each text is after the description than after the neutral one, in nats a
    token; NaN where it could not be read, with the reason of the first."""
    texts = [item.text for item in items.all]
    before = {what: _before(prompt, what) for what in (NEUTRAL, description)}
    # The neutral beginning comes first: its tokens say how many of each prompt's last tokens are the text's.
    asked = [
        before[NEUTRAL],
        *(before[NEUTRAL] + text for text in texts),
        *(before[description] + text for text in texts),
    ]
    read = setting.kit.llm.read(NAME, asked, top=1)
    problem = next((str(one) for one in read if isinstance(one, LlmError)), None)
    beginning, neutral, described = read[0], read[1 : 1 + len(texts)], read[1 + len(texts) :]
    gains = np.full(len(texts), np.nan)
    if isinstance(beginning, LlmError):
        return gains, problem
    for number, (without, with_it) in enumerate(zip(neutral, described, strict=True)):
        if not isinstance(without, LlmError) and not isinstance(with_it, LlmError):
            own = len(without) - len(beginning)
            gains[number] = _loss(without, own) - _loss(with_it, own)
    return gains, problem


def _before(prompt: Prompt, description: str) -> str:
    """What stands before a text. It ends in a line end, which no tokenizer joins with the text that follows."""
    system, user = prompt.render(description=description)
    return f"{system.content}\n\n{user.content}\n"


def _loss(tokens: Sequence[TokenLogprobs], own: int) -> float:
    """Mean cross-entropy of the last `own` tokens, in nats; NaN where one of them has no log-probability."""
    last = [token.logprob for token in tokens[len(tokens) - own :]] if 0 < own <= len(tokens) else []
    if not last or any(value is None for value in last):
        return float("nan")
    return -float(np.mean([value for value in last if value is not None]))


#: Gives its scores.
score_surprisal = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, ranked_metrics(NAME), work=surprisal))
