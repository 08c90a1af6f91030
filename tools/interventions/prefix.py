"""A beginning that many runs share, run once: its keys and values are kept, and only what follows is computed.

What is edited at the last positions of a text changes nothing before them, so a dose-response curve or a comparison
with many random units needs the beginning once only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.hooking.where import Moment
from tools.subject import Subject


@dataclass(frozen=True)
class Prefix:
    """The cached keys and values of some beginnings, one a row, each of which may stand for several rows of a run."""

    subject: Subject
    cache: Any
    """The model's own cache object; never changed."""
    mask: Tensor
    """int64 [row, pos], 1 at real tokens; padding is on the left."""
    times: int = 1
    """Rows of a run that each beginning stands for, next to each other."""

    @property
    def width(self) -> int:
        """Columns, padding included."""
        return int(self.mask.shape[1])

    def repeat(self, times: int) -> Prefix:
        """The same for runs with `times` rows for each beginning: row r of a run follows beginning r // times."""
        return replace(self, times=self.times * times)

    def lengths(self, batch: int) -> Tensor:
        """Tokens of the beginning of each row of a run, int64 [batch]."""
        rows = self.mask.sum(1).repeat_interleave(self.times)
        if len(rows) != batch:
            raise InterventionError(
                f"The cached prefix stands for {len(rows)} rows ({self.mask.shape[0]} x {self.times}); the run has "
                f"{batch}."
            )
        return rows

    def inputs(self, ids: Tensor) -> tuple[dict[str, Any], Moment]:
        """Arguments of the forward pass over ids [batch, pos] that follow the prefix, and what it is about."""
        cache = copy.deepcopy(self.cache)
        if self.times > 1:
            cache.batch_repeat_interleave(self.times)
        mask = self.mask.repeat_interleave(self.times, 0)
        whole = torch.cat([mask, torch.ones_like(ids, device="cpu")], 1)
        inputs = self.subject.inputs(ids, whole, earlier=self.width)
        starts = self.width - mask.sum(1)
        padded = bool((starts > 0).any())
        return (
            {**inputs, "past_key_values": cache, "use_cache": True},
            Moment(ids.shape[0], ids.shape[1], offset=self.width, starts=starts if padded else None),
        )


def prefill(subject: Subject, contexts: Sequence[Sequence[int]]) -> Prefix:
    """Run some beginnings and keep their keys and values.

    Args:
        subject: A decoder.
        contexts: Token ids, at least one in each.

    Raises:
        InterventionError: The model is an encoder, or keeps no such cache.
        SubjectError: A beginning is too long.
    """
    if not subject.causal:
        raise InterventionError(
            f"'{subject.name}' is an encoder: later tokens change earlier ones, and nothing is kept."
        )
    if not contexts or any(not len(context) for context in contexts):
        raise InterventionError("A prefix needs at least one token.")
    ids, mask = subject.pad(contexts, side="left")
    subject.check_ids(ids)
    with subject.lock, torch.inference_mode():
        output = subject.model(**{**subject.inputs(ids, mask), "use_cache": True})
    cache = getattr(output, "past_key_values", None)
    if cache is None or not hasattr(cache, "batch_repeat_interleave"):
        raise InterventionError(f"'{subject.name}' ({type(subject.model).__name__}) keeps no cache of keys and values.")
    return Prefix(subject, cache, mask)
