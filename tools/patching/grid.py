"""The grid of a sweep: layers, positions and channels, in batches of patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import Array
from tools.hooking.attention import INSIDE
from tools.interventions import AttentionWhere, Edit, Where, replace, replace_attention, set_to
from tools.patching.metrics import METRICS, Direction
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group
from tools.subject import Subject
from tools.types import BoolArray, Site

Numbers = Sequence[int] | Literal["each"] | None


@dataclass(frozen=True)
class Cells:
    """Patches of one batch, all from one first layer: for each row its pair, and its place in the grid."""

    layer: int
    rows: Tensor
    place: tuple[Any, ...]
    positions: list[int] | None
    channels: list[int] | None


class Grid:
    """What is patched, checked."""

    def __init__(
        self, subject: Subject, pairs: Sequence[TokenPair], kind: str, *, layers: Sequence[int] | None,
        positions: Numbers, channels: Numbers, window: int,
    ) -> None:  # fmt: skip
        self.subject, self.kind, self.window = subject, kind, window
        if not 1 <= window <= subject.n_layers:
            raise InterventionError(f"A window is 1-{subject.n_layers} layers of '{subject.name}', not {window}.")
        starts = range(subject.n_layers - window + 1) if layers is None else layers
        self.layers = tuple(dict.fromkeys(int(layer) for layer in starts))
        self.sites = [Site(layer, kind) for layer in sorted({s + i for s in self.layers for i in range(window)})]
        for site in self.sites:
            subject.sites.tap(site)
        self.positions = self._positions(pairs, positions)
        self.channels = self._channels(channels)
        self.shape = (
            len(self.layers), 1 if self.positions is None else len(self.positions),
            1 if self.channels is None else len(self.channels),
        )  # fmt: skip

    def _positions(self, pairs: Sequence[TokenPair], positions: Numbers) -> tuple[int, ...] | None:
        if positions is None:
            return None
        lengths = {len(pair.clean) for pair in pairs}
        if positions == "each":
            if len(lengths) > 1:
                raise InterventionError(
                    f"The prompts have {min(lengths)} to {max(lengths)} tokens, so their positions are not the same "
                    "places. Give prompts of one length, or patch all positions at once."
                )
            first = min(*(pair.first for pair in pairs), 1)
            return tuple(range(first, min(lengths)))
        chosen = tuple(dict.fromkeys(int(p) for p in positions))
        if not chosen or min(chosen) < 0 or max(chosen) >= min(lengths):
            raise InterventionError(
                f"Position {max(chosen, default=-1)} is not in the prompts, the shortest of which has {min(lengths)} "
                f"tokens (0-{min(lengths) - 1})."
            )
        return chosen

    def _channels(self, channels: Numbers) -> tuple[int, ...] | None:
        if channels is None:
            return None
        plan = self.subject.sites.plans[self.sites[0].layer]
        if self.kind == "mlp_act":
            count, what = plan.n_neurons, "neurons"
        elif self.kind in (*INSIDE, "head_z"):
            count, what = plan.n_heads, "heads"
        else:
            raise InterventionError(f"{self.kind} has no heads or neurons to patch one by one; patch it whole.")
        chosen = tuple(range(count)) if channels == "each" else tuple(dict.fromkeys(int(c) for c in channels))
        if not chosen or min(chosen) < 0 or max(chosen) >= count:
            raise InterventionError(
                f"'{self.subject.name}' has {what} 0-{count - 1} in a layer; there is no {max(chosen, default=-1)}."
            )
        return chosen

    def batches(self, group: Group, only: BoolArray | None = None) -> Iterator[Cells]:
        """All patches of a group that may do something; `only` those of the grid that are True."""
        causal = self.subject.causal
        spots = [(p, c) for p in range(self.shape[1]) for c in range(self.shape[2])]
        cells = [
            (row, p, c)
            for row, pair in enumerate(group.pairs)
            for p, c in spots
            if self.positions is None or not causal or self.positions[p] >= pair.first
        ]
        for number, layer in enumerate(self.layers):
            wanted = cells if only is None else [cell for cell in cells if only[number, cell[1], cell[2]]]
            for start in range(0, len(wanted), group.rows):
                rows, p, c = (list(column) for column in zip(*wanted[start : start + group.rows], strict=True))
                yield Cells(
                    layer, torch.tensor(rows, device=self.subject.device), (number, np.array(p), np.array(c)),
                    None if self.positions is None else [self.positions[i] for i in p],
                    None if self.channels is None else [self.channels[i] for i in c],
                )  # fmt: skip

    def run(self, group: Group, direction: Direction, cells: Cells) -> Tensor:
        """Metrics of one batch of patches, [metric, row]."""
        source = group.runs[group.sides(direction)[1]]
        edits = [
            self._edit(source[Site(layer, self.kind)], layer, cells)
            for layer in range(cells.layer, cells.layer + self.window)
        ]
        return group.patched(direction, cells.rows, cells.layer, edits)

    def _edit(self, source: Tensor, layer: int, cells: Cells) -> Edit:
        site, every = Site(layer, self.kind), range(len(cells.rows))
        if self.kind == "attn_pattern":
            return replace_attention(
                layer, source[cells.rows],
                AttentionWhere(every, heads=cells.channels, queries=cells.positions, paired=True),
            )  # fmt: skip
        where = Where(every, cells.positions, cells.channels, paired=True)
        if cells.positions is None:
            return replace(site, source[cells.rows], where)
        index: tuple[Any, ...] = (cells.rows, torch.tensor(cells.positions, device=source.device))
        if cells.channels is not None:
            index = (*index, torch.tensor(cells.channels, device=source.device))
        return set_to(site, source[index], where, per_row=True)


def patched_sums(
    grid: Grid, groups: Iterator[Group], pairs: int, directions: Sequence[Direction], only: BoolArray | None = None
) -> tuple[dict[Direction, Array], Array, int]:
    """Runs all patches of a grid.

    Args:
        grid: What is patched.
        groups: The pairs.
        pairs: How many there are.
        directions: Which.
        only: bool, of the grid's shape: which patches to run.

    Returns:
        By direction what each patch restores or takes away, [metric, pair, layer, position, channel]; the baselines
        [clean or corrupt, metric, pair]; and the number of runs.
    """
    sums = {d: np.zeros((len(METRICS), pairs, *grid.shape)) for d in directions}
    baselines = np.zeros((2, len(METRICS), pairs))
    patches = 0
    for group in groups:
        for side, values in enumerate(("clean", "corrupt")):
            baselines[side][:, group.numbers] = group.baselines[values].cpu().numpy()
        for direction in directions:
            for cells in grid.batches(group, only):
                got = grid.run(group, direction, cells).cpu().numpy()
                base = group.baselines[group.sides(direction)[0]][:, cells.rows].cpu().numpy()
                at = (slice(None), np.array(group.numbers)[cells.rows.cpu().numpy()], *cells.place)
                sums[direction][at] = got - base if direction == "denoising" else base - got
                patches += got.shape[1]
    return sums, baselines, patches
