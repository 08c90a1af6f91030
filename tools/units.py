"""Units of a subject: patterns that name sets of them, and their activations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import UnitError
from tools.kinds import kind_of, names
from tools.subject import Subject
from tools.types import FloatArray, Site, UnitId


def group_site(subject: Subject, group: str) -> Site:
    """Where the activations of a group such as ``mlp:3`` are read.

    Raises:
        UnitError: The subject has no such group.
    """
    kind = kind_of(group)
    where = group.partition(":")[2]
    kind.check(subject, where)
    return kind.site(subject, where)


def group_width(subject: Subject, group: str) -> int:
    """Number of units in a group.

    Raises:
        UnitError: The subject has no such group.
    """
    return kind_of(group).width(subject, group.partition(":")[2])


def activations(subject: Subject, group: str, captured: Captured) -> Tensor:
    """Activations of a whole group, float32 [batch, pos, width], from a capture that holds the group's site."""
    return kind_of(group).activations(subject, group.partition(":")[2], captured)


def check_unit(subject: Subject, unit: UnitId) -> None:
    """Raise UnitError, saying what there is, when the subject has no such unit."""
    if unit.kind in ("mlp", "head"):
        subject.sites.check_layer(int(unit.where), str(unit))
    width = group_width(subject, unit.group)
    if not 0 <= unit.index < width:
        raise UnitError(f"'{unit}' is beyond the subject '{subject.name}', where {unit.group} has units 0-{width - 1}.")


def read_direction(subject: Subject, unit: UnitId) -> Tensor | None:
    """What the unit looks for in its input, float32; None where that is not one vector (heads).

    A neuron's input weights (of a gated one, its gate's), a latent's encoder column, a direction itself.
    """
    check_unit(subject, unit)
    return kind_of(unit.group).read_direction(subject, unit.where, unit.index)


def write_direction(subject: Subject, unit: UnitId) -> Tensor | None:
    """What the unit adds to the residual stream, float32 [d_model]; None where that is not one vector (heads).

    A neuron's output weights, a latent's decoder row, a direction itself.
    """
    check_unit(subject, unit)
    return kind_of(unit.group).write_direction(subject, unit.where, unit.index)


def expand(subject: Subject, pattern: str) -> list[UnitId]:
    """Units that a pattern names, in its order and each once.

    ``mlp:3:0-99``, ``mlp:*:*``, ``mlp:0,2:5,7-9``, ``head:*:*``, ``sae:NAME:*``, ``fn:numeric:*``, ``dir:*``;
    several are joined by semicolons, spaces, or commas. ``*`` for a layer means every layer that has such units.

    Raises:
        UnitError: The pattern is not well formed, or names something that the subject does not have.
    """
    parts = [p.strip() for p in re.split(r"[;\s]+|,\s*(?=[a-z]+:)", pattern) if p and p.strip()]
    if not parts:
        raise UnitError(f"'{pattern}' names no units. Write a pattern such as mlp:3:0-99, head:*:* or sae:NAME:*.")
    return list(dict.fromkeys(unit for part in parts for unit in _expand_part(subject, part)))


def _expand_part(subject: Subject, part: str) -> Iterator[UnitId]:
    name, colon, rest = part.partition(":")
    if name not in names() or not colon or not rest:
        raise UnitError(
            f"'{part}' is not a pattern of units. Write mlp:LAYERS:NEURONS, head:LAYERS:HEADS, sae:NAME:LATENTS, "
            "fn:DOMAIN:NUMBERS or dir:NAME, with numbers as 3, 0-99, 0,2,5-7 or *."
        )
    kind = kind_of(name)
    where, _, which = (rest, "", "0") if name == "dir" else rest.rpartition(":")
    if not where or not which:
        raise UnitError(f"'{part}' lacks a part: write {part.rstrip(':')}:* for all units there.")
    if where == "*":
        groups = list(kind.groups(subject))
        if not groups:
            if name in ("mlp", "head"):
                kind.check(subject, "0")  # says why not
            raise UnitError(f"'{part}' names no units: the subject '{subject.name}' has no {name} units.")
    elif name in ("mlp", "head"):
        groups = [str(layer) for layer in _numbers(where, subject.n_layers, part, subject.name, "layers")]
    else:
        groups = [where]
    for group in (f"{name}:{place}" for place in groups):
        width = group_width(subject, group)
        for index in _numbers(which, width, part, subject.name, f"{group} has units"):
            yield UnitId(group, index)


def _numbers(text: str, count: int, part: str, subject: str, what: str) -> Iterator[int]:
    if text == "*":
        yield from range(count)
        return
    for item in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if match is None:
            raise UnitError(f"'{item}' in '{part}' is not a number. Write numbers as 3, 0-99, 0,2,5-7 or *.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UnitError(f"'{item}' in '{part}' runs backwards.")
        if last >= count:
            having = "which has layers" if what == "layers" else f"where {what}"
            raise UnitError(f"'{part}' is beyond the subject '{subject}', {having} 0-{count - 1}.")
        yield from range(first, last + 1)


def unit_activations(
    subject: Subject, units: Sequence[UnitId], sequences: Sequence[Sequence[int]], *, batch_tokens: int = 4096
) -> list[FloatArray]:
    """Activations of some units on some sequences of token ids.

    Sequences are run in batches of like length, so that padding is short.

    Returns:
        One array [unit, pos] for each sequence, in the order given.
    """
    for unit in units:
        check_unit(subject, unit)
    groups: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        groups.setdefault(unit.group, []).append(row)
    sites = {group_site(subject, group) for group in groups}
    results: list[FloatArray] = [np.empty((len(units), len(s)), dtype=np.float32) for s in sequences]
    for batch in length_batches([len(s) for s in sequences], batch_tokens):
        ids, mask = subject.pad([sequences[i] for i in batch])
        captured = subject.capture(ids, mask, sites)
        for group, rows in groups.items():
            with torch.inference_mode():
                columns = torch.tensor([units[row].index for row in rows], device=subject.device)
                values = activations(subject, group, captured)[..., columns].cpu().numpy()
            for place, i in enumerate(batch):
                results[i][rows] = values[place, : len(sequences[i])].T
    return results


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group indices of sequences by length, each group with at most `batch_tokens` tokens padded (or one sequence).

    Empty sequences are left out.
    """
    batch: list[int] = []
    for i in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: (lengths[i], i)):
        if batch and lengths[i] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
