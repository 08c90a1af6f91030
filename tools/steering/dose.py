"""Dose and response: how the logits of some tokens follow the strength of a unit, and whether a random vector does as
much.

A dose-response curve is read in two ways. Whether it is monotone is Page's test over the texts. But any vector bends
the logits monotonely while it is short; that the unit moves *these* tokens is shown by its slope among those of random
directions, which are run at the same lengths, at the same positions and in the same batches.

Where no tokens are named, those that the unit moves most are found on every other text and measured on the rest. The
controls are treated alike, so that choosing the best of a vocabulary flatters nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.interventions import Where, add_to_unit, run
from tools.steering.controls import Control, matched_controls
from tools.steering.effects import Measure, effects_at, logit_change
from tools.steering.statistics import Floats, p_value, percentile, slope, trend
from tools.steering.strength import driven_divergence, stream_norm
from tools.subject import Subject
from tools.types import UnitId
from tools.units import length_batches

Contexts: TypeAlias = Sequence[Sequence[int]]

#: Tokens that are followed where none are named. Few, for a unit may promote no more, and a mean over others hides it.
OWN = 3
#: Fewer controls than this leave a p-value of 1 / (n + 1) that no claim can rest on.
CONTROLS = 32
_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Dose:
    """One strength and what it did, as means over the texts."""

    amount: float
    """Added to the unit's activation."""
    stream: float
    """How far its write moved, in units of the residual stream's norm there."""
    logit: float
    """Change of the tokens' mean logit, relative to the mean over the vocabulary."""
    logprob: float
    """Change of the tokens' mean log-probability, nats."""
    kl: float
    """KL divergence from the plain next-token distribution, nats."""
    loss: float | None
    """Change of the loss on the texts, nats a token, with the unit driven at all positions but the first."""
    control: float | None
    """The controls' mean `logit`; of tokens that were chosen, each control's own ones."""
    control_low: float | None
    """The 5th and the 95th percentile over the controls."""
    control_high: float | None


@dataclass(frozen=True)
class DoseResponse:
    """What driving a unit does to some tokens, dose by dose."""

    unit: str
    tokens: tuple[str, ...]
    chosen: Literal["given", "own"]
    """Whether the tokens were named, or are those that the unit moved most on other texts."""
    sign: int
    """+1 where the tokens are promoted with the dose (or expected to be), -1 where they are suppressed."""
    doses: tuple[Dose, ...]
    """By amount, ascending; no strength is among them."""
    contexts: int
    """Texts on which the responses were measured."""
    slope: float
    """Change of the tokens' logit for each unit of activation (least squares)."""
    effect: float
    """The logit at the highest amount less that at the lowest."""
    trend: float
    """Mean rank correlation of dose and response, -1 to 1."""
    trend_p: float
    """Page's test that the response follows the dose in the direction of `sign`; two-sided where that was taken from
    the same texts."""
    controls: int
    control_slopes: tuple[float, ...]
    p_value: float | None
    """Share of the controls (and the unit) whose slope is at least as large; None without controls. One-sided in the
    direction of `sign`, two-sided for tokens that were named without one."""
    percentile: float | None
    """Per cent of the controls whose slope is smaller."""

    def follows(self, alpha: float = 0.05) -> bool:
        """Whether the tokens follow the dose: monotonely, and more than with random directions."""
        return self.p_value is not None and self.p_value <= alpha and self.trend_p <= alpha

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "follows": self.follows()}


