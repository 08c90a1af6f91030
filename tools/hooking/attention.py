"""Queries, keys, patterns and values inside attention, where no module hands them out.

Attention that is computed explicitly is two matrix products: queries with keys, and the pattern with the values. While
an attention module runs, its products are watched; what goes into them can be read and replaced. That needs no module
names and holds for grouped keys (which are repeated before the product), rotary embeddings (queries and keys are seen
after them), soft caps, sliding windows and attention sinks alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Sites inside attention. Queries, keys and values are [batch, pos, head, d_head].
INSIDE = ("head_q", "head_k", "attn_pattern", "head_v")

_PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}

Visit = Callable[[str, Tensor], Tensor]
"""Told a site kind and its tensor in the site's own shape, gives back the tensor to go on with."""


class Watch(TorchFunctionMode):
    """Active while one attention module runs; calls `visit` for each of `INSIDE`."""

    def __init__(self, batch: int, heads: int, visit: Visit) -> None:
        super().__init__()
        self._batch, self._heads, self._visit = batch, heads, visit
        self._scores: tuple[int, ...] | None = None
        self.done = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Looks at matrix products; all else passes."""
        if self.done or func not in _PRODUCTS or len(args) < 2:
            return func(*args, **(kwargs or {}))
        left, right = args[0], args[1]
        if not (isinstance(left, Tensor) and isinstance(right, Tensor) and left.ndim == right.ndim == 4):
            return func(*args, **(kwargs or {}))
        if tuple(left.shape[:2]) != (self._batch, self._heads):
            return func(*args, **(kwargs or {}))
        if self._scores is None:
            left = self._visit("head_q", left.transpose(1, 2)).transpose(1, 2)
            right = self._visit("head_k", right.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            scores = torch.matmul(left, right)
            self._scores = tuple(scores.shape)
            return scores
        if tuple(left.shape) == self._scores:
            self.done = True
            left = self._visit("attn_pattern", left)
            right = self._visit("head_v", right.transpose(1, 2)).transpose(1, 2)
        return torch.matmul(left, right)
