"""From a number to a score of the store: what every diagnostic that asks a language model says beside its value."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorers.diagnostics.types import Claim, Setting
from scorers.types import Null, Score, protocol_hash


@dataclass(frozen=True)
class Outcome:
    """A metric's value and what it rests on; value None with a reason where it is undefined."""

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    nulls: Sequence[Null] = ()
    """The one behind the p-value first."""
    n_examples: int = 0
    n_documents: int = 0
    n_active: int = 0
    unparseable: float = 0.0
    reason: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    """What was spent beside the language model: 'subject_tokens', run through the subject."""


@dataclass(frozen=True)
class Protocol:
    """How a diagnostic came by its numbers: with the metric, all that makes two scores comparable."""

    scorer: str
    version: int
    settings: Mapping[str, Any]


def scored(
    outcome: Outcome, claim: Claim, setting: Setting, protocol: Protocol, *, began: float, cost: Mapping[str, float]
) -> Score:
    """The score to be stored.

    Args:
        outcome: The number.
        claim: Whose it is.
        setting: What it was tested on.
        protocol: How; the language model is added to its settings.
        began: When the work started, by `time.perf_counter`.
        cost: Calls and whatever else was spent, beside the time.
    """
    first = outcome.nulls[0] if outcome.nulls else None
    settings = {**protocol.settings, "model": setting.kit.llm.model, "resamples": setting.resamples}
    return Score(
        scorer=protocol.scorer,
        metric=outcome.metric,
        value=outcome.value,
        low=outcome.low,
        high=outcome.high,
        n_examples=outcome.n_examples,
        n_documents=outcome.n_documents,
        n_active=outcome.n_active,
        null_mean=first.mean if first else None,
        p_value=first.p_value if first else None,
        split=str(setting.view.split),
        predictor=f"{protocol.scorer}:{setting.kit.llm.model}",
        protocol_hash=protocol_hash(protocol.scorer, protocol.version, settings, outcome.metric),
        headline=False,
        unparseable=outcome.unparseable,
        reason=outcome.reason,
        nulls=tuple(outcome.nulls),
        cost={"seconds": time.perf_counter() - began, **cost, **outcome.cost},
    )
