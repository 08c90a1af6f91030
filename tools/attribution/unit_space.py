"""Units of one group as coordinates of a site's tensor: how their change moves it, and how its gradient is theirs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tools.dictionaries import Dictionary
from tools.errors import InterventionError, UnitError
from tools.hooking.attention import INSIDE
from tools.interventions import EVERYWHERE, Edit
from tools.kinds import kind_of
from tools.subject import Subject
from tools.types import Site
from tools.units import group_site, group_width


@dataclass(frozen=True)
class UnitSpace:
    """A group's units. Values are [..., unit], of heads [..., unit, d_head]: what the head mixes, not its norm.

    A latent is a coordinate of what its dictionary writes: moved along its decoder row, the dictionary's error kept.
    """

    subject: Subject
    group: str
    reads: Site
    """Where values are read."""
    site: Site
    """Whose tensor they are coordinates of."""

    @classmethod
    def of(cls, subject: Subject, group: str) -> UnitSpace:
        """The space of a group such as ``mlp:3``.

        Raises:
            UnitError: The subject has no such group.
            InterventionError: Its units cannot be moved.
        """
        reads = site = group_site(subject, group)
        kind, _, name = group.partition(":")
        if kind == "sae":
            site = subject.dictionaries[name].site_out
        if kind not in ("mlp", "head", "sae", "dir") or {reads.kind, site.kind} & set(INSIDE):
            raise InterventionError(f"Units of '{group}' cannot be moved: nothing of their own is added to the stream.")
        return cls(subject, group, reads, site)

    @property
    def width(self) -> int:
        """Number of units."""
        return group_width(self.subject, self.group)

    @property
    def _dictionary(self) -> Dictionary | None:
        kind, _, name = self.group.partition(":")
        return self.subject.dictionaries[name] if kind == "sae" else None

    @property
    def _vector(self) -> Tensor | None:
        kind, _, name = self.group.partition(":")
        return self.subject.directions[name].vector if kind == "dir" else None

    def values(self, tensor: Tensor) -> Tensor:
        """The units' values, [batch, pos, unit(, d_head)], of the tensor of `reads`."""
        if (dictionary := self._dictionary) is not None:
            return dictionary.encode(tensor)
        if (vector := self._vector) is not None:
            return tensor.reshape(*tensor.shape[:2], -1) @ vector.to(tensor)[:, None]
        return tensor

    def moved(self, change: Tensor, read: Tensor) -> Tensor:
        """What a change of values does to the site's tensor, in its shape; it is linear in the change.

        Args:
            change: [..., unit(, d_head)].
            read: The tensor of `reads` there, whose scale some dictionaries need.
        """
        if (dictionary := self._dictionary) is not None:
            change = change.to(dictionary.W_dec.dtype)
            write = dictionary.decode(change, read) - dictionary.decode(torch.zeros_like(change), read)
        elif (vector := self._vector) is not None:
            write = change * vector.to(change)
        else:
            return change
        return write.reshape(*read.shape[:-2], -1, read.shape[-1]) if self.site.kind == "head_z" else write

    def pulled(self, gradient: Tensor, read: Tensor) -> Tensor:
        """The gradient by values, of the gradient by the site's tensor: the adjoint of `moved`."""
        if self._dictionary is None and self._vector is None:
            return gradient
        shape = (*gradient.shape[: -2 if self.site.kind == "head_z" else -1], self.width)
        with torch.inference_mode(False), torch.enable_grad():
            zero = torch.zeros(shape, dtype=torch.float32, device=gradient.device, requires_grad=True)
            write = self.moved(zero, read.detach().clone())
            (found,) = torch.autograd.grad(write, zero, gradient.to(write))
        return found

    def held(self, absent: Tensor, base: Tensor) -> Edit:
        """An edit that holds some units at base values.

        Args:
            absent: bool [row, pos, unit], which and where in each row.
            base: Their values, [pos, unit(, d_head)].
        """

        def new(now: Tensor) -> Tensor:
            where = absent.reshape(*absent.shape, *[1] * (now.ndim - 3))
            return torch.where(where.to(now.device), base.to(now), now)

        kind, _, name = self.group.partition(":")
        edit = kind_of(kind).edit_group(self.subject, name, new, EVERYWHERE)
        assert edit is not None, "what cannot be moved has no space"
        return edit

    def summed(self, products: Tensor) -> Tensor:
        """One number a unit: heads' components summed."""
        return products.sum(-1) if self.group.startswith("head:") else products

    def check(self, indices: tuple[int, ...] | None) -> None:
        """Raise UnitError for units that are not there."""
        if indices is not None and not all(0 <= i < self.width for i in indices):
            raise UnitError(f"{self.group} of '{self.subject.name}' has units 0-{self.width - 1}, not {max(indices)}.")
