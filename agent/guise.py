"""How a control passes for an ordinary unit: views and a subject in which a unit's activations are something else.

Explainers and scorers are handed the same types, with the same public attributes, for every unit; in those of a control
the numbers under one unit's id are another's. Who asks for that unit's activations gets the control's, from the index
and from forward passes alike. What the unit writes (its weights) stays its own: controls test what is said of its
input.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.dictionaries import Dictionary
from tools.index import SplitView
from tools.index.sources import Moments, Source, Tail
from tools.index.weighting import Weights
from tools.subject import Direction, Subject
from tools.types import FloatArray, Site, UnitId
from tools.units import group_site

#: What stands in for a unit in a view: another unit of the index, or one value at every token.
Part: TypeAlias = UnitId | float


class ShownView(SplitView):
    """A view as explainers and scorers get it, in which some units' numbers may be those of what stands in for them."""

    def __init__(self, view: SplitView, cast: Mapping[UnitId, Part]) -> None:
        """Nothing is copied or read again: the view shares all that `view` holds."""
        self.__dict__.update(view.__dict__)
        self._cast = dict(cast)

    def _source(self, unit: UnitId) -> Source:
        part = self._cast.get(unit, unit)
        return super()._source(part) if isinstance(part, UnitId) else _Constant(super()._source(unit), part)


@dataclass(frozen=True)
class _Constant:
    """One value at all of the places that a unit is known at."""

    places: Source
    level: float

    def moments(self) -> Moments:
        return Moments(self.level, 0.0, self.level, self.level, float(self.level != 0))

    def panel(self) -> FloatArray:
        return np.full_like(self.places.panel(), self.level)

    def tails(self) -> tuple[Tail, Tail]:
        plus, minus = self.places.tails()
        return self._levelled(plus), self._levelled(minus)

    def _levelled(self, tail: Tail) -> Tail:
        values = np.where(np.isnan(tail.values), tail.values, np.float32(self.level))
        return Tail(tail.contexts, tail.blocks, values)

    def distribution(self) -> tuple[FloatArray, Weights] | None:
        known = self.places.distribution()
        return None if known is None else (np.full_like(known[0], self.level), known[1])


class ShownSubject(Subject):
    """A subject as explainers get it: the model and all that belongs to it, shared with the one it is made of."""

    def __init__(
        self,
        subject: Subject,
        *,
        named: Subject | None = None,
        unit: UnitId | None = None,
        part: Direction | float | None = None,
    ) -> None:
        """Args:
        subject: The model.
        named: The subject that it passes for; None for itself.
        unit: The unit whose activations are replaced, a neuron or a latent; of other kinds they stay as they are.
        part: What replaces them: the projection on a vector at a site, or one value.
        """
        # Found out by forward passes when first asked for; they belong to all that share the model.
        _ = subject.causal, subject.unembedding
        self.__dict__.update(subject.__dict__)
        shown = named or subject
        self.name, self.fingerprint = shown.name, shown.fingerprint
        self.sites = replace(subject.sites, name=shown.name)  # which errors tell
        self.directions = dict(shown.directions)
        self._replaced: dict[Site, tuple[int, Direction | float]] = {}
        if unit is None or part is None:
            return
        if unit.kind == "mlp":
            self._replaced[group_site(subject, unit.group)] = (unit.index, part)
        elif unit.kind == "sae":
            own = subject.dictionaries[unit.where]
            self.dictionaries = {**subject.dictionaries, unit.where: _with_latent(own, unit.index, part)}

    def capture(self, ids: Tensor, mask: Tensor | None, sites: Iterable[Site], *, logits: bool = False) -> Captured:
        """As `Subject.capture`."""
        captured = super().capture(ids, mask, sites, logits=logits)
        if not self._replaced.keys() & captured.keys():
            return captured
        tensors = dict(captured)
        for site, (index, part) in self._replaced.items():
            if site in tensors:
                changed = tensors[site].clone()
                changed[..., index] = _activation(tensors[site], part).to(changed.dtype)
                tensors[site] = changed
        return Captured(tensors, captured.logits)


def _activation(tensor: Tensor, part: Direction | float) -> Tensor:
    """[batch, pos] from the tensor at a site."""
    if isinstance(part, Direction):
        return tensor.float().reshape(*tensor.shape[:2], -1) @ part.vector
    return torch.full(tensor.shape[:2], part, device=tensor.device)


def _with_latent(dictionary: Dictionary, index: int, part: Direction | float) -> Dictionary:
    """The same dictionary, save that its encoder says something else of one latent."""
    changed = copy.copy(dictionary)

    @torch.no_grad()
    def encode(x: Tensor) -> Tensor:
        latents = dictionary.encode(x).clone()
        latents[..., index] = _activation(x, part).to(latents.dtype)
        return latents

    object.__setattr__(changed, "encode", encode)
    return changed
