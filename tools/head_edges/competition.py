"""Mechanisms that compete: how much attention it takes for one answer to win over another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import divergence
from tools.head_edges.sets import edits_of, layers_of, name_of, other_sets
from tools.interventions import run
from tools.subject import Subject
from tools.types import Site, UnitId


@dataclass(frozen=True)
class Contest:
    """A prompt with two answers, and a place that speaks for one of them."""

    prompt: tuple[int, ...]
    """Token ids."""
    keys: tuple[int, ...]
    """Positions whose edges from the last token are scaled, such as that of an attribute."""
    first: int
    """A token."""
    second: int
    """The token that it is against."""


@dataclass(frozen=True)
class ScalePoint:
    """One factor."""

    factor: float
    difference: float
    """Mean logit of the first answers less that of the second."""
    first: float
    """Share of prompts whose first answer is the likelier of the two."""
    kl: float
    """KL(as it is || scaled) of the next token, nats, mean over prompts."""
    others: tuple[float, ...]
    """The difference with each set of other heads in place of these."""


@dataclass(frozen=True)
class Competition:
    """Two answers against each other, as heads attend more or less to some places."""

    heads: tuple[str, ...]
    renormalise: bool
    prompts: int
    attention: float
    """Mean weight of the edges that are scaled, as the model is."""
    points: tuple[ScalePoint, ...]
    """By factor, ascending; 1 is among them."""
    other_heads: tuple[str, ...]
    p_value: float | None
    """Share of sets of heads (these counted in) that move the difference at the factor farthest from 1 as much."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def competition(
    subject: Subject,
    heads: Sequence[UnitId],
    contests: Sequence[Contest],
    factors: Sequence[float],
    *,
    renormalise: bool = False,
    others: int = 32,
    seed: int = 0,
) -> Competition:
    """Scale some heads' attention from the last token to some places, and see which of two answers wins.

    Args:
        subject: A decoder with a head.
        heads: Which.
        contests: One or more.
        factors: What the weights are multiplied by.
        renormalise: Take from, or give to, the other edges of the last token.
        others: As many sets of other heads of the same layers, if there are so many, to compare with.
        seed: Of these sets.

    Raises:
        UnitError: One is no head of this subject.
        InterventionError: A position is beyond its prompt, or there is no finite factor.
    """
    chosen = layers_of(subject, heads)
    if not contests:
        raise InterventionError("There is no prompt to look at.")
    for one in contests:
        n = len(one.prompt)
        if n < 2 or not one.keys or not 0 <= min(one.keys) <= max(one.keys) < n:
            raise InterventionError(
                f"The positions {list(one.keys)} are not all in their prompt, which has {n} tokens and needs 2 or more."
            )
    if not factors or not all(math.isfinite(factor) for factor in factors):
        raise InterventionError("The factors are one finite number or more.")
    scales = sorted({float(factor) for factor in factors} | {1.0})
    ids, mask = subject.pad([one.prompt for one in contests])
    last = torch.tensor([len(one.prompt) - 1 for one in contests])
    edges = torch.zeros(len(contests), ids.shape[1], ids.shape[1], dtype=torch.bool)
    for row, one in enumerate(contests):
        edges[row, last[row], list(one.keys)] = True
    clean = run(subject, ids, mask, read=[Site(layer, "attn_pattern") for layer in chosen])
    weight = [
        float(clean[Site(layer, "attn_pattern")][:, head].float().cpu()[edges].mean())
        for layer, numbers in chosen.items() for head in numbers
    ]  # fmt: skip
    pair = torch.tensor([[one.first, one.second] for one in contests])

    def measured(layers: dict[int, list[int]], scale: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the last token's prediction, and the difference of the answers' logits, by prompt."""
        by = torch.where(edges, scale, 1.0)
        edits = edits_of(layers, by, renormalise=renormalise) if scale != 1 else []
        logits = run(subject, ids, mask, edits).logits
        assert logits is not None
        ends = logits[torch.arange(len(ids)), last.to(logits.device)].float()
        both = ends.gather(-1, pair.to(ends.device))
        return ends.log_softmax(-1), (both[:, 0] - both[:, 1]).double().cpu()

    sets = other_sets(subject, chosen, others, seed)
    plain, _ = measured(chosen, 1.0)
    points = []
    for scale in scales:
        logp, difference = measured(chosen, scale)
        points.append(ScalePoint(
            scale, float(difference.mean()), float((difference > 0).double().mean()),
            float(divergence(plain, logp).double().mean()),
            tuple(float(measured(one, scale)[1].mean()) for one in sets),
        ))  # fmt: skip
    usual = next(one for one in points if one.factor == 1)
    far = max(points, key=lambda one: abs(one.factor - 1))
    null = np.abs(np.array(far.others) - usual.difference)
    moved = abs(far.difference - usual.difference)
    return Competition(
        heads=tuple(map(str, heads)), renormalise=renormalise, prompts=len(contests), attention=float(np.mean(weight)),
        points=tuple(points),
        other_heads=tuple(map(name_of, sets)),
        p_value=float((1 + (null >= moved).sum()) / (1 + len(null))) if len(null) else None,
    )  # fmt: skip
