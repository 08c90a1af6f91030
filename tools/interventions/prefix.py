"""A beginning that many runs share, run once: its keys and values are kept, and only what follows is computed.

What is edited at the last positions of a text changes nothing before them, so a dose-response curve or a comparison
with many random units needs the beginning once only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

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
    _kept: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    """By the columns that follow: the keys and values of a run's rows, with room for those columns."""

    @property
    def width(self) -> int:
        """Columns, padding included."""
        return int(self.mask.shape[1])

    def repeat(self, times: int) -> Prefix:
        """The same for runs with `times` rows for each beginning: row r of a run follows beginning r // times."""
        return replace(self, times=self.times * times, _kept={})

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
        cache = self._rows(ids.shape[1])
        mask = self.mask.repeat_interleave(self.times, 0)
        whole = torch.cat([mask, torch.ones_like(ids, device="cpu")], 1)
        inputs = self.subject.inputs(ids, whole, earlier=self.width)
        starts = self.width - mask.sum(1)
        padded = bool((starts > 0).any())
        return (
            {**inputs, "past_key_values": cache, "use_cache": True},
            Moment(ids.shape[0], ids.shape[1], offset=self.width, starts=starts if padded else None),
        )

    def _rows(self, columns: int) -> Any:
        """A cache for one run: the beginnings of its rows, and nothing behind them.

        Repeating the keys and values costs more than the run itself, so they are kept for the next run with as many
        columns; what a run writes behind them is written over.
        """
        if not is_plain(self.cache):
            cache = copy.deepcopy(self.cache)
            if self.times > 1:
                cache.batch_repeat_interleave(self.times)
            return cache
        if columns not in self._kept:
            kept = copy.copy(self.cache)
            kept.layers = [_Rows(layer, self.times, columns) for layer in self.cache.layers]
            self._kept[columns] = kept
        for layer in self._kept[columns].layers:
            layer.rewind()
        return self._kept[columns]


class _Rows(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of a run's rows; the room behind the beginnings is used again by each run."""

    def __init__(self, layer: DynamicLayer, times: int, columns: int) -> None:
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self._width = layer.keys.shape[-2]
        self._whole = [_roomy(tensor, times, columns) for tensor in (layer.keys, layer.values)]
        self.rewind()

    def rewind(self) -> None:
        self._filled = self._width
        self.keys, self.values = (whole[..., : self._width, :] for whole in self._whole)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        start, self._filled = self._filled, self._filled + key_states.shape[-2]
        for whole, new in zip(self._whole, (key_states, value_states), strict=True):
            whole[..., start : self._filled, :] = new
        self.keys, self.values = (whole[..., : self._filled, :] for whole in self._whole)
        return self.keys, self.values


def _roomy(tensor: Tensor, times: int, columns: int) -> Tensor:
    """[row * times, head, pos + columns, d] with the tensor [row, head, pos, d] in front, each row `times` times."""
    rows, heads, width, size = tensor.shape
    whole = tensor.new_empty(rows, times, heads, width + columns, size)
    whole[..., :width, :] = tensor[:, None]
    return whole.flatten(0, 1)


def is_plain(cache: Any) -> bool:
    """Whether the cache holds keys and values of every position in each layer, one after the other."""
    return all(type(layer) is DynamicLayer and layer.is_initialized for layer in getattr(cache, "layers", ()))


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
        # The base model, for nobody needs the logits.
        output = subject.model.base_model(**{**subject.inputs(ids, mask), "use_cache": True})
    cache = getattr(output, "past_key_values", None)
    if cache is None or not hasattr(cache, "batch_repeat_interleave"):
        raise InterventionError(f"'{subject.name}' ({type(subject.model).__name__}) keeps no cache of keys and values.")
    return Prefix(subject, cache, mask)
