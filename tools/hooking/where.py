"""Which entries of a site's tensor an edit touches.

Positions are those of a row's own tokens, counted from 0, whatever the padding and however much of the text a pass
with a key-value cache has already seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tools.errors import InterventionError

Numbers: TypeAlias = Sequence[int] | int | None


@dataclass(frozen=True)
class Moment:
    """Which part of the texts one forward pass is about."""

    batch: int
    width: int
    """Columns of this pass."""
    offset: int = 0
    """Columns that earlier passes with the same cache have seen."""
    starts: Tensor | None = None
    """Padding before each row's first token, int64 [batch] on the CPU; None: there is none on the left."""


@dataclass(frozen=True)
class Picked:
    """The entries that a place picks of one pass."""

    index: tuple[Any, ...]
    """Into the tensor of this pass."""
    whole: tuple[Any, ...]
    """Into a tensor of the whole texts without padding on the left."""
    lines: Tensor
    """int64 [n]: for each picked entry the row (or, of paired places, the cell) that it belongs to, as an index into
    the list of rows or cells."""


class _Places:
    """What both kinds of places share: lists of numbers along named axes, as a grid or as parallel lists of cells."""

    paired: bool
    _AXES: tuple[str, ...]

    def _list(self, axis: str) -> tuple[int, ...] | None:
        values: tuple[int, ...] | None = getattr(self, axis)
        return values

    def _settle(self) -> None:
        for axis in self._AXES:
            values = getattr(self, axis)
            if values is None:
                continue
            chosen = (int(values),) if isinstance(values, int) else tuple(int(v) for v in values)
            if any(v < 0 for v in chosen):
                raise InterventionError(f"{axis} are counted from 0; there is no {min(chosen)}.")
            object.__setattr__(self, axis, chosen)
        if self.paired:
            given = {axis: len(values) for axis in self._AXES if (values := self._list(axis)) is not None}
            if "rows" not in given or len(set(given.values())) > 1:
                told = ", ".join(f"{n} {axis}" for axis, n in given.items()) or "none"
                raise InterventionError(f"Paired places need rows, and lists of one length; given are {told}.")

    def _numbers(self, axis: str, size: int, lines: int) -> Tensor:
        """What each line picks along an axis: int64 [line, n]."""
        values = self._list(axis)
        if values is None:
            return torch.arange(size)[None].expand(lines, size)
        chosen = torch.tensor(values, dtype=torch.int64)
        return chosen[:, None] if self.paired else chosen[None].expand(lines, len(values))

    def _rows(self, batch: int) -> Tensor:
        rows = self._list("rows")
        if rows is None:
            return torch.arange(batch)
        inside("row", rows, batch, "the batch")
        return torch.tensor(rows, dtype=torch.int64)

    def _columns(
        self, axis: str, since: int, width: int, rows: Tensor, moment: Moment
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Positions along a position axis as (line, column of this pass, position), each [n]."""
        starts = torch.zeros_like(rows) if moment.starts is None else moment.starts[rows]
        shift = (starts - moment.offset)[:, None]
        if self._list(axis) is None:
            column = torch.arange(width)[None].expand(len(rows), width)
            position = column - shift
            kept = position >= since
        else:
            position = self._numbers(axis, 0, len(rows))
            column = position + shift
            kept = (column >= 0) & (column < width)
        lines, spots = kept.nonzero(as_tuple=True)
        return lines, column[lines, spots], position[lines, spots]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is everywhere is left out."""
        named = {axis: list(values) for axis in self._AXES if (values := self._list(axis)) is not None}
        since = getattr(self, "since", 0)
        return {**named, **({"paired": True} if self.paired else {}), **({"since": since} if since else {})}


def inside(what: str, numbers: Sequence[int] | None, size: int, having: str) -> None:
    """Raise InterventionError when a number is beyond what there is."""
    if numbers and max(numbers) >= size:
        raise InterventionError(f"There is no {what} {max(numbers)}: {having} has {size}, 0-{size - 1}.")


@dataclass(frozen=True)
class Where(_Places):
    """Entries of a tensor [batch, pos, channel, ...].

    None means all. The lists span a grid (rows x positions x channels), or, when `paired`, each index of them is a cell
    of its own: rows[i], positions[i], channels[i]. So a sweep puts another edit into each row of a batch.
    """

    rows: Numbers = None
    positions: Numbers = None
    channels: Numbers = None
    """Heads of head_z, head_q, head_k, head_v; neurons of mlp_act; components of residual sites."""
    since: int = 0
    """Where `positions` is None: only positions from this one on. 1 leaves out the first, where many models rest."""
    paired: bool = False

    _AXES = ("rows", "positions", "channels")

    def __post_init__(self) -> None:
        self._settle()
        if self.since and self.positions is not None:
            raise InterventionError("'since' and 'positions' both say where; give one of them.")

    def channel(self, number: int) -> Where:
        """The same rows and positions of one channel."""
        if self.paired:
            assert self.rows is not None, "paired places have rows"
            return dataclasses.replace(self, channels=[number] * len(self.rows))  # type: ignore[arg-type]
        return dataclasses.replace(self, channels=number)

    def pick(self, shape: Sequence[int], moment: Moment, device: torch.device) -> Picked | None:
        """What is picked of a tensor of that shape; None when nothing is."""
        rows = self._rows(shape[0])
        channels = self._list("channels")
        inside("channel", channels, shape[2], "the site")
        lines, columns, positions = self._columns("positions", self.since, shape[1], rows, moment)
        if not len(lines):
            return None
        if self._list("rows") is None and channels is None and len(lines) == shape[0] * shape[1]:
            if moment.offset or moment.starts is not None:
                grid = (shape[0], shape[1])
                whole = (rows[:, None].to(device), positions.reshape(grid).to(device))
                return Picked((slice(None), slice(None)), whole, torch.arange(shape[0])[:, None].expand(grid))
            return Picked(
                (slice(None), slice(None)), (slice(None), slice(0, shape[1])), rows[:, None].expand(shape[:2])
            )
        row, column, position = (t.to(device) for t in (rows[lines], columns, positions))
        if channels is None:
            return Picked((row, column), (row, position), lines)
        chosen = self._numbers("channels", 0, len(rows))[lines].to(device)
        if self.paired:
            chosen = chosen[:, 0]
            return Picked((row, column, chosen), (row, position, chosen), lines)
        row, column, position = row[:, None], column[:, None], position[:, None]
        return Picked((row, column, chosen), (row, position, chosen), lines[:, None].expand(chosen.shape))


@dataclass(frozen=True)
class AttentionWhere(_Places):
    """Entries of an attention pattern [batch, head, query, key]; a grid, or cells when `paired`, as in `Where`."""

    rows: Numbers = None
    heads: Numbers = None
    queries: Numbers = None
    keys: Numbers = None
    paired: bool = False

    _AXES = ("rows", "heads", "queries", "keys")

    def __post_init__(self) -> None:
        self._settle()

    def pick(self, shape: Sequence[int], moment: Moment, device: torch.device) -> Picked | None:
        """What is picked of a pattern of that shape; None when nothing is."""
        rows = self._rows(shape[0])
        inside("head", self._list("heads"), shape[1], "the layer")
        lines, columns, positions = self._columns("queries", 0, shape[2], rows, moment)
        # Keys count from the front of the text in every pass.
        keys = self._numbers("keys", shape[3], len(rows))
        starts = torch.zeros_like(rows) if moment.starts is None else moment.starts[rows]
        key_columns = keys if self._list("keys") is None else keys + starts[:, None]
        if int(key_columns.max()) >= shape[3]:
            raise InterventionError(f"There is no key {int(keys.max())}: the text has {shape[3]} positions so far.")
        if not len(lines):
            return None
        row, column, position = (t.to(device)[:, None, None] for t in (rows[lines], columns, positions))
        heads = self._numbers("heads", shape[1], len(rows))[lines].to(device)[:, :, None]
        key = key_columns[lines].to(device)[:, None]
        line = lines[:, None, None].expand(len(lines), heads.shape[1], key.shape[2])
        return Picked((row, heads, column, key), (row, heads, position, key), line)


#: Every entry.
EVERYWHERE = Where()
