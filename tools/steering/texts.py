"""What a model writes while a unit, or a random direction as strong, is driven at every position but the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.interventions import Edit, Generated, Where, add, add_to_unit, generate, run
from tools.steering.controls import Control
from tools.subject import Subject
from tools.types import UnitId

#: Tokens, prompts and continuations, of the rows that are written or read together.
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Driven:
    """A prompt, and what is driven while it is continued."""

    prompt: tuple[int, ...]
    """Token ids."""
    what: UnitId | Control | None = None
    """None: nothing."""
    strength: float = 0.0
    """Added to the unit's activation; of a control, how far its direction is gone along (`Strength.length`)."""
    seed: int = 0
    """Of sampling."""


@dataclass(frozen=True)
class Reading:
    """A continuation, and how the model reads it with and without what drove it; arrays over its tokens."""

    driven: Driven
    written: Generated
    plain: Tensor
    """Log-probabilities of the continuation's tokens by the plain model, float32 [token]."""
    plain_mass: Tensor
    """Log of the probability that the plain model gives to the concept's tokens before each of them, [token]."""
    driven_mass: Tensor
    """The same with the drive."""


def edits_of(subject: Subject, rows: Sequence[Driven]) -> list[Edit]:
    """The edits of a batch, each in its own row."""
    edits: list[Edit] = []
    same: dict[tuple[UnitId, float], list[int]] = {}
    sites: dict[object, list[int]] = {}
    for row, one in enumerate(rows):
        if isinstance(one.what, UnitId) and one.strength:
            same.setdefault((one.what, one.strength), []).append(row)
        elif isinstance(one.what, Control) and one.strength:
            sites.setdefault(one.what.site, []).append(row)
    for (unit, amount), places in same.items():
        edits.append(add_to_unit(subject, unit, amount, Where(rows=places, since=1)))
    for places in sites.values():
        controls = [(rows[row].what, rows[row].strength) for row in places]
        vectors = torch.stack([length * control.vector for control, length in controls if isinstance(control, Control)])
        first = rows[places[0]].what
        assert isinstance(first, Control)
        edits.append(add(first.site, vectors, Where(rows=places, since=1), per_row=True))
    return edits


def write(
    subject: Subject, rows: Sequence[Driven], *, max_new_tokens: int = 25, temperature: float = 0.0
) -> list[Generated]:
    """Continue prompts, each with its own drive, in shared batches.

    Raises:
        InterventionError: The subject writes no text, or the logits are no longer finite.
        SubjectError: A prompt with its continuation is too long for the model.
    """
    found: list[Generated] = []
    for part in _parts(rows, max_new_tokens):
        found += generate(
            subject, [row.prompt for row in part], edits_of(subject, part), max_new_tokens=max_new_tokens,
            temperature=temperature, seed=[row.seed for row in part],
        )  # fmt: skip
    return found


def read(
    subject: Subject, rows: Sequence[Driven], written: Sequence[Generated], tokens: Sequence[Tensor]
) -> list[Reading]:
    """Run continuations again, with their drives and without.

    Args:
        subject: The model that wrote them.
        rows: Their prompts and drives.
        written: The continuations; some may be empty.
        tokens: For each, the token ids whose probability together is followed.
    """
    found: list[Reading] = []
    longest = max((len(one.ids) for one in written), default=0)
    start = 0
    for part in _parts(rows, longest):
        texts = [[*row.prompt, *one.ids] for row, one in zip(part, written[start:], strict=False)]
        ids, mask = subject.pad(texts)
        plain = run(subject, ids, mask).logits
        edits = edits_of(subject, part)
        driven = run(subject, ids, mask, edits).logits if edits else plain
        assert plain is not None
        assert driven is not None
        for i, row in enumerate(part):
            places = slice(len(row.prompt) - 1, len(texts[i]) - 1)
            sure = plain[i, places].float().log_softmax(-1)
            moved = driven[i, places].float().log_softmax(-1)
            following = ids[i, len(row.prompt) : len(texts[i]), None].to(sure.device)
            concept = tokens[start + i].to(sure.device)
            found.append(Reading(
                row, written[start + i], sure.gather(-1, following)[:, 0].cpu(),
                sure[:, concept].logsumexp(-1).cpu(), moved[:, concept].logsumexp(-1).cpu(),
            ))  # fmt: skip
        start += len(part)
    return found


def _parts(rows: Sequence[Driven], more: int) -> Iterator[Sequence[Driven]]:
    """Rows in their order, cut into batches."""
    longest = max((len(row.prompt) for row in rows), default=0) + more
    step = max(1, _BATCH_TOKENS // max(1, longest))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
