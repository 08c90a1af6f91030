"""Beginnings of texts that many runs share: each text is run once, whatever part of it is wanted and by whom."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from tools.interventions.prefix import Prefix, is_plain, prefill
from tools.subject import Subject

#: Bytes of keys and values that are kept by default.
MOST_BYTES = 1 << 29


@dataclass(frozen=True)
class _Known:
    """Keys and values of a whole text, by layer, each [head, pos, d]."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for pair in self.layers for tensor in pair)


class Beginnings:
    """Keys and values of texts, those used last kept.

    Each text is run alone and whole, so that what is found for a beginning depends on nothing but its text: not on the
    texts beside it, nor on who asked first. Models that keep keys and values of part of the text only (sliding windows)
    are run anew on each beginning.

    Args:
        subject: A decoder.
        most_bytes: Of keys and values to keep.
        around: Entered while texts are run, such as to count their passes for nobody.
    """

    def __init__(
        self,
        subject: Subject,
        most_bytes: int = MOST_BYTES,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._subject, self._most, self._around = subject, most_bytes, around
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._bytes = 0
        self._cache: Any = None

    def of(self, texts: Sequence[Sequence[int]], lengths: Sequence[int]) -> Prefix:
        """The first `lengths[i]` tokens of text i, a row each.

        Raises:
            InterventionError: The model is an encoder, or keeps no keys and values, or a beginning has no tokens.
            SubjectError: A text is too long.
        """
        with self._subject.lock, self._around():
            found = [self._find(text) for text in texts]
            known = [one for one in found if one is not None]
            if len(known) < len(found) or not all(lengths):
                return prefill(self._subject, [text[:length] for text, length in zip(texts, lengths, strict=True)])
            return self._joined(known, lengths)

    def _find(self, text: Sequence[int]) -> _Known | None:
        key = np.asarray(text, dtype=np.int64).tobytes()
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        cache = prefill(self._subject, [text]).cache
        if not is_plain(cache):
            return None
        known = _Known(tuple((layer.keys[0], layer.values[0]) for layer in cache.layers))
        self._cache, self._known[key] = cache, known
        self._bytes += known.bytes
        while self._bytes > self._most and len(self._known) > 1:
            self._bytes -= self._known.popitem(last=False)[1].bytes
        return known

    def _joined(self, known: Sequence[_Known], lengths: Sequence[int]) -> Prefix:
        """One prefix, padded on the left."""
        width = max(lengths)
        mask = torch.zeros(len(lengths), width, dtype=torch.int64)
        for row, length in enumerate(lengths):
            mask[row, width - length :] = 1
        cache = copy.copy(self._cache)
        cache.layers = []
        for number in range(len(known[0].layers)):
            layer = DynamicLayer()
            pair = [_padded([one.layers[number][part] for one in known], lengths, width) for part in (0, 1)]
            layer.lazy_initialization(*pair)
            layer.keys, layer.values = pair
            cache.layers.append(layer)
        return Prefix(self._subject, cache, mask)


def _padded(tensors: Sequence[Tensor], lengths: Sequence[int], width: int) -> Tensor:
    """[row, head, width, d] of tensors [head, pos, d], their first `length` positions at the right end."""
    heads, _, size = tensors[0].shape
    rows = tensors[0].new_zeros(len(tensors), heads, width, size)
    for row, (tensor, length) in enumerate(zip(tensors, lengths, strict=True)):
        rows[row, :, width - length :] = tensor[:, :length]
    return rows
