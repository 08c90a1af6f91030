"""One site kind patched at every layer, position and channel (head, neuron), many patches a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tools.errors import InterventionError
from tools.estimates import Array, ratio
from tools.patching.grid import Grid, Numbers, patched_sums
from tools.patching.metrics import DIRECTIONS, METRICS, Direction, Metric
from tools.patching.pairs import TokenPair
from tools.patching.runs import groups
from tools.subject import Subject
from tools.types import BoolArray

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
    grid = Grid(subject, pairs, kind, layers=layers, positions=positions, channels=channels, window=window)
    with subject.lock, torch.inference_mode():
        sums, baselines, patches = patched_sums(grid, groups(subject, pairs, grid.sites), len(pairs), directions)
    prompts = np.array([pair.prompt for pair in pairs])
    gap = by_prompt(difference_of(baselines), prompts)
    done = {d: _effects(by_prompt(s, prompts), gap) for d, s in sums.items()}
    clean, corrupt = (dict(zip(METRICS, values.mean(1).tolist(), strict=True)) for values in baselines)
    return Sweep(
        kind, grid.layers, window, grid.positions, tuple(subject.pieces(pairs[0].clean)),
        tuple(subject.pieces(pairs[0].corrupt)), grid.channels, done.get("denoising"), done.get("noising"),
        clean, corrupt, len(set(prompts.tolist())),
        0 if pairs[0].noise is None else pairs[0].noise.draws, patches,
    )  # fmt: skip


def difference_of(baselines: Array) -> Array:
    """Clean less corrupted, [metric, pair].

    Raises:
        InterventionError: There is none in the logits.
    """
    gap: Array = baselines[0] - baselines[1]
    if not gap[0].sum():
        raise InterventionError("The corrupted prompts get just the logit difference of the clean ones.")
    return gap


def by_prompt(values: Array, prompts: npt.NDArray[np.int64]) -> Array:
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
