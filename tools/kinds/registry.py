"""Where a kind of unit is added: write a module with a class like `UnitKind` and decorate it with `register`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.hooking.edits import Edit
from tools.hooking.where import Where
from tools.subject import Subject
from tools.types import Site


class UnitKind(Protocol):
    """How one kind of unit is found and computed. `where` is the group without its kind: a layer or a name."""

    def groups(self, subject: Subject) -> Sequence[str]:
        """All `where` of this kind that the subject has."""

    def check(self, subject: Subject, where: str) -> None:
        """Raise UnitError, saying what there is, when the subject has no such group."""

    def site(self, subject: Subject, where: str) -> Site:
        """Where the group's activations are read."""

    def width(self, subject: Subject, where: str) -> int:
        """Number of units in the group."""

    def activations(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        """Activations of the whole group, float32 [batch, pos, width]."""

    def read_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """What the unit looks for, float32, or None where that is not one vector."""

    def write_direction(self, subject: Subject, where: str, index: int) -> Tensor | None:
        """What the unit adds to the residual stream, float32 [d_model], or None where that is not one vector."""

    def edit(
        self, subject: Subject, where: str, index: int, new: Callable[[Tensor], Tensor], places: Where
    ) -> Edit | None:
        """An edit that gives the unit the activation `new(activation)`; None where nothing is the unit's own to change.

        `places` has rows and positions, and no channels.
        """

    def contents(self, subject: Subject, where: str, captured: Captured) -> Tensor:
        """What ablation takes away and puts back, [batch, pos, width, ...], from a capture that holds the group's site:
        the activations; of heads, whose norm is not all that they write, the vectors before the output projection."""

    def edit_group(self, subject: Subject, where: str, new: Callable[[Tensor], Tensor], places: Where) -> Edit | None:
        """An edit that turns the contents [..., width, ...] of the whole group into `new(contents)`; None as above."""


_KINDS: dict[str, UnitKind] = {}


def register(name: str) -> Callable[[type[UnitKind]], type[UnitKind]]:
    """Class decorator: units whose ids begin with `name:` are of this kind."""

    def add(cls: type[UnitKind]) -> type[UnitKind]:
        _KINDS[name] = cls()
        return cls

    return add


def kind_of(group: str) -> UnitKind:
    """The kind of a group or unit id such as ``mlp:3``."""
    name = group.partition(":")[0]
    if name not in _KINDS:
        raise UnitError(f"'{group}' is of no known kind of unit. Kinds are {', '.join(names())}.")
    return _KINDS[name]


def names() -> list[str]:
    """Registered kinds."""
    return sorted(_KINDS)
