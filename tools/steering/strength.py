"""How hard to drive a unit, so that units can be compared: by what it does to the output, or beside the stream.

Amounts of activation say nothing across units, whose writes differ in length by orders of magnitude. Two measures do:
the KL divergence from the plain next-token distribution (Gur-Arieh et al. 2025, arXiv 2501.08319, choose clamps by it),
and the length of the write in units of the residual stream's norm where it is added.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import divergence
from tools.interventions import run
from tools.steering.controls import push_site
from tools.steering.effects import effects_at
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import length_batches

#: Strengths are looked for up to this many norms of the stream: beyond, the write is all that is left of it.
REACH = 8.0
#: The weakest strength that is tried first, in norms of the stream.
_WEAKEST = 2.0**-16
#: Strengths tried at once: first each twice the one before, then evenly between the two that the target lies between.
_DOUBLINGS, _BETWEEN, _ROUNDS = 5, 8, 3
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Strength:
    """How hard a unit is driven."""

    amount: float
    """Added to its activation."""
    length: float
    """How far its write moves, as a mean over the driven positions."""
    stream: float
    """The same in units of the residual stream's norm there."""
    kl: float
    """KL divergence of the next-token distribution from the plain one, nats, as a mean over the texts."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def driven_divergence(clean: Tensor, changed: Tensor) -> Tensor:
    """KL(plain || driven) of next-token distributions in nats, [variant, context], from logits."""
    return divergence(clean.log_softmax(-1), changed.log_softmax(-1))


def stream_norm(subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]]) -> float:
    """Mean norm of the residual stream that a unit's write is added to, over all positions but the first.

    What a layer's attention or MLP writes is measured by the stream behind that layer.

    Raises:
        UnitError, InterventionError: As `push_site` raises them.
    """
    site = push_site(subject, unit)
    stream = site if site.kind.startswith("resid") else Site(site.layer, "resid_post")
    texts = [[int(i) for i in context] for context in contexts if len(context) > 1]
    if not texts:
        raise InterventionError("To measure the residual stream a text needs 2 tokens or more: position 0 is left out.")
    total, positions = 0.0, 0
    for batch in length_batches([len(text) for text in texts], _BATCH_TOKENS):
        ids, mask = subject.pad([texts[i] for i in batch])
        found = run(subject, ids, mask, read=[stream], logits=False)[stream].float()
        norms = torch.linalg.vector_norm(found, dim=-1)[:, 1:][mask[:, 1:].bool().to(found.device)]
        total, positions = total + float(norms.double().sum()), positions + len(norms)
    return total / positions


def strengths_at(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], amounts: Sequence[float], *,
    span: int | None = None, norm: float | None = None,
) -> list[Strength]:  # fmt: skip
    """What some amounts come to; arguments as in `effects_at`, and the `stream_norm` where it is known."""
    norm = stream_norm(subject, unit, contexts) if norm is None else norm
    found = effects_at(
        subject,
        unit,
        contexts,
        amounts,
        span=span,
        measure=lambda clean, changed: driven_divergence(clean, changed)[..., None],
    )
    lengths, kls = found.lengths.double().mean(-1).tolist(), found.unit.double().mean((1, 2)).tolist()
    return [
        Strength(float(amount), length, length / norm, kl)
        for amount, length, kl in zip(amounts, lengths, kls, strict=True)
    ]


def amount_for_norm(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], norms: float, *, span: int | None = None
) -> float:
    """What to add to a unit's activation so that its write moves by so many norms of the residual stream.

    Exact where a write grows with the activation; behind a norm (Gemma 2) it grows less than that.

    Raises:
        InterventionError: The unit writes nothing on these texts.
    """
    (one,) = strengths_at(subject, unit, contexts, [1.0], span=span)
    if not one.stream > 0:
        raise InterventionError(
            f"{unit} writes nothing on these texts, so that no strength moves its write. Give texts on which it is "
            "active."
        )
    return norms / one.stream


def amount_for_kl(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], target: float, *, span: int | None = None,
    reach: float = REACH,
) -> Strength:  # fmt: skip
    """The weakest strength that drives the mean KL divergence to a target.

    Strengths are doubled until the divergence is beyond the target, and then narrowed down between the last two, by
    one ninth of the rest each time; the divergence need not grow evenly.

    Args:
        subject: A decoder with a head.
        unit: Any unit that writes.
        contexts: Token ids; the divergence is that at the last position, as a mean over the texts.
        target: In nats. A negative one asks for the strength that turns the unit down.
        span: At how many of the last positions it is driven; None: at all but the first.
        reach: The strongest that is tried, in norms of the residual stream.

    Raises:
        InterventionError: No strength within reach gets there, the unit writes nothing, or the logits overflow before.
    """
    wanted, sign = abs(target), -1.0 if target < 0 else 1.0
    if not 0 < wanted < float("inf"):
        raise InterventionError(f"A target KL is a number of nats other than 0, not {target:g}.")
    one = amount_for_norm(subject, unit, contexts, 1.0, span=span)
    norm = stream_norm(subject, unit, contexts)

    def tried(amounts: Sequence[float]) -> list[Strength]:
        return strengths_at(subject, unit, contexts, [sign * amount for amount in amounts], span=span, norm=norm)

    low, high, most = 0.0, None, None
    doublings = [one * _WEAKEST * 2.0**i for i in itertools.takewhile(lambda i: _WEAKEST * 2.0**i < reach, range(64))]
    doublings.append(one * reach)
    for start in range(0, len(doublings), _DOUBLINGS):
        for strength in tried(doublings[start : start + _DOUBLINGS]):
            most = strength if most is None or strength.kl > most.kl else most
            if strength.kl >= wanted:
                high = strength
                break
            low = abs(strength.amount)
        if high is not None:
            break
    if high is None:
        assert most is not None
        raise InterventionError(
            f"{unit} cannot be driven to a KL divergence of {target:g} on these texts: {most.kl:.3g} is the most, with "
            f"{most.stream:.3g} times the residual stream's norm. Choose a smaller target, or other texts."
        )
    for _ in range(_ROUNDS):
        step = (abs(high.amount) - low) / (_BETWEEN + 1)
        for strength in tried([low + step * (i + 1) for i in range(_BETWEEN)]):
            if strength.kl >= wanted:
                high = strength
                break
            low = abs(strength.amount)
    return high
