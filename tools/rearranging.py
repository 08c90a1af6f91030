"""Does a unit's activation depend on what stands next to what? Tokens put in between, and the same in other orders.

The companion of `tools.edits`, which takes tokens away: a unit that needs a token right before another falls silent
when one comes between them, and a unit that needs a word anywhere before does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.errors import UnitError
from tools.subject import Subject
from tools.types import UnitId
from tools.units import check_unit, unit_activations

#: Orders that are drawn beyond those asked for, lest a few of them be the text's own.
TRIES = 64


@dataclass(frozen=True)
class Insertion:
    """What became of the activation when a token was put in."""

    offset: int
    """Of the token before which it was put, from the position: 0 the position itself, -1 the token before it."""
    before: str
    """That token's text."""
    inserted: float
    """Mean activation over the tokens that were put in."""


@dataclass(frozen=True)
class Rearranged:
    """What became of a unit's activation at a position when the text before it was changed and no token left out."""

    original: float
    insertions: tuple[Insertion, ...]
    """From the farthest to the position itself."""
    orders: tuple[float, ...]
    """Activation with the tokens before the position, within the window, in other orders; the position keeps its
    own."""


def rearranged(
    subject: Subject,
    unit: UnitId,
    context: Sequence[int],
    position: int,
    *,
    window: int = 8,
    insertions: int = 4,
    orders: int = 4,
    seed: int = 0,
) -> Rearranged:
    """Put tokens between those of the last `window` up to a position, and change the order of those before it.

    All changes run in one batch. Tokens to put in are drawn from the text's own. For decoders the text is cut off after
    the position.

    Args:
        subject: The model.
        unit: The unit whose activation is read, at the token that stands at the position.
        context: Token ids.
        position: Of interest; not one that encoding puts before every text.
        window: Tokens up to and including the position that are changed.
        insertions: Draws of a token at each place.
        orders: Random orders, each another than the text's own, of tokens that are not all alike.
        seed: Of the draws.

    Raises:
        UnitError: The unit or the position does not exist.
    """
    check_unit(subject, unit)
    start = len(subject.prefix)
    if not max(start, 1) <= position < len(context):
        raise UnitError(f"Position {position} cannot be studied in a text of {len(context)} tokens.")
    rng = np.random.default_rng(seed)
    ids = [int(i) for i in (context[: position + 1] if subject.causal else context)]
    first = max(start, position - window + 1)
    sequences, read = [ids], [position]
    for place in range(first, position + 1):
        for token in rng.choice(ids[start:], insertions).tolist():
            sequences.append([*ids[:place], token, *ids[place:]])
            read.append(position + 1)
    own = ids[first:position]
    shuffled = [rng.permutation(len(own)).tolist() for _ in range(TRIES + orders)] if len(set(own)) > 1 else []
    mixed = [[own[i] for i in order] for order in shuffled]
    for other in [one for one in mixed if one != own][:orders]:
        sequences.append([*ids[:first], *other, *ids[position:]])
        read.append(position)
    values = unit_activations(subject, [unit], sequences)
    numbers = iter(float(line[0, at]) for line, at in zip(values, read, strict=True))
    original = next(numbers)
    pieces = subject.pieces(ids)
    put = [
        Insertion(place - position, pieces[place], float(np.mean([next(numbers) for _ in range(insertions)])))
        for place in range(first, position + 1)
    ]
    return Rearranged(original, tuple(put), tuple(numbers))
