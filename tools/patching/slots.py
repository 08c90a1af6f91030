"""What one edit can change of the parts that circuits and paths are made of, and what takes its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import InterventionError
from tools.interventions import EVERYWHERE, Edit, change
from tools.kinds import kind_of
from tools.subject import Subject
from tools.types import Site


@dataclass(frozen=True)
class Slot:
    """Parts side by side: the heads or the neurons of a layer, its MLP, the latents of a dictionary, a direction.

    Contents are what is taken away and put back: [batch, pos, part, ...], of heads the vectors before the output
    projection, of latents and directions their activations, of an MLP its output as [batch, pos, d_model].
    """

    site: Site
    """Where the parts write."""
    group: str = ""
    """Of latents and directions: ``sae:NAME``, ``dir:NAME``. A change of latents goes through the decoder, so that what
    the dictionary does not explain stays."""

    @classmethod
    def of(cls, subject: Subject, group: str) -> Slot:
        """The latents of a dictionary, or a direction.

        Raises:
            UnitError: The subject has no such group.
            InterventionError: Nothing of their own is added to what the subject computes.
        """
        edit = _edit(subject, group)
        return cls(edit.site, group)

    @property
    def _where(self) -> str:
        return self.group.partition(":")[2]

    def reads(self, subject: Subject) -> tuple[Site, ...]:
        """Sites that must be read for the contents."""
        return (kind_of(self.group).site(subject, self._where),) if self.group else (self.site,)

    def lowest(self, subject: Subject) -> int:
        """The first layer that an edit must compute."""
        if not self.group:
            return self.site.layer
        return min(site.layer for site in (self.site, *_edit(subject, self.group).needs))

    def width(self, subject: Subject) -> int:
        """Number of parts."""
        if self.group:
            return kind_of(self.group).width(subject, self._where)
        plan = subject.sites.plans[self.site.layer]
        return {"head_z": plan.n_heads, "mlp_act": plan.n_neurons, "mlp_out": 1}[self.site.kind]

    def contents(self, subject: Subject, captured: Captured) -> Tensor:
        """The contents in a run."""
        return kind_of(self.group).contents(subject, self._where, captured) if self.group else captured[self.site]

    def put(self, subject: Subject, chosen: Tensor, fill: Tensor | None) -> Edit:
        """An edit that gives parts other contents.

        Args:
            subject: The model.
            chosen: bool [row, part] or [row, pos, part], which.
            fill: Contents [row or 1, pos, ...]; None for zeros.
        """
        mask = (chosen if chosen.ndim == 3 else chosen[:, None]).to(subject.device)

        def new(old: Tensor) -> Tensor:
            other = torch.zeros_like(old) if fill is None else fill.to(old)
            return torch.where(mask[..., None] if old.ndim == 4 else mask, other, old)

        if not self.group:
            return change(self.site, new, EVERYWHERE, name="put")
        edit = kind_of(self.group).edit_group(subject, self._where, new, EVERYWHERE)
        assert edit is not None, "it was when the slot was made"
        return edit


def _edit(subject: Subject, group: str) -> Edit:
    kind = kind_of(group)
    kind.check(subject, group.partition(":")[2])
    edit = kind.edit_group(subject, group.partition(":")[2], lambda now: now, EVERYWHERE)
    if edit is None:
        raise InterventionError(
            f"Units of '{group}' cannot be edited: nothing of their own is added to what '{subject.name}' computes."
        )
    return edit
