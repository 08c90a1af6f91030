"""Random directions that push where a unit pushes, as hard as it does and at the same positions.

Any vector of a given length does something to the logits. That a unit does more to some tokens than a random vector of
its length is what has to be shown (matched in norm and in density, as every control here is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.hooking.attention import INSIDE
from tools.hooking.edits import Edit, Selection
from tools.interventions import Where
from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import check_unit
from tools.write_site import write_site


@dataclass(frozen=True)
class Control:
    """A random direction at the site where a unit writes."""

    site: Site
    vector: Tensor
    """float32 [d_model], of length 1. How far it is gone along at each position is the length of the unit's own write
    there; see `effects_at`."""


def push_site(subject: Subject, unit: UnitId) -> Site:
    """Where the tensor is, as wide as the residual stream, in which a unit's write first shows.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: Nothing of the unit's own is written.
    """
    check_unit(subject, unit)
    site = write_site(subject, unit)
    if unit.kind == "fn" or site.kind in INSIDE:
        raise InterventionError(f"{unit} cannot be driven: nothing of its own is added to the residual stream.")
    return site


def matched_controls(subject: Subject, unit: UnitId, n: int = 32, seed: int = 0) -> list[Control]:
    """Random directions, uniform over the sphere, at the site where a unit writes.

    Args:
        subject: The model.
        unit: What they are compared with.
        n: How many. The smallest p-value that they can give is 1 / (n + 1).
        seed: Of the draw; the first directions of a longer list are those of a shorter one.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: Nothing of the unit's own is written.
    """
    site = push_site(subject, unit)
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(subject.d_model, generator=generator, dtype=torch.float64) for _ in range(n)]
    return [Control(site, (vector / vector.norm()).float().to(subject.device)) for vector in drawn]


def push(site: Site, vectors: Tensor, lengths: Tensor, rows: Sequence[int]) -> Edit:
    """Another direction for each of some rows of a batch, and another length at each of its positions.

    Args:
        site: Where, as wide as the residual stream.
        vectors: [len(rows), d_model].
        lengths: [batch, pos] of the whole texts; 0 where nothing is added.
        rows: Which rows.
    """

    def new(old: Tensor, at: Selection) -> Tensor:
        return old + (at.of(lengths)[..., None] * at.per_row(vectors)).to(old.dtype)

    return Edit(site, Where(rows=list(rows)), new, {"op": "push", "directions": len(vectors)})
