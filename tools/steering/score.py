"""The steering score of AxBench (Wu et al. 2025, arXiv 2501.17148), by rule instead of by a judge.

There a judge gives texts that a model wrote under steering 0 to 2 points for the concept and for fluency, and the score
is their harmonic mean, 0 if either is 0. Here

    concept = 2 min(1, lift / 3)     lift: mean over the written tokens of ln p_driven(T) - ln p_plain(T), T the tokens
                                     that the unit is to promote; at least 0
    fluency = 2 max(0, 1 - |ln r| / ln 10)     r: perplexity of the text by the plain model, over that of what the
                                               plain model writes to the same prompt with the same draws

so that twentyfold more probability for T is all of the concept, and a text that is ten times as surprising, or as
predictable (loops are), as the model's own is not fluent at all. There are no instructions here whose following could
be scored, which AxBench does as well.

The strength is chosen on one half of the prompts and scored on the other. Random directions as strong are treated
alike, with the best of the same strengths: the best of several is compared with the best of several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.steering.controls import Control, matched_controls
from tools.steering.effects import effects_at, logit_change
from tools.steering.statistics import p_value, percentile
from tools.steering.strength import Strength, strengths_at
from tools.steering.texts import Driven, Reading, read, write
from tools.subject import Subject
from tools.types import UnitId

#: Nats of lift that are all of the concept, and of perplexity ratio that are none of the fluency.
FULL_LIFT, NO_FLUENCY = 3.0, math.log(10.0)


@dataclass(frozen=True)
class Points:
    """Means over texts, each 0 to 2."""

    concept: float
    fluency: float
    score: float
    """Of each text the harmonic mean of the two, 0 if either is 0."""
    lift: float
    """Nats."""
    surprise: float
    """Log of the perplexity ratio."""


@dataclass(frozen=True)
class Sample:
    """What was written to one prompt."""

    prompt: str
    plain: str
    driven: str
    control: str
    """With the first random direction at the same strength."""


@dataclass(frozen=True)
class SteeringScore:
    """How well a unit steers what is written."""

    unit: str
    tokens: tuple[str, ...]
    strengths: tuple[Strength, ...]
    """Those that were tried."""
    tried: tuple[Points, ...]
    """Their points on the prompts by which the best was chosen."""
    amount: float
    """The best of them."""
    points: Points
    """Its points on the other prompts."""
    prompts: tuple[int, int]
    """How many prompts chose, and how many scored."""
    control_scores: tuple[float, ...]
    """Of random directions, each at the best of its strengths."""
    p_value: float | None
    """Share of the controls (and the unit) that score at least as well; None without controls."""
    percentile: float | None
    samples: tuple[Sample, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def harmonic(concept: float, fluency: float) -> float:
    """Harmonic mean; 0 if either is 0."""
    return 2 * concept * fluency / (concept + fluency) if concept > 0 and fluency > 0 else 0.0


def points_of(lifts: Sequence[float], surprises: Sequence[float]) -> Points:
    """Points from each text's lift and log perplexity ratio; NaN, of texts without a token, is no points."""
    concepts = [0.0 if math.isnan(lift) else 2 * min(1.0, max(0.0, lift / FULL_LIFT)) for lift in lifts]
    fluencies = [0.0 if math.isnan(one) else 2 * max(0.0, 1 - abs(one) / NO_FLUENCY) for one in surprises]
    scores = [harmonic(*pair) for pair in zip(concepts, fluencies, strict=True)]
    known = [(lift, one) for lift, one in zip(lifts, surprises, strict=True) if not math.isnan(lift + one)]
    lift, surprise = (float(np.mean(column)) for column in zip(*known, strict=True)) if known else (0.0, 0.0)
    return Points(float(np.mean(concepts)), float(np.mean(fluencies)), float(np.mean(scores)), lift, surprise)


