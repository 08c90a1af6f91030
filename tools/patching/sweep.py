"""One site kind patched at every layer, position and channel (head, neuron), many patches a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.estimates import Array, ratio
from tools.hooking.attention import INSIDE
from tools.interventions import AttentionWhere, Edit, Where, replace, replace_attention, set_to
from tools.patching.metrics import DIRECTIONS, METRICS, Direction, Metric
from tools.patching.pairs import TokenPair
from tools.patching.runs import Group, groups
from tools.subject import Subject
from tools.types import BoolArray, Site

Numbers = Sequence[int] | Literal["each"] | None
#: How many standard deviations over all patches make an effect stand out.
_STANDS_OUT = 2.0


@dataclass(frozen=True)
class Effects:
    """Normalised effects, float64 [layer, position, channel]; axes that were patched as one have length 1.

    Denoising: what share of the difference between clean and corrupted runs the patch restores. Noising: what share it
    takes away. Both are 0 for a patch that does nothing and 1 for one that does as much as the whole prompt; below 0 it
    works the other way.
    """

    values: Array
    errors: Array
    """Standard errors over prompts; NaN for a single one."""
    detected: BoolArray
    """More than two standard deviations (over all patches of this sweep) from zero."""


@dataclass(frozen=True)
class Sweep:
    """What patching one site kind did, everywhere; both directions apart."""

    kind: str
    layers: tuple[int, ...]
    """First layer of each patch."""
    window: int
    """Layers that are patched together: effects of more than one are joint effects, and no sums."""
    positions: tuple[int, ...] | None
    """None: all positions at once."""
    tokens: tuple[str, ...]
    """The first clean prompt's tokens, all of them."""
    corrupt_tokens: tuple[str, ...]
    channels: tuple[int, ...] | None
    """Heads or neurons; None: whole vectors."""
    denoising: Mapping[Metric, Effects] | None
    noising: Mapping[Metric, Effects] | None
    clean: Mapping[Metric, float]
    """Each metric of the clean runs, mean over pairs."""
    corrupt: Mapping[Metric, float]
    prompts: int
    draws: int
    """Draws of noise for each prompt; 0 where tokens were replaced."""
    patches: int
    """Runs with a patch that were computed; patches at positions before the prompts differ are known to do nothing."""

    def direction(self, name: Direction) -> Mapping[Metric, Effects]:
        """One of the two directions.

        Raises:
            InterventionError: It was not asked for.
        """
        found = self.denoising if name == "denoising" else self.noising
        if found is None:
            raise InterventionError(f"This sweep has no {name} in it.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; arrays as nested lists."""

        def plain(found: Mapping[Metric, Effects] | None) -> Any:
            return None if found is None else {
                name: {key: value.tolist() for key, value in vars(one).items()} for name, one in found.items()
            }  # fmt: skip

        rest = {key: value for key, value in vars(self).items() if key not in ("denoising", "noising")}
        return {**rest, "denoising": plain(self.denoising), "noising": plain(self.noising)}


def sweep(
    subject: Subject,
    pairs: Sequence[TokenPair],
    kind: str = "resid_pre",
    *,
    layers: Sequence[int] | None = None,
    positions: Numbers = "each",
    channels: Numbers = None,
    window: int = 1,
    directions: Sequence[Direction] = DIRECTIONS,
) -> Sweep:
    """Patch one kind of site at every layer, position and channel, one at a time.

    Rows of a batch are patches; blocks below a patch are not computed again, and patches before the first position at
    which the prompts of a causal model differ are not computed at all.

    Args:
        subject: A model with a head.
        pairs: See `encode_pairs`.
        kind: `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `mlp_act`, `head_z`, `head_q`, `head_k`,
            `head_v` or `attn_pattern` (whose positions are queries).
        layers: First layers; None: all.
        positions: ``each``, some, or None to patch all positions at once. ``each`` leaves out position 0 unless the
            prompts differ there, and needs prompts of one length.
        channels: Heads, or neurons of ``mlp_act``: ``each``, some, or None to patch them together.
        window: Layers that are patched together.
        directions: Which.

    Raises:
        UnitError: There is no such site, layer or channel.
        InterventionError: Positions are beyond the prompts, or prompts of several lengths have none in common, or the
            corrupted prompts do just as the clean ones.
        SubjectError: The subject has no logits.
    """
    grid = _Grid(subject, pairs, kind, layers=layers, positions=positions, channels=channels, window=window)
    sums = {d: np.zeros((len(METRICS), len(pairs), *grid.shape)) for d in directions}
    baselines = {side: np.zeros((len(METRICS), len(pairs))) for side in ("clean", "corrupt")}
    patches = 0
    with subject.lock, torch.inference_mode():
        for group in groups(subject, pairs, grid.sites):
            for side, values in baselines.items():
                values[:, group.numbers] = group.baselines[side].cpu().numpy()
            for direction in directions:
                for cells in grid.batches(group):
                    got = grid.run(group, direction, cells).cpu().numpy()
                    base = group.baselines[group.sides(direction)[0]][:, cells.rows].cpu().numpy()
                    at = (slice(None), np.array(group.numbers)[cells.rows.cpu().numpy()], *cells.place)
                    sums[direction][at] = got - base if direction == "denoising" else base - got
                    patches += got.shape[1]
    prompts = np.array([pair.prompt for pair in pairs])
    gap = baselines["clean"] - baselines["corrupt"]
    if not gap[0].sum():
        raise InterventionError("The corrupted prompts get just the logit difference of the clean ones.")
    done = {d: _effects(_by_prompt(s, prompts), _by_prompt(gap, prompts)) for d, s in sums.items()}
    means = {side: dict(zip(METRICS, values.mean(1).tolist(), strict=True)) for side, values in baselines.items()}
    return Sweep(
        kind, grid.layers, window, grid.positions, tuple(subject.pieces(pairs[0].clean)),
        tuple(subject.pieces(pairs[0].corrupt)), grid.channels, done.get("denoising"), done.get("noising"),
        means["clean"], means["corrupt"], len(set(prompts.tolist())),
        0 if pairs[0].noise is None else pairs[0].noise.draws, patches,
    )  # fmt: skip


def _by_prompt(values: Array, prompts: npt.NDArray[np.int64]) -> Array:
    """Sums over the draws of each prompt: [metric, pair, ...] -> [metric, prompt, ...]."""
    if len(set(prompts.tolist())) == len(prompts):
        return values
    _, where = np.unique(prompts, return_inverse=True)
    return np.stack([values[:, where == number].sum(1) for number in range(int(where.max()) + 1)], 1)


def _effects(sums: Array, gap: Array) -> dict[Metric, Effects]:
    found: dict[Metric, Effects] = {}
    for number, metric in enumerate(METRICS):
        values, errors = ratio(sums[number], gap[number])
        deviation = float(np.nanstd(values)) if np.isfinite(values).any() else math.nan
        found[metric] = Effects(values, errors, np.abs(values) > _STANDS_OUT * deviation)
    return found


@dataclass(frozen=True)
class _Cells:
    """Patches of one batch, all from one first layer: for each row its pair, and its place in the grid."""

    layer: int
    rows: Tensor
    place: tuple[Any, ...]
    positions: list[int] | None
    channels: list[int] | None


class _Grid:
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

    def batches(self, group: Group) -> Iterator[_Cells]:
        """All patches of a group that may do something."""
        causal = self.subject.causal
        spots = [(p, c) for p in range(self.shape[1]) for c in range(self.shape[2])]
        cells = [
            (row, p, c)
            for row, pair in enumerate(group.pairs)
            for p, c in spots
            if self.positions is None or not causal or self.positions[p] >= pair.first
        ]
        for number, layer in enumerate(self.layers):
            for start in range(0, len(cells), group.rows):
                rows, p, c = (list(column) for column in zip(*cells[start : start + group.rows], strict=True))
                yield _Cells(
                    layer, torch.tensor(rows, device=self.subject.device), (number, np.array(p), np.array(c)),
                    None if self.positions is None else [self.positions[i] for i in p],
                    None if self.channels is None else [self.channels[i] for i in c],
                )  # fmt: skip

    def run(self, group: Group, direction: Direction, cells: _Cells) -> Tensor:
        """Metrics of one batch of patches, [metric, row]."""
        source = group.runs[group.sides(direction)[1]]
        edits = [
            self._edit(source[Site(layer, self.kind)], layer, cells)
            for layer in range(cells.layer, cells.layer + self.window)
        ]
        return group.patched(direction, cells.rows, cells.layer, edits)

    def _edit(self, source: Tensor, layer: int, cells: _Cells) -> Edit:
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