def dose_response(
    subject: Subject,
    unit: UnitId,
    contexts: Contexts,
    amounts: Sequence[float],
    *,
    tokens: Sequence[int] | None = None,
    sign: int | None = None,
    controls: int = CONTROLS,
    span: int | None = 1,
    loss: bool = False,
    own: int = OWN,
    seed: int = 0,
) -> DoseResponse:
    """Drive a unit at several strengths and follow some tokens.

    Args:
        subject: A decoder with a head.
        unit: Any unit that writes.
        contexts: Token ids; responses are read at the last position. At least two where no tokens are named.
        amounts: What is added to the activation; no strength, 0, is added to them.
        tokens: The tokens to follow; None: those that the unit moves most.
        sign: Whether the tokens are expected to be promoted (+1) or suppressed (-1); None: that is not known.
        controls: Random directions to compare with; see `matched_controls`.
        span: At how many of the last positions it is driven; None: at all but the first.
        loss: Also measure the loss on the texts.
        own: How many tokens are followed where none are named.
        seed: Of the controls and of the test's orders.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: The unit does not write, there are too few texts or amounts, or the logits overflow.
    """
    doses = sorted({float(amount) for amount in amounts} | {0.0})
    if len(doses) < 2:
        raise InterventionError("A dose-response curve needs a strength other than 0.")
    if tokens is not None and (not tokens or not 0 <= min(tokens) <= max(tokens) < subject.vocabulary):
        raise InterventionError(f"The tokens to follow are none of the vocabulary of {subject.vocabulary}.")
    drawn = matched_controls(subject, unit, controls, seed)
    drive, driven = _Drive(subject, unit, drawn, span), [dose for dose in doses if dose]
    if tokens is None:
        if len(contexts) < 2:
            raise InterventionError("To find the tokens that a unit moves, and to measure them, takes two texts.")
        chosen, signs = drive.own_tokens(contexts[::2], max(driven, key=lambda dose: (abs(dose), dose)), own)
        measured = contexts[1::2]
    else:
        chosen = torch.tensor(list(dict.fromkeys(tokens)))[None].expand(1 + len(drawn), -1)
        signs, measured = None, contexts
    found = drive.responses(measured, driven, chosen)
    at = doses.index(0.0)  # no strength is the plain run, which needs none of its own
    logits, logprobs = np.insert(found.logits, at, 0.0, axis=1), np.insert(found.logprobs, at, 0.0, axis=1)
    means: Floats = np.asarray(logits.mean(-1))
    slopes = slope(doses, means)
    if signs is not None:
        direction = int(signs[0])
        oriented: Floats = np.asarray(slopes * signs)
    else:
        direction = sign or (1 if slopes[0] >= 0 else -1)
        oriented = np.asarray(slopes * direction if sign else np.abs(slopes))
    correlation, trend_p = trend(doses, logits[0].T, direction, seed)
    if signs is None and not sign:
        trend_p = min(1.0, 2 * trend_p)  # the direction was taken from these texts
    if signs is not None:
        means = np.asarray(means * (signs * direction)[:, None])  # controls may suppress their own tokens
    norm = stream_norm(subject, unit, measured)
    losses = _losses(subject, unit, contexts, doses) if loss else None
    rows = []
    for i, dose in enumerate(doses):
        others = means[1:, i]
        j = driven.index(dose) if dose else None
        rows.append(Dose(
            amount=dose,
            stream=0.0 if j is None else float(found.lengths[j]) / norm,
            logit=float(means[0, i]),
            logprob=float(logprobs[0, i].mean()),
            kl=0.0 if j is None else float(found.kl[j]),
            loss=None if losses is None else losses[i],
            control=float(others.mean()) if len(others) else None,
            control_low=float(np.quantile(others, 0.05)) if len(others) else None,
            control_high=float(np.quantile(others, 0.95)) if len(others) else None,
        ))  # fmt: skip
    null = oriented[1:]
    return DoseResponse(
        unit=str(unit),
        tokens=tuple(subject.pieces(chosen[0].tolist())),
        chosen="given" if tokens is not None else "own",
        sign=direction,
        doses=tuple(rows),
        contexts=len(measured),
        slope=float(slopes[0]),
        effect=float(means[0, -1] - means[0, 0]),
        trend=correlation,
        trend_p=trend_p,
        controls=len(drawn),
        control_slopes=tuple(float(value) for value in slopes[1:]),
        p_value=p_value(float(oriented[0]), null) if len(null) else None,
        percentile=percentile(float(oriented[0]), null) if len(null) else None,
    )


