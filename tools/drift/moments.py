"""Correlations between units of two subjects over a stream of tokens, from sums that are kept in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Doubles = npt.NDArray[np.float64]


class Scalars:
    """Pearson correlation of chosen units' activations [token, n] with all of a group's [token, width].

    Sums are of what is left when the first batch's means are taken off, so that variances do not cancel.
    """

    def __init__(self) -> None:
        self._count = 0
        self._shift: tuple[Tensor, Tensor] | None = None
        self._sums: list[Tensor] = []

    def add(self, chosen: Tensor, group: Tensor) -> None:
        """More tokens."""
        if self._shift is None:
            self._shift = (chosen.mean(0), group.mean(0))
        x, y = chosen - self._shift[0], group - self._shift[1]
        parts = [x.sum(0), (x * x).sum(0), y.sum(0), (y * y).sum(0), x.T @ y]
        found = [part.double().cpu() for part in parts]
        self._sums = found if not self._sums else [a + b for a, b in zip(self._sums, found, strict=True)]
        self._count += len(chosen)

    def correlations(self) -> Doubles:
        """[n, width]; 0 where one of the two does not vary."""
        sx, sxx, sy, syy, sxy = (part.numpy() for part in self._sums)
        n = self._count
        vx, vy = sxx - sx**2 / n, syy - sy**2 / n
        covariance = sxy - np.outer(sx, sy) / n
        scale = np.sqrt(np.outer(np.maximum(vx, 0), np.maximum(vy, 0)))
        # Relative to the raw squares: below it a variance is rounding.
        varies = np.outer(vx > 1e-9 * np.maximum(sxx, 1e-30), vy > 1e-9 * np.maximum(syy, 1e-30)) & (scale > 0)
        found: Doubles = np.clip(np.divide(covariance, scale, out=np.zeros_like(covariance), where=varies), -1, 1)
        return found


class Vectors:
    """Similarity of what heads write: the cosine of their writes over all tokens and dimensions at once.

    With X and Y the writes of two heads, [token, d_model] each, it is <X, Y> / (|X| |Y|) in the Frobenius norm: 1 where
    one writes what the other does up to a factor, at each token.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []

    def add(self, chosen: Tensor, group: Tensor) -> None:
        """More tokens: writes [token, n, d_model] and [token, heads, d_model]."""
        parts = [
            (chosen * chosen).sum((0, 2)),
            (group * group).sum((0, 2)),
            torch.einsum("tnd,thd->nh", chosen, group),
        ]
        found = [part.double().cpu() for part in parts]
        self._sums = found if not self._sums else [a + b for a, b in zip(self._sums, found, strict=True)]

    def correlations(self) -> Doubles:
        """[n, heads]; 0 where a head writes nothing."""
        xx, yy, xy = (part.numpy() for part in self._sums)
        scale = np.sqrt(np.outer(xx, yy))
        found: Doubles = np.clip(np.divide(xy, scale, out=np.zeros_like(xy), where=scale > 0), -1, 1)
        return found
