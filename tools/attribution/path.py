"""Gradients along a straight path from a baseline to the run as it is: what integrated gradients are made of.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365, eq. 1) give each part (x - x') times the mean of
dF/dx over the path x' + alpha (x - x'). Their sum is F(x) - F(x') (completeness); how far a sum of finitely many steps
is from that is known, and always reported.

That holds for every stretch of the path as well, so it is known where steps are lacking: the path is cut into panels
with a few Gauss-Legendre nodes each, and the panels whose sums are farthest from what F does between their ends are
halved until the whole is exact to a ten-thousandth, or the steps are used up. Kinks of rectifiers and the turns that a
norm takes near a small input are met in this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tools.attribution.targets import Array, Reader
from tools.capture import Captured
from tools.interventions import Edit, Resume, change, run
from tools.types import Site

Rule: TypeAlias = Literal["gauss-legendre", "trapezoid"]

#: Nodes of a panel.
_NODES = 8
#: Panels with at least this share of the worst one's error are halved with it.
_FAR = 0.25
#: Where halving ends: an error of this share of the whole, or of so many roundings.
_EXACT, _ROUNDING = 1e-4, 16


@dataclass(frozen=True)
class Steps:
    """Where along the path gradients are taken."""

    n: int = 64
    """At most, of panels; all of them, of the trapezoid rule."""
    rule: Rule = "gauss-legendre"

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"a path needs at least 2 steps, not {self.n}")

    def nodes(self) -> tuple[Array, Array]:
        """Shares of the way from the baseline, and their weights, which sum to 1; [n] each, without panels."""
        if self.rule == "trapezoid":
            weights = np.full(self.n, 1.0)
            weights[[0, -1]] = 0.5
            return np.linspace(0.0, 1.0, self.n), weights / weights.sum()
        nodes, weights = np.polynomial.legendre.leggauss(self.n)
        return (nodes + 1) / 2, weights / 2


@dataclass(frozen=True)
class Path:
    """A path of one site's tensor: from the run's own plus `offset` (the baseline) to the run's own."""

    reader: Reader
    site: Site
    offset: Tensor
    """[pos, ...]; zero where the tensor stays as it is."""
    resume: Resume | None = None

    def edit(self, alphas: Array) -> Edit:
        """Puts row r at `alphas[r]` of the way."""
        left = torch.from_numpy(1.0 - alphas).reshape(-1, *[1] * self.offset.ndim)

        def moved(old: Tensor) -> Tensor:
            return old + (left.to(old.device) * self.offset.to(old.device, torch.float64)).to(old.dtype)

        return change(self.site, moved, name="path")

    def values(self, alphas: Array) -> Array:
        """F at points of the path."""
        rows, reader = self.reader.rows, self.reader
        parts = [alphas[i : i + rows] for i in range(0, len(alphas), rows)]
        return np.concatenate([reader.run(reader.row(len(part)), [self.edit(part)]) for part in parts])

    def runs(self, alphas: Array, read: tuple[Site, ...] = ()) -> Iterator[tuple[slice, Captured, dict[Site, Tensor]]]:
        """Runs at points of the path, in batches: which points, what was read, and dF by each of it."""
        reader = self.reader
        for first in range(0, len(alphas), reader.rows):
            part = alphas[first : first + reader.rows]
            captured = run(
                reader.subject, reader.row(len(part)), None, [self.edit(part)],
                read=dict.fromkeys([self.site, *read, *reader.sites]), logits=reader.logits, gradients=True,
                resume=self.resume,
            )  # fmt: skip
            with torch.enable_grad():
                gradients = captured.gradients(reader.values(captured).sum())
            yield slice(first, first + len(part)), captured, gradients

    def mean_gradient(self, steps: Steps) -> Tensor:
        """Mean of dF by the site's tensor over the path, float64 [pos, ...]."""
        if steps.rule == "trapezoid":
            return self._weighted(*steps.nodes())[0]
        each = min(_NODES, steps.n)
        borders = np.linspace(0.0, 1.0, max(1, steps.n // (2 * each)) + 1)
        values = self.values(borders)
        precise = torch.finfo(self.reader.subject.dtype).eps * _ROUNDING * float(np.abs(values).max())
        target = max(_EXACT * float(np.abs(np.diff(values)).sum()), precise)
        panels = [_Panel(*ends) for ends in zip(borders[:-1], borders[1:], values[:-1], values[1:], strict=True)]
        left = steps.n - each * len(panels)
        pool = self._measured(panels, each)
        while True:
            pool.sort(key=lambda one: -one.error)
            wanted = sum(one.error >= _FAR * pool[0].error for one in pool)
            halved = min(wanted, left // (2 * each))
            if not halved or sum(one.error for one in pool) <= target:
                break
            left -= 2 * each * halved
            pool[:halved] = self._measured(self._halves([one.panel for one in pool[:halved]]), each)
        total = torch.zeros_like(self.offset, dtype=torch.float64)
        for one in pool:
            total += one.gradient
        return total

    def _measured(self, panels: Sequence[_Panel], each: int) -> list[_Measured]:
        sums = [self._weighted(*panel.nodes(each)) for panel in panels]
        return [_Measured(panel, gradient.float(), abs(along - panel.rise))
                for panel, (gradient, along) in zip(panels, sums, strict=True)]  # fmt: skip

    def _halves(self, panels: Sequence[_Panel]) -> list[_Panel]:
        middles = np.array([(panel.start + panel.end) / 2 for panel in panels])
        halves = zip(panels, middles, self.values(middles), strict=True)
        pairs = [
            (_Panel(panel.start, at, panel.low, value), _Panel(at, panel.end, value, panel.high))
            for panel, at, value in halves
        ]
        return [half for pair in pairs for half in pair]

    def _weighted(self, alphas: Array, weights: Array) -> tuple[Tensor, float]:
        """A weighted sum of gradients, float64 [pos, ...], and what it says that F rises."""
        total = torch.zeros_like(self.offset, dtype=torch.float64)
        for rows, _, gradients in self.runs(alphas):
            weight = torch.from_numpy(weights[rows]).to(total.device)
            total += torch.tensordot(weight, gradients[self.site].double(), dims=1)
        return total, -float((total * self.offset.double()).sum())


@dataclass(frozen=True)
class _Panel:
    """A stretch of the path, and F at its ends."""

    start: float
    end: float
    low: float
    high: float

    @property
    def rise(self) -> float:
        return self.high - self.low

    def nodes(self, n: int) -> tuple[Array, Array]:
        """Gauss-Legendre nodes within, and their weights, which sum to the panel's width."""
        nodes, weights = np.polynomial.legendre.leggauss(n)
        width = self.end - self.start
        return self.start + width * (nodes + 1) / 2, weights * width / 2


@dataclass(frozen=True)
class _Measured:
    """A panel with its part of the mean gradient, and how far that is from F's rise."""

    panel: _Panel
    gradient: Tensor
    error: float
