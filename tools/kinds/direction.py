"""Directions, ``dir:NAME``: the projection of the tensor at a site on a unit vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.hooking.attention import INSIDE
from tools.hooking.edits import Edit, Selection
from tools.hooking.where import Where
from tools.kinds.registry import register
from tools.sites import RESIDUAL
from tools.subject import Direction, Subject
from tools.types import Site


def _direction(subject: Subject, name: str) -> Direction:
    if name not in subject.directions:
        known = ", ".join(sorted(subject.directions)) or "none"
        raise UnitError(f"The subject '{subject.name}' has no direction '{name}' (it has: {known}).")
    return subject.directions[name]


@register("dir")
class DirectionUnit:
    """A group of one unit: the direction itself."""

    def groups(self, subject: Subject) -> Sequence[str]:
        return sorted(subject.directions)

    def check(self, subject: Subject, where: str) -> None:
        _direction(subject, where)

    def site(self, subject: Subject, where: str) -> Site:
        return _direction(subject, where).site

    def width(self, subject: Subject, where: str) -> int:
        self.check(subject, where)
        return 1

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        direction = _direction(subject, where)
        tensor = captured[direction.site]
        return tensor.float().reshape(*tensor.shape[:2], -1) @ direction.vector[:, None]

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        return _direction(subject, where).vector

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """The vector itself where it lies in the residual stream; elsewhere None."""
        direction = _direction(subject, where)
        return direction.vector if direction.site.kind in RESIDUAL else None

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        """Moves the tensor along the direction."""
        return self.edit_group(subject, where, lambda now: new(now[..., 0])[..., None], places)

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        return self.activations(subject, where, captured)

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        direction = _direction(subject, where)
        if direction.site.kind in INSIDE:
            return None

        def moved(old: Tensor, _: Selection) -> Tensor:
            flat = old.reshape(*old.shape[:-2], -1) if direction.site.kind == "head_z" else old
            vector = direction.vector.to(old)
            now = (flat @ vector)[..., None]
            return old + ((new(now) - now) * vector).reshape(old.shape)

        return Edit(direction.site, places, moved)
