"""Which tokens a unit's activation depends on: replace or delete each and look at the activation again.

The causal counterpart of reading examples: a token that only accompanies the cause leaves the activation as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.errors import UnitError
from tools.subject import Subject
from tools.types import IntArray, UnitId
from tools.units import check_unit, unit_activations


@dataclass(frozen=True)
class EditEffect:
    """What became of a unit's activation at a position when one token near it was edited."""

    offset: int
    """Of the edited token from the position: 0 the position itself, -1 the token before it."""
    piece: str
    """The token's text before the edit."""
    original: float
    """Activation without any edit."""
    replaced: float
    """Mean activation over replacements of the token by random ones."""
    deleted: float
    """Activation with the token deleted; at offset 0 that of the token before, which then is the last."""


def edit_effects(
    subject: Subject,
    unit: UnitId,
    contexts: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    window: int = 8,
    replacements: int = 4,
    seed: int = 0,
    pool: Sequence[int] | None = None,
) -> list[list[EditEffect]]:
    """Edit each of the last `window` tokens up to and including a position, one at a time.

    Tokens that encoding puts before every text are not edited. All edits of all contexts run in shared batches. For
    decoders contexts are cut off after the position, as nothing later matters.

    Args:
        subject: The model.
        unit: The unit whose activation is read.
        contexts: Token ids.
        positions: The position of interest in each context; not 0.
        window: How many tokens to edit in each context.
        replacements: Number of random replacements for each token.
        seed: Of the choice of replacements.
        pool: Tokens to draw replacements from, with their multiplicity; by default all ordinary tokens of `contexts`.

    Returns:
        For each context the effects from the farthest token to the position itself (offsets ascending to 0).

    Raises:
        UnitError: The unit or a position does not exist, or there are no tokens to draw from.
    """
    check_unit(subject, unit)
    if window < 1 or replacements < 1:
        raise ValueError("window and replacements must be at least 1")
    for context, position in zip(contexts, positions, strict=True):
        if not 1 <= position < len(context):
            raise UnitError(
                f"Position {position} cannot be studied in a context of {len(context)} tokens: position 0 is left out."
            )
    special = set(subject.tokenizer.all_special_ids)
    tokens = [t for context in contexts for t in context if t not in special] if pool is None else list(pool)
    choices = np.unique(np.asarray(tokens, dtype=np.int64))
    if not len(choices) or (len(choices) == 1 and any(choices[0] in context for context in contexts)):
        raise UnitError("There are too few distinct tokens to draw replacements from; give a larger pool.")
    rng = np.random.default_rng(seed)
    start = len(subject.prefix)
    sequences: list[list[int]] = []
    read: list[int] = []
    for context, position in zip(contexts, positions, strict=True):
        ids = [int(i) for i in (context[: position + 1] if subject.causal else context)]
        sequences.append(ids)
        read.append(position)
        for place in range(max(start, position - window + 1), position + 1):
            for token in _draw(rng, np.asarray(tokens), ids[place], replacements):
                sequences.append([*ids[:place], token, *ids[place + 1 :]])
                read.append(position)
            sequences.append([*ids[:place], *ids[place + 1 :]])
            read.append(position - 1)
    values = unit_activations(subject, [unit], sequences)
    numbers = iter(float(v[0, at]) for v, at in zip(values, read, strict=True))
    results: list[list[EditEffect]] = []
    for context, position in zip(contexts, positions, strict=True):
        original = next(numbers)
        effects = []
        for place in range(max(start, position - window + 1), position + 1):
            replaced = float(np.mean([next(numbers) for _ in range(replacements)]))
            piece = subject.pieces([context[place]])[0]
            effects.append(EditEffect(place - position, piece, original, replaced, next(numbers)))
        results.append(effects)
    return results


def _draw(rng: np.random.Generator, tokens: IntArray, other_than: int, count: int) -> list[int]:
    """Random tokens that differ from the one they replace."""
    allowed = tokens[tokens != other_than]
    return [int(t) for t in rng.choice(allowed, count)]
