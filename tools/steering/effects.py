"""What driving a unit does to the next token, and what random directions do that push as hard.

All amounts of a unit and all of its controls are variants of the same runs: the texts before the driven positions are
run once and their keys and values kept, and each variant costs the driven positions alone.

A control is gone along, at each position, as far as the unit's own write moved there (read off at the site where it
writes, behind a norm if there is one), with the sign of the amount. So it is matched in norm and in density.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.interventions import Beginnings, Edit, Where, add_to_unit, prefill, run, set_unit
from tools.steering.controls import Control, push, push_site
from tools.subject import Subject
from tools.types import Site, UnitId

Measure: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the plain run's logits [context, vocabulary] and those of some variants [variant, context, vocabulary], float32,
to what is kept of each, [variant, context, ...]."""
How: TypeAlias = Literal["add", "set"]

#: Numbers in the logits, and in the cached keys and values, of the rows that are run together.
_LOGITS, _CACHED = 2**25, 2**27
#: Padded tokens of the rows that are run together where nothing is cached.
_TOKENS = 4096


@dataclass(frozen=True)
class Effects:
    """What `measure` made of each variant."""

    clean: Tensor
    """Logits of the plain run at the last position, float32 [context, vocabulary]."""
    unit: Tensor
    """[amount, context, ...]."""
    controls: Tensor
    """[control, amount, context, ...]."""
    lengths: Tensor
    """How far the unit's write moved, as a mean over the driven positions: float32 [amount, context]."""


def logit_change(clean: Tensor, changed: Tensor) -> Tensor:
    """Change of every token's logit, relative to its mean over the vocabulary, [variant, context, vocabulary]."""
    change = changed - clean
    return change - change.mean(-1, keepdim=True)


def effects_at(
    subject: Subject,
    unit: UnitId,
    contexts: Sequence[Sequence[int]],
    amounts: Sequence[float],
    controls: Sequence[Control] = (),
    *,
    how: How = "add",
    span: int | None = 1,
    measure: Measure = logit_change,
    beginnings: Beginnings | None = None,
) -> Effects:
    """Drive a unit at the end of some texts and measure what becomes of the next token.

    Args:
        subject: A decoder with a head.
        unit: Any unit that writes.
        contexts: Token ids; the effect is read at the last one of each.
        amounts: What is added to its activation, or set.
        controls: From `matched_controls`; each is run at every amount, with the amount's sign.
        how: ``add`` to what the activation is, or ``set`` it.
        span: At how many of the last positions it is driven; None: at all but the first.
        measure: What is kept of the logits.
        beginnings: Where the keys and values of the texts before the driven positions are kept for other units.

    Returns:
        On the subject's device. Position 0 is never driven.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: A text is too short, the unit does not write, or the logits are no longer finite.
        SubjectError: A text is too long for the model.
    """
    if how == "set" and controls:
        raise InterventionError("Controls push as far as something is added; what is set has none.")
    texts = [[int(i) for i in context] for context in contexts]
    shortest = 2 if span is None else span + 1
    if span is not None and span < 1:
        raise InterventionError(f"A unit is driven at 1 position or more, and not at {span}.")
    if not texts or min(map(len, texts)) < shortest:
        raise InterventionError(
            f"To drive a unit at the last {shortest - 1} positions each text needs {shortest} tokens or more, as "
            "position 0 is left out."
        )
    site = push_site(subject, unit)
    if stray := next((control for control in controls if control.site != site), None):
        raise InterventionError(f"A control writes at {stray.site}, but {unit} at {site}.")
    found = [
        _of_batch(_Runs(subject, batch, span, beginnings), unit, amounts, controls, measure, how=how)
        for batch in _batches(subject, texts, span)
    ]
    return Effects(
        torch.cat([one.clean for one in found]),
        torch.cat([one.unit for one in found], 1),
        torch.cat([one.controls for one in found], 2),
        torch.cat([one.lengths for one in found], 1),
    )


