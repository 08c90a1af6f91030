"""Integrated gradients and conductance of units: how much of a target a layer's neurons, a dictionary's latents, heads
or a direction account for.

*Integrated gradients on units* move all chosen units of one group together from a baseline to what they are on the
text, and give each its part of what that changes; the sum is F(text) - F(units at baseline). *Conductance* (Dhamdhere
et al. 2018, arXiv 1805.12233, eq. 2) moves the text's embeddings instead and gives each unit what passes through it:
the integral of dF/dy dy along the path, here by the trapezoid rule over the values y that the unit takes on it (as in
Shrikumar et al. 2018, arXiv 1807.09946). What passes by the units is not theirs, so conductances do not sum to the
whole; the numerical error is that of the residual stream that enters the layer, through which everything passes.

The first position is left as it is: many models rest there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tools.ablation.reference import Reference, position_means
from tools.attribution.path import Path, Steps
from tools.attribution.targets import Array, Reader
from tools.attribution.unit_space import UnitSpace
from tools.errors import UnitError
from tools.interventions import Resume, run
from tools.types import Site

Baseline: TypeAlias = Literal["zero", "mean"]


@dataclass(frozen=True)
class UnitShares:
    """Each unit's part at each position."""

    values: Array
    """[pos, unit]."""
    value: float
    """F of the text as it is."""
    baseline: float
    """F at the beginning of the path."""
    error: float
    """How far the sum over the path is from `value` - `baseline`."""


def baseline_values(space: UnitSpace, baseline: Baseline, reference: Reference | None, like: Tensor) -> Tensor:
    """Values of a baseline, of the shape of `like` [pos, unit(, d_head)]: zeros, or the reference set's means at each
    position.

    Raises:
        UnitError: A mean is wanted, and there is no reference set.
    """
    if baseline == "zero":
        return torch.zeros_like(like)
    if reference is None:
        raise UnitError("A mean baseline needs reference texts; there are none.")
    means = position_means(space.subject, [space.group], reference, len(like))[space.group]
    return means.to(like).clone()


def integrated_gradients(
    reader: Reader,
    space: UnitSpace,
    indices: Sequence[int] | None = None,
    *,
    baseline: Baseline = "zero",
    reference: Reference | None = None,
    steps: Steps = Steps(),
) -> UnitShares:
    """Parts of the chosen units of a group (None: all) in what moving them together from the baseline changes.

    Raises:
        UnitError: The target is computed before the units are, or there is no such unit.
    """
    path, clean, change = unit_path(reader, space, indices, baseline, reference)
    gradient = path.mean_gradient(steps)
    with torch.inference_mode():
        products = -change.double() * space.pulled(gradient, clean).double()
        values = space.summed(products).cpu().numpy()
    start, end = path.values(np.array([0.0, 1.0]))
    return UnitShares(values, float(end), float(start), float(abs(values.sum() - (end - start))))


def unit_path(
    reader: Reader, space: UnitSpace, indices: Sequence[int] | None, baseline: Baseline,
    reference: Reference | None,
) -> tuple[Path, Tensor, Tensor]:  # fmt: skip
    """The path of chosen units; what their group reads on the text [pos, ...]; the change of values that leads to the
    baseline [pos, unit(, d_head)]."""
    chosen = None if indices is None else tuple(int(i) for i in indices)
    space.check(chosen)
    check_before(reader, space.site)
    subject, entering = reader.subject, Site(space.site.layer, "resid_pre")
    captured = run(subject, reader.row(), read=dict.fromkeys([space.reads, space.site, entering]), logits=False)
    with torch.inference_mode():
        now = space.values(captured[space.reads])[0]
    now, clean = now.clone(), captured[space.reads][0].clone()
    change = baseline_values(space, baseline, reference, now) - now
    change[0] = 0.0
    if chosen is not None:
        kept = torch.zeros(space.width, dtype=torch.bool, device=change.device)
        kept[list(chosen)] = True
        change[:, ~kept] = 0.0
    with torch.inference_mode():
        offset = space.moved(change, clean)
    resume = Resume(entering.layer, captured[entering].clone())
    return Path(reader, space.site, offset.clone(), resume), clean, change


def conductance(
    reader: Reader, path: Path, spaces: Sequence[UnitSpace], steps: Steps = Steps()
) -> list[UnitShares]:  # fmt: skip
    """Conductances of whole groups, all along one path of the embeddings (see `tools.attribution.embeddings`)."""
    for space in spaces:
        check_before(reader, space.site)
    nodes, _ = steps.nodes()
    alphas = np.unique(np.concatenate([[0.0], nodes, [1.0]]))
    streams = {space.group: Site(space.site.layer, "resid_pre") for space in spaces}
    sums = {space.group: _Stieltjes() for space in spaces}
    through = {site: _Stieltjes() for site in streams.values()}
    wanted = tuple({site for space in spaces for site in (space.reads, space.site)} | set(streams.values()))
    for _, captured, gradients in path.runs(alphas, wanted):
        for site, stieltjes in through.items():
            stieltjes.extend(captured[site].detach().double(), gradients[site].double())
        for space in spaces:
            with torch.no_grad():
                values = space.values(captured[space.reads]).double()
            read = captured[space.reads].detach()
            by = torch.stack([space.pulled(gradients[space.site][r], read[r]).double() for r in range(len(read))])
            sums[space.group].extend(values, by)
    start, end = path.values(np.array([0.0, 1.0]))
    found = []
    for space in spaces:
        shares = space.summed(sums[space.group].total).cpu().numpy()
        whole = float(through[streams[space.group]].total.sum())
        found.append(UnitShares(shares, float(end), float(start), abs(whole - float(end - start))))
    return found


class _Stieltjes:
    """The integral of g dy by the trapezoid rule, over points that come in batches."""

    def __init__(self) -> None:
        self.total = torch.zeros(())
        self._last: tuple[Tensor, Tensor] | None = None

    def extend(self, y: Tensor, g: Tensor) -> None:
        """Further points, [point, ...] each."""
        if self._last is None:
            self.total = torch.zeros_like(y[0])
        else:
            y, g = torch.cat([self._last[0], y]), torch.cat([self._last[1], g])
        self.total = self.total + (0.5 * (g[1:] + g[:-1]) * (y[1:] - y[:-1])).sum(0)
        self._last = y[-1:], g[-1:]


def check_before(reader: Reader, site: Site) -> None:
    """Raise UnitError when a target is computed before a site."""
    for read in reader.sites:
        if read.layer < site.layer:
            raise UnitError(f"{read} is computed before {site}, so that nothing there can have an effect on it.")