def steering_score(
    subject: Subject,
    unit: UnitId,
    prompts: Sequence[Sequence[int]],
    amounts: Sequence[float],
    *,
    tokens: Sequence[int] | None = None,
    own: int = 3,
    controls: int = 32,
    max_new_tokens: int = 25,
    temperature: float = 0.0,
    seed: int = 0,
) -> SteeringScore:
    """Score the texts that a unit makes the subject write.

    Args:
        subject: A decoder with a head.
        unit: Any unit that writes; it is driven at all positions but the first.
        prompts: Token ids, two or more; every other one chooses the strength.
        amounts: Strengths to try, all of one sign; see `amount_for_kl`.
        tokens: What it is to promote; None: what it promotes most at the prompts that choose, and so for each control.
        own: How many tokens these are.
        controls: Random directions to compare with.
        max_new_tokens: Length of a continuation.
        temperature: 0 takes the likeliest token each time.
        seed: Of the controls and of sampling.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: There are too few prompts or strengths, the unit does not write, or the logits overflow.
    """
    if len(prompts) < 2:
        raise InterventionError(
            "A steering score takes two prompts or more: some choose the strength, others score it."
        )
    if not amounts or not (min(amounts) > 0 or max(amounts) < 0):
        raise InterventionError("The strengths to try are one or more, all above 0 or all below.")
    halves = [list(map(tuple, prompts[start::2])) for start in (0, 1)]
    drawn = matched_controls(subject, unit, controls, seed)
    strengths = strengths_at(subject, unit, halves[0], amounts)
    if tokens is None:
        pushed = effects_at(subject, unit, halves[0], [max(amounts, key=abs)], drawn, span=None, measure=logit_change)
        change = torch.cat([pushed.unit, pushed.controls[:, 0]]).mean(1)[:, : len(subject.tokenizer)]
        concepts = change.topk(own, dim=-1).indices.cpu()
    else:
        concepts = torch.tensor(list(dict.fromkeys(tokens)))[None].expand(1 + len(drawn), -1)
    whats: list[UnitId | Control] = [unit, *drawn]
    bench = _Bench(subject, whats, concepts, max_new_tokens, temperature, seed)
    # points[what][strength]
    tried = bench.points(halves[0], [strengths for _ in whats])
    best = [int(np.argmax([one.score for one in row])) for row in tried]
    scored = [row[0] for row in bench.points(halves[1], [[strengths[i]] for i in best])]
    null = np.array([one.score for one in scored[1:]])
    return SteeringScore(
        unit=str(unit),
        tokens=tuple(subject.pieces(concepts[0].tolist())),
        strengths=tuple(strengths),
        tried=tuple(tried[0]),
        amount=strengths[best[0]].amount,
        points=scored[0],
        prompts=(len(halves[0]), len(halves[1])),
        control_scores=tuple(null.tolist()),
        p_value=p_value(scored[0].score, null) if len(null) else None,
        percentile=percentile(scored[0].score, null) if len(null) else None,
        samples=bench.samples(halves[1], strengths[best[0]]),
    )


@dataclass(frozen=True)
class _Bench:
    """What is written and read for one score."""

    subject: Subject
    whats: Sequence[UnitId | Control]
    concepts: Tensor
    """[what, token]."""
    max_new_tokens: int
    temperature: float
    seed: int

    def rows(
        self, prompts: Sequence[tuple[int, ...]], what: UnitId | Control | None, strength: Strength | None
    ) -> list[Driven]:
        """One text for each prompt; the same draws whatever is driven."""
        if isinstance(what, Control) and strength is not None:
            push = math.copysign(strength.length, strength.amount)
        else:
            push = 0.0 if strength is None else strength.amount
        return [Driven(prompt, what, push, self.seed * 1_000_003 + i) for i, prompt in enumerate(prompts)]

    def read(self, rows: Sequence[Driven], concepts: Sequence[Tensor]) -> list[Reading]:
        """Texts, written and read."""
        written = write(
            self.subject, rows, max_new_tokens=self.max_new_tokens, temperature=self.temperature
        )  # fmt: skip
        return read(self.subject, rows, written, concepts)

    def points(self, prompts: Sequence[tuple[int, ...]], strengths: Sequence[Sequence[Strength]]) -> list[list[Points]]:
        """For each drive and each of its strengths."""
        rows, concepts = self.rows(prompts, None, None), [self.concepts[0]] * len(prompts)
        for what, own, concept in zip(self.whats, strengths, self.concepts, strict=True):
            for strength in own:
                rows += self.rows(prompts, what, strength)
                concepts += [concept] * len(prompts)
        found = self.read(rows, concepts)
        n = len(prompts)
        usual = [_surprise(one) for one in found[:n]]
        pieces = iter([found[start : start + n] for start in range(n, len(found), n)])
        return [
            [
                points_of(
                    [_lift(one) for one in texts], [_surprise(one) - u for one, u in zip(texts, usual, strict=True)]
                )
                for texts in (next(pieces) for _ in own)
            ]
            for own in strengths
        ]

    def samples(self, prompts: Sequence[tuple[int, ...]], strength: Strength) -> tuple[Sample, ...]:
        """Texts to show, plain, driven, and driven by the first control."""
        whats = [None, self.whats[0], self.whats[1] if len(self.whats) > 1 else None]
        rows = [row for what in whats for row in self.rows(prompts, what, strength if what is not None else None)]
        texts = [one.text for one in write(self.subject, rows, max_new_tokens=self.max_new_tokens,
                                           temperature=self.temperature)]  # fmt: skip
        n = len(prompts)
        return tuple(
            Sample("".join(self.subject.pieces(prompt)), texts[i], texts[n + i], texts[2 * n + i])
            for i, prompt in enumerate(prompts)
        )


def _lift(one: Reading) -> float:
    return float((one.driven_mass - one.plain_mass).mean()) if len(one.plain) else math.nan


def _surprise(one: Reading) -> float:
    """Mean negative log-probability of a text's tokens: the log of its perplexity."""
    return float(-one.plain.mean()) if len(one.plain) else math.nan
