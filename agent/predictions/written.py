"""Inputs that a language model makes up for a description in words, with what it expects of each.

It is shown the description and nothing else: no text of the corpus, and no activation but for how often the unit is
active. One request for each claim, bounded in its answer. What it writes is filed with its percentages before any of it
is run. Four kinds:

    fires       texts at whose last token the unit should be active
    near miss   the same but for the one thing that matters
    border      where the description leaves it open
    unrelated   ordinary text of other things
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from agent.predictions.probes import Probe, Stock
from agent.quoting import UnusableError, quoted_position, spelled
from explainers.llm.kit import LlmKit
from explainers.llm.show import defused
from explainers.llm.types import AnswerError, CallError, Request
from explainers.prompted.predictors import stated
from explainers.types import Explanation
from tools.subject import Subject

PROMPT = "predict-inputs"
#: Inputs of each kind, tokens of an input, and tokens of the whole answer: twelve inputs take some 600.
EACH, TOKENS, MAX_TOKENS = 3, 48, 1200
#: No percentage is taken to be surer than this: words leave something open.
SUREST = 0.99


class InputWritten(BaseModel):
    """A text, the token at which the unit is read, and what is expected there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fires", "near miss", "border", "unrelated"]
    text: str = Field(min_length=1, max_length=400, description="a short text, as the model will read it")
    at: str = Field(min_length=1, max_length=100, description="the token to read, exactly as it stands in the text")
    percent: int = Field(ge=0, le=100, description="how likely the unit is active there")


class InputsWritten(BaseModel):
    """Texts with what is expected of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: list[InputWritten] = Field(min_length=1, max_length=32)


@dataclass(frozen=True)
class Written:
    """What came of asking."""

    probes: tuple[Probe, ...]
    """Each cut after the token that is read."""
    probabilities: tuple[float, ...]
    prompt: str
    """Digest of the prompt."""
    refused: tuple[str, ...]
    """What was wrong with others."""


def written_inputs(
    kit: LlmKit, subject: Subject, explanation: Explanation, stock: Stock, density: float
) -> Written | str:
    """Made-up inputs for a description in words; why there are none, where the model wrote none that can be run.

    Args:
        kit: The language model.
        subject: Whose tokens the inputs are made of.
        explanation: The description.
        stock: Of open texts, which hold none of the inputs.
        density: Share of tokens at which the unit is active.

    Raises:
        EndpointError, SpentError, NotRecordedError: No answer can be had at all.
    """
    prompt = kit.prompts.get(PROMPT)
    messages = prompt.render(description=defused(stated(explanation)), often=max(1, round(1 / density)), each=EACH)
    try:
        answer = kit.llm.ask(Request("foretell", messages, MAX_TOKENS, prompt_digest=prompt.digest), InputsWritten)
    except (AnswerError, CallError) as error:
        return f"the language model wrote none: {error}"
    probes: dict[tuple[int, ...], tuple[str, float]] = {}
    refused = []
    for one in answer.inputs[: 4 * EACH]:
        try:
            ids = _ids(subject, one, stock)
        except UnusableError as problem:
            refused.append(str(problem))
            continue
        probes.setdefault(ids, (one.kind, float(np.clip(one.percent / 100, 1 - SUREST, SUREST))))
    if not probes:
        return f"none of the {len(refused)} that the language model wrote can be run: {refused[0]}"
    return Written(
        tuple(Probe(kind, ids) for ids, (kind, _) in probes.items()),
        tuple(probability for _, probability in probes.values()),
        prompt.digest, tuple(refused),
    )  # fmt: skip


def _ids(subject: Subject, one: InputWritten, stock: Stock) -> tuple[int, ...]:
    text = spelled(one.text)
    position = quoted_position(subject, text, spelled(one.at), TOKENS)
    ids: Sequence[int] = subject.encode(text)[: position + 1]
    if stock.holds(ids[len(subject.prefix) :]):
        raise UnusableError(f"the corpus has “{text[:60]}”")
    return tuple(ids)
