"""Attribution patching: all patches of a grid estimated from gradients, the strongest then run exactly.

The effect of a patch is, to first order, the derivative of the metric by what is patched times the change (Nanda 2023;
Syed et al. 2023, arXiv 2310.10348). Two passes estimate everything; where the metric bends, as in attention that
saturates, estimates can be far off. So they only screen: what is claimed has been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import Array, rank_correlation, ratio
from tools.interventions import replace, run
from tools.patching.grid import Grid, Numbers, patched_sums
from tools.patching.metrics import Direction
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.patching.sweep import by_prompt, difference_of
from tools.subject import Subject
from tools.types import Site


@dataclass(frozen=True)
class Checked:
    """One patch that was estimated and run; effects are normalised as in `Effects`."""

    layer: int
    position: int | None
    channel: int | None
    estimate: float
    exact: float
    error: float
    """Standard error of `exact` over prompts; NaN for a single one."""
    screened: bool
    """Whether it is one of the strongest by estimate; else it was drawn at random."""


@dataclass(frozen=True)
class Screen:
    """Estimated effects on the logit difference in one direction, and those that were checked."""

    kind: str
    direction: Direction
    layers: tuple[int, ...]
    positions: tuple[int, ...] | None
    channels: tuple[int, ...] | None
    estimates: Array
    """[layer, position, channel]."""
    checked: tuple[Checked, ...]
    """The strongest by estimate first, then those drawn at random from the rest."""
    rank_correlation: float | None
    """Spearman's, of estimates and exact effects of all that were checked; None for fewer than three."""
    prompts: int
    tokens: tuple[str, ...]
    """The first clean prompt's."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "estimates": self.estimates.tolist(), "checked": [asdict(one) for one in self.checked]}


def screen(
    subject: Subject,
    pairs: Sequence[TokenPair],
    kind: str = "head_z",
    *,
    layers: Sequence[int] | None = None,
    positions: Numbers = "each",
    channels: Numbers = None,
    direction: Direction = "denoising",
    confirm: int = 20,
    seed: int = 0,
) -> Screen:
    """Estimate every patch of a grid from two passes, and run the strongest, and as many others drawn at random.

    Args:
        subject: A model with a head.
        pairs: See `encode_pairs`.
        kind: As in `sweep`, as are `layers`, `positions` and `channels`.
        direction: Denoising takes gradients at the corrupted run, noising at the clean one.
        confirm: How many of the strongest to run; at least 1.
        seed: Of the others that are drawn.

    Raises:
        As `sweep`.
    """
    if confirm < 1:
        raise InterventionError("A screen claims nothing: run at least 1 of what it finds.")
    grid = Grid(subject, pairs, kind, layers=layers, positions=positions, channels=channels, window=1)
    prompts = np.array([pair.prompt for pair in pairs])
    sums = np.zeros((len(pairs), *grid.shape))
    gap = np.zeros((2, 1, len(pairs)))
    with subject.lock:
        for group in groups(subject, pairs, grid.sites):
            sums[list(group.numbers)] = _estimates(grid, group, direction)
            for side, name in enumerate(("clean", "corrupt")):
                gap[side][:, group.numbers] = group.baselines[name][:1].cpu().numpy()
        difference = by_prompt(difference_of(gap), prompts)[0]
        estimates, _ = ratio(by_prompt(sums[None], prompts)[0], difference)
        order = np.argsort(-np.abs(estimates), axis=None, kind="stable")
        top, rest = order[:confirm], order[confirm:]
        others = np.random.default_rng(seed).permutation(rest)[:confirm]
        only = np.zeros(estimates.size, dtype=bool)
        only[[*top, *others]] = True
        with torch.inference_mode():
            exact, _, _ = patched_sums(
                grid, groups(subject, pairs, grid.sites), len(pairs), [direction], only.reshape(estimates.shape)
            )
    values, errors = ratio(by_prompt(exact[direction], prompts)[0], difference)
    checked = []
    for rank, flat in enumerate([*top, *others]):
        layer, p, c = np.unravel_index(flat, estimates.shape)
        checked.append(
            Checked(
                grid.layers[layer], None if grid.positions is None else grid.positions[p],
                None if grid.channels is None else grid.channels[c], float(estimates[layer, p, c]),
                float(values[layer, p, c]), float(errors[layer, p, c]), rank < len(top),
            )
        )  # fmt: skip
    agreement = rank_correlation(np.array([c.estimate for c in checked]), np.array([c.exact for c in checked]))
    return Screen(
        kind, direction, grid.layers, grid.positions, grid.channels, estimates, tuple(checked), agreement,
        len(set(prompts.tolist())), tuple(subject.pieces(pairs[0].clean)), seed,
    )  # fmt: skip


def _estimates(grid: Grid, group: Group, direction: Direction) -> Array:
    """What each patch restores or takes away, to first order: [pair, layer, position, channel]."""
    base, source = group.sides(direction)
    edits = []
    if base == "corrupt" and group.noised:  # noise is in no token; a copy, for autograd takes no inference tensors
        edits.append(replace(Site(0, "resid_pre"), group.runs[base][Site(0, "resid_pre")].clone()))
    found = run(grid.subject, group.ids[base], None, edits, read=grid.sites, last=True, gradients=True)
    assert found.logits is not None
    logits = found.logits[:, -1]
    rows = torch.arange(len(logits), device=logits.device)
    answer, wrong = group.answer.clone(), group.wrong.clone()
    gradients = found.gradients((logits[rows, answer] - logits[rows, wrong]).float().sum())
    out = []
    with torch.inference_mode():
        for layer in grid.layers:
            site = Site(layer, grid.kind)
            change = group.runs[source][site].float() - group.runs[base][site].float()
            out.append(_by_cell(grid, gradients[site].float() * change))
        estimates = torch.stack(out, 1)
        return (estimates if direction == "denoising" else -estimates).double().cpu().numpy()


def _by_cell(grid: Grid, products: Tensor) -> Tensor:
    """Sums over what is patched together: [pair, position, channel]."""
    if grid.kind == "attn_pattern":
        products = products.sum(-1).transpose(1, 2)
    elif products.ndim == 4:
        products = products.sum(-1)
    if grid.channels is None:
        products = products.flatten(2).sum(-1, keepdim=True)
    else:
        products = products[:, :, list(grid.channels)]
    return products.sum(1, keepdim=True) if grid.positions is None else products[:, list(grid.positions)]