@dataclass(frozen=True)
class _Drive:
    """A unit and its controls, and where they are driven."""

    subject: Subject
    unit: UnitId
    controls: Sequence[Control]
    span: int | None

    def effects(self, contexts: Contexts, amounts: Sequence[float], measure: Measure) -> tuple[Tensor, Tensor]:
        """What is measured of the unit and of each control, [1 + control, amount, text, ...], and how far the unit's
        write moves, [amount]."""
        found = effects_at(
            self.subject, self.unit, contexts, amounts, self.controls, span=self.span, measure=measure
        )  # fmt: skip
        return torch.cat([found.unit[None], found.controls]), found.lengths.double().mean(-1)

    def own_tokens(self, contexts: Contexts, amount: float, own: int) -> tuple[Tensor, Floats]:
        """For the unit and each control the tokens that it moves most at an amount, [1 + control, own], and whether it
        promotes them where it is turned up: the side that moves more is taken."""
        whole, _ = self.effects(contexts, [amount], logit_change)
        change = whole[:, 0].mean(1)[:, : len(self.subject.tokenizer)]
        high, low = change.topk(own, dim=-1), change.topk(own, dim=-1, largest=False)
        up = high.values.mean(-1) >= -low.values.mean(-1)
        tokens = torch.where(up[:, None], high.indices, low.indices)
        return tokens.cpu(), np.where(up.cpu().numpy(), 1.0, -1.0) * (1 if amount > 0 else -1)

    def responses(self, contexts: Contexts, amounts: Sequence[float], tokens: Tensor) -> _Responses:
        """How tokens [1 + control, n], its own of each row, respond."""
        union, places = torch.unique(tokens, return_inverse=True)
        union = union.to(self.subject.device)

        def measure(clean: Tensor, changed: Tensor) -> Tensor:
            logit = logit_change(clean, changed)[..., union]
            logprob = (changed.log_softmax(-1) - clean.log_softmax(-1))[..., union]
            return torch.cat([logit, logprob, driven_divergence(clean, changed)[..., None]], -1)

        found, lengths = self.effects(contexts, amounts, measure)
        found, n = found.double().cpu(), len(union)
        index = places[:, None, None, :].expand(-1, *found.shape[1:3], -1)
        logits, logprobs = (part.gather(-1, index).mean(-1).numpy() for part in (found[..., :n], found[..., n : 2 * n]))
        return _Responses(logits, logprobs, found[0, ..., -1].mean(-1).numpy(), lengths.cpu().numpy())


@dataclass(frozen=True)
class _Responses:
    logits: Floats
    """Mean change of the tokens' logits, [1 + control, amount, text]."""
    logprobs: Floats
    """Of their log-probabilities."""
    kl: Floats
    """[amount], of the unit."""
    lengths: Floats


def _losses(subject: Subject, unit: UnitId, contexts: Contexts, amounts: Sequence[float]) -> list[float]:
    """Change of the mean loss of the texts' tokens from the third on, driven at all positions but the first.

    The second token is predicted at position 0, which is never driven.
    """
    texts = [[int(i) for i in context] for context in contexts if len(context) > 2]
    if not texts:
        raise InterventionError("To measure a loss a text needs 3 tokens or more: position 0 is left out.")
    totals, count = torch.zeros(len(amounts), dtype=torch.float64), 0
    for batch in length_batches([len(text) for text in texts], _BATCH_TOKENS):
        ids, mask = subject.pad([texts[i] for i in batch])
        counted = mask[:, 2:].bool()
        count += int(counted.sum())
        for i, amount in enumerate(amounts):
            edits = [add_to_unit(subject, unit, amount, Where(since=1))] if amount else []
            logits = run(subject, ids, mask, edits).logits
            assert logits is not None
            logprobs = logits[:, 1:-1].float().log_softmax(-1)
            losses = -logprobs.gather(-1, ids[:, 2:, None].to(logprobs.device))[..., 0]
            totals[i] += float(losses[counted.to(losses.device)].double().sum())
    means = (totals / count).tolist()
    clean = means[list(amounts).index(0.0)]
    return [mean - clean for mean in means]
