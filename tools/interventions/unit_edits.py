"""Edits of units: their activation is set, moved or scaled, whatever kind of unit it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tools.errors import InterventionError
from tools.hooking.edits import Edit
from tools.hooking.where import EVERYWHERE, Where
from tools.kinds import kind_of
from tools.subject import Subject
from tools.types import UnitId
from tools.units import check_unit


def edit_unit(
    subject: Subject, unit: UnitId, new: Callable[[Tensor], Tensor], where: Where = EVERYWHERE, *, name: str = "change"
) -> Edit:
    """Give a unit another activation.

    A neuron's is an entry of its site's tensor; a direction's is the component along it; a head's write is stretched to
    the norm that is asked for (a head that writes nothing cannot be stretched); a latent's change is added through the
    decoder, where the dictionary writes, so that the dictionary's error stays as it was.

    Args:
        subject: The model.
        unit: Any unit that can be edited.
        new: From activations, float32 [...], to others of the same shape.
        where: Rows and positions; not channels, which the unit is.
        name: What is done, for the record.

    Raises:
        UnitError: The subject has no such unit.
        InterventionError: Units of that kind or at that site cannot be edited.
    """
    check_unit(subject, unit)
    if where.channels is not None:
        raise InterventionError(
            f"The place of an edit of {unit} has rows and positions alone: the unit is the channel."
        )
    edit = kind_of(unit.group).edit(subject, unit.where, unit.index, new, where)
    if edit is None:
        raise InterventionError(
            f"{unit} cannot be edited: nothing of its own is added to what '{subject.name}' computes."
        )
    return Edit(edit.site, edit.where, edit.new, {"op": name, "unit": str(unit)}, edit.needs)


def set_unit(subject: Subject, unit: UnitId, value: float, where: Where = EVERYWHERE) -> Edit:
    """Set a unit's activation; see `edit_unit`."""
    edit = edit_unit(subject, unit, lambda now: now * 0.0 + value, where, name="set unit")
    return _valued(edit, value)


def add_to_unit(subject: Subject, unit: UnitId, value: float, where: Where = EVERYWHERE) -> Edit:
    """Add to a unit's activation; see `edit_unit`."""
    return _valued(edit_unit(subject, unit, lambda now: now + value, where, name="add to unit"), value)


def scale_unit(subject: Subject, unit: UnitId, factor: float, where: Where = EVERYWHERE) -> Edit:
    """Multiply a unit's activation; see `edit_unit`."""
    return _valued(edit_unit(subject, unit, lambda now: now * factor, where, name="scale unit"), factor)


def _valued(edit: Edit, value: float) -> Edit:
    if not -float("inf") < value < float("inf"):
        raise InterventionError(f"A unit cannot be given the activation {value}; it needs a finite one.")
    return Edit(edit.site, edit.where, edit.new, {**edit.spec, "value": float(value)}, edit.needs)