def _batches(subject: Subject, texts: list[list[int]], span: int | None) -> Iterator[list[list[int]]]:
    """Texts that are run together, in their order; at least one variant of all of them fits."""
    longest = max(map(len, texts))
    most = min(_LOGITS // subject.vocabulary, _room(subject, longest), _TOKENS // (longest if span is None else span))
    for start in range(0, len(texts), max(1, most)):
        yield texts[start : start + max(1, most)]


def _room(subject: Subject, longest: int) -> int:
    """Rows whose keys and values are kept at once."""
    return _CACHED // (longest * subject.n_layers * 2 * subject.d_model)


class _Runs:
    """Runs of variants of some texts: all variants of a text stand next to each other."""

    def __init__(
        self, subject: Subject, texts: list[list[int]], span: int | None, beginnings: Beginnings | None
    ) -> None:
        self.subject, self.texts, self.span = subject, texts, span
        self.last = torch.tensor([len(text) - 1 for text in texts])
        self.width = max(map(len, texts))
        if span is None:
            self.ids, self.mask = subject.pad(texts)
        else:
            lengths = [len(text) - span for text in texts]
            self.prefix = (
                prefill(subject, [text[:-span] for text in texts]) if beginnings is None
                else beginnings.of(texts, lengths)
            )  # fmt: skip
            self.ids = torch.tensor([text[-span:] for text in texts])

    def most(self) -> int:
        """Variants that are run together."""
        rows = min(_LOGITS // self.subject.vocabulary, _room(self.subject, self.width), _TOKENS // self.ids.shape[1])
        return max(1, rows // len(self.texts))

    def rows(self, variants: int, variant: int) -> list[int]:
        """Rows of a batch that hold one of its variants."""
        return [text * variants + variant for text in range(len(self.texts))]

    def run(self, variants: int, edits: Sequence[Edit], read: Sequence[Site] = ()) -> tuple[Tensor, list[Tensor]]:
        """Logits at the last positions, float32 [variant, text, vocabulary], and what was read, [text, variant, pos of
        the whole text, ...]."""
        ids = self.ids.repeat_interleave(variants, 0)
        texts = len(self.texts)
        if self.span is None:
            found = run(self.subject, ids, self.mask.repeat_interleave(variants, 0), edits, read=read)
        else:
            found = run(self.subject, ids, None, edits, read=read, past=self.prefix.repeat(variants))
        logits = found.logits
        assert logits is not None
        device = logits.device
        at = self.last.to(device).repeat_interleave(variants) if self.span is None else -1
        ends = logits[torch.arange(len(ids), device=device), at].float()
        return (
            ends.reshape(texts, variants, -1).transpose(0, 1),
            [found[site].float().reshape(texts, variants, *found[site].shape[1:]) for site in read],
        )

    def whole(self, values: Tensor) -> Tensor:
        """Of values [text, ..., pos of a run] those of whole texts; zero where nothing is driven."""
        out = torch.zeros(*values.shape[:-1], self.width, device=values.device)
        for text, last in enumerate(self.last.tolist()):
            start = 1 if self.span is None else last + 1 - self.span
            first = start if self.span is None else 0
            out[text, ..., start : last + 1] = values[text, ..., first : first + last + 1 - start]
        return out

    def driven(self) -> Tensor:
        """How many positions are driven of each text, [text]."""
        return self.last if self.span is None else torch.full_like(self.last, self.span)


def _of_batch(
    runs: _Runs, unit: UnitId, amounts: Sequence[float], controls: Sequence[Control], measure: Measure, *, how: How
) -> Effects:
    subject, site = runs.subject, push_site(runs.subject, unit)
    since, drive = 1 if runs.span is None else 0, add_to_unit if how == "add" else set_unit
    clean, own, moved = None, [], []
    step = max(1, runs.most() - 1)
    for start in range(0, max(len(amounts), 1), step):
        chosen = list(amounts[start : start + step])
        variants = 1 + len(chosen)  # the first one is the plain run
        edits = [
            drive(subject, unit, amount, Where(rows=runs.rows(variants, 1 + i), since=since))
            for i, amount in enumerate(chosen)
        ]
        logits, (written,) = runs.run(variants, edits, [site])
        clean = logits[0] if clean is None else clean
        own.append(measure(logits[0], logits[1:]))
        lengths = torch.linalg.vector_norm(written[:, 1:] - written[:, :1], dim=-1)
        moved.append(runs.whole(lengths).transpose(0, 1))
    assert clean is not None
    lengths = torch.cat(moved)  # [amount, text, pos]
    signs = torch.tensor([-1.0 if amount < 0 else 1.0 for amount in amounts], device=lengths.device)
    pushed = _of_controls(runs, signs[:, None, None] * lengths, controls, measure)
    unit_found = torch.cat(own)
    return Effects(
        clean,
        unit_found,
        pushed if pushed is not None else unit_found.new_zeros((0, *unit_found.shape)),
        lengths.sum(-1) / runs.driven().to(lengths.device),
    )


def _of_controls(runs: _Runs, lengths: Tensor, controls: Sequence[Control], measure: Measure) -> Tensor | None:
    """What the controls do, [control, amount, text, ...]."""
    jobs = [(control, amount) for control in controls for amount in range(len(lengths))]
    step = max(1, runs.most() - 1)
    parts = []
    for start in range(0, len(jobs), step):
        chosen = jobs[start : start + step]
        variants = 1 + len(chosen)  # the first one is the plain run, which rounds as the others of its batch do
        rows = [row for variant in range(1, variants) for row in runs.rows(variants, variant)]
        vectors = torch.stack([control.vector for control, _ in chosen]).repeat_interleave(len(runs.texts), 0)
        along = torch.stack([torch.zeros_like(lengths[0]), *(lengths[amount] for _, amount in chosen)], 1)
        logits, _ = runs.run(variants, [push(chosen[0][0].site, vectors, along.flatten(0, 1), rows)])
        parts.append(measure(logits[0], logits[1:]))
    if not parts:
        return None
    found = torch.cat(parts)
    return found.reshape(len(controls), len(lengths), *found.shape[1:])
