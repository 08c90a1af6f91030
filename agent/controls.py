"""Blind controls: investigations that must come to nothing, hidden among those of a campaign's units.

- *shuffled*: the same unit in a twin of the subject whose weight tensors have their entries permuted. What is learned
  of it says how much of a description comes from the text and from the architecture (Heap et al. 2025, arXiv
  2501.17727: dictionaries on random transformers get similar scores).
- *direction*: the projection on a random direction in the space of the unit's site, as long as the unit's own vector
  there. Not for heads: their activation is a norm and no projection.
- *swapped*: the description that was made of one unit is tested on another unit of the same group.
- *constant*: the same activation at every token; there is nothing to describe, and triage is to throw it out.

Which units are controlled, and where the controls stand in the queue, follows from hashes of the seed. Steps,
explainers and scorers are given a control under the id of the real unit that it is matched to, and cannot tell (see
`agent.guise` and `agent.cast`); the database keeps what they find under an id of its own, and the campaign's end
unblinds it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from agent.seeds import seed_for
from agent.spec import CampaignSpec
from store.records import CONTROL_KIND, UnitRecord
from store.work import ControlRecord
from tools.subject import Direction, Subject
from tools.types import Site, UnitId
from tools.units import group_site, read_direction

#: Kinds of unit that a control of each kind can be matched to.
APPLIES: Mapping[str, tuple[str, ...]] = {
    "shuffled": ("mlp", "sae", "head"),
    "direction": ("mlp", "sae"),
    "swapped": ("mlp", "sae", "head", "fn"),
    "constant": ("mlp", "sae", "head", "fn"),
}
#: Every so many controls one is a constant: triage throws out one like the other, so that many would tell little.
CONSTANT_EVERY = 10


@dataclass(frozen=True)
class Control:
    """One control of a campaign."""

    kind: str
    of: UnitId
    """The real unit that it is matched to, and under whose id it is investigated."""
    number: int
    campaign: str
    """Eight hex digits of the campaign's settings."""
    seed: int
    """Of what is random about it. It follows from the campaign's seed and the unit alone, so that campaigns that differ
    in other settings share an index."""

    @property
    def unit(self) -> str:
        """The id under which the database keeps it; it says nothing of its kind."""
        return f"{CONTROL_KIND}:{self.campaign}:{self.number}"

    @property
    def direction(self) -> UnitId:
        """The direction in the index that a control of this kind stands for."""
        return UnitId(f"dir:{CONTROL_KIND}-{self.seed:x}", 0)


def plan_controls(spec: CampaignSpec, units: Sequence[UnitId]) -> tuple[Control, ...]:
    """The controls of a campaign, in the order of their numbers.

    One of each kind that applies to any of the units, and as many more as make up `spec.controls` of their number.

    Args:
        spec: The campaign.
        units: All of its units, in order.
    """
    groups = Counter(unit.group for unit in units)
    fitting = {
        kind: sorted(
            (unit for unit in units if unit.kind in kinds and (kind != "swapped" or groups[unit.group] > 1)),
            key=lambda unit: seed_for(spec.seed, unit, f"control {kind}"),
        )
        for kind, kinds in APPLIES.items()
    }
    kinds = [kind for kind, fits in fitting.items() if fits]
    if not spec.controls or not kinds:
        return ()
    chosen: list[tuple[str, UnitId]] = []
    for kind, number in _shares(kinds, max(len(kinds), math.ceil(spec.controls * len(units)))).items():
        chosen += [(kind, unit) for unit in fitting[kind][:number]]
    # In an order that tells nothing, so that neither do the numbers.
    chosen.sort(key=lambda one: seed_for(spec.seed, one[1], f"number {one[0]}"))
    return tuple(
        Control(kind, unit, number, spec.spec_hash[:8], seed_for(spec.seed, unit, f"control of kind {kind}"))
        for number, (kind, unit) in enumerate(chosen)
    )


def _shares(kinds: Sequence[str], total: int) -> dict[str, int]:
    """How many controls there are of each kind."""
    constants = max(1, total // CONSTANT_EVERY) if "constant" in kinds else 0
    others = [kind for kind in kinds if kind != "constant"]
    rest = total - constants
    shares = {kind: rest // len(others) + (place < rest % len(others)) for place, kind in enumerate(others)}
    return {**shares, **({"constant": constants} if constants else {})}


def queue(
    spec: CampaignSpec,
    units: Sequence[UnitRecord],
    controls: Sequence[Control],
    layer: Callable[[UnitId], int],
) -> list[UnitRecord | ControlRecord]:
    """Units and controls in the order in which they are worked on: the units as they are, the controls anywhere.

    Args:
        spec: The campaign.
        units: The units' records, in order.
        controls: From `plan_controls`.
        layer: Of a unit's site.
    """
    places: dict[int, list[Control]] = {}
    for control in controls:
        place = seed_for(spec.seed, control.unit.rpartition(":")[2], "place of a control") % (len(units) + 1)
        places.setdefault(place, []).append(control)
    mixed: list[UnitRecord | ControlRecord] = []
    for place in range(len(units) + 1):
        for control in places.get(place, []):
            record = UnitRecord(control.unit, layer(control.of))
            mixed.append(ControlRecord(record, control.kind, str(control.of)))
        mixed += units[place : place + 1]
    return mixed


def twin_seed(spec: CampaignSpec) -> int:
    """By which the weights of the campaign's twin are shuffled."""
    return seed_for(spec.seed, "the twin", "shuffle") % 2**31


def direction_of(subject: Subject, control: Control) -> Direction:
    """A random direction at the site of the control's unit, as long as the unit's own vector there.

    A neuron is one of the axes of its site and so of length 1; a latent's length is that of its encoder's column.
    """
    site: Site = group_site(subject, control.of.group)
    own = read_direction(subject, control.of) if control.of.kind == "sae" else None
    length = 1.0 if own is None else float(own.norm()) or 1.0
    generator = np.random.default_rng(control.seed)
    values = generator.standard_normal(subject.sites.width(site)).astype(np.float32)
    vector = torch.from_numpy(length * values / np.linalg.norm(values)).to(subject.device)
    return Direction(site, vector)
