"""Dense units: streaming moments and strongest blocks of one split, and the panel of activations kept for all.

Splits are processed one after another, so only one split's accumulators are in memory: for each unit
2 * top_k spans of activations, whatever the size of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.errors import IndexDataError
from tools.index.settings import SPLITS, IndexSettings
from tools.index.storage import reserve_array, sync_file, write_array, write_at
from tools.types import BoolArray, IntArray

Array = npt.NDArray[Any]


def margins(window: int) -> tuple[int, int]:
    """How many tokens before and after a strongest block are kept with it, so that its peak is seen in context."""
    return window // 2, window // 4


@dataclass(frozen=True)
class BatchGeometry:
    """What of a batch of contexts counts, on the device of the activations."""

    split: int
    """Number of the split that all its contexts belong to."""
    contexts: IntArray
    """Context numbers, [batch]."""
    lengths: Tensor
    """[batch]"""
    documents: IntArray
    excluded: Tensor
    """Flat indices of position 0 and of padding in [batch * pos]."""
    counted: int
    """Positions that count."""


class DenseAccumulator:
    """Moments and strongest blocks of every dense unit over one split.

    Per unit: sum, sum of squares, number of non-zeros, minimum, maximum. Per unit and tail ('+' then '-'): the `k`
    blocks with the largest polarity * activation above zero, at most one a document, each with the activations of the
    block and its margins (NaN outside the context and at position 0).
    """

    def __init__(self, n_units: int, settings: IndexSettings, device: torch.device) -> None:
        self.window = settings.window
        self.before, self.after = margins(settings.window)
        self.span = self.before + settings.window + self.after
        # Sums are kept in double precision, which some accelerators lack.
        self.device = torch.device("cpu") if device.type == "mps" else device
        shape, k = (2, n_units), settings.top_k
        self.sums = torch.zeros(shape, dtype=torch.float64, device=self.device)
        self.nonzero = torch.zeros(n_units, dtype=torch.int64, device=self.device)
        self.extremes = torch.full(shape, -torch.inf, device=self.device)
        # A slot whose strength is 0 is empty.
        self.strengths = torch.zeros((*shape, k), device=self.device)
        self.contexts = torch.full((*shape, k), -1, dtype=torch.int64, device=self.device)
        self.blocks = torch.full((*shape, k), -1, dtype=torch.int64, device=self.device)
        self.documents = torch.full((*shape, k), -1, dtype=torch.int64, device=self.device)
        self.values = torch.full((*shape, k, self.span), torch.nan, device=self.device)
        self.seen: set[int] = set()

    _SAVED = ("sums", "nonzero", "extremes", "strengths", "contexts", "blocks", "documents", "values")

    def state(self) -> dict[str, Array]:
        """Everything needed to go on, as arrays."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in self._SAVED}
        return {**arrays, "seen": np.array(sorted(self.seen), dtype=np.int64)}

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from what `state` returned."""
        for name in self._SAVED:
            getattr(self, name).copy_(torch.from_numpy(state[name]))
        self.seen = set(state["seen"].tolist())

    def update(self, groups: list[Tensor], geometry: BatchGeometry) -> None:
        """Take in one batch: activations [batch, pos, units of the group] of each group. Overwrites excluded positions.

        Raises:
            IndexDataError: an activation is not finite.
        """
        highest, lowest, first = [], [], 0
        for acts in groups:
            flat = acts.view(-1, acts.shape[-1])
            units = slice(first, first + flat.shape[1])
            first = units.stop
            # Excluded positions hold the neutral element of each reduction in turn.
            flat.index_fill_(0, geometry.excluded, 0.0)
            self.sums[0, units] += flat.sum(0).to(self.sums)
            self.sums[1, units] += (flat * flat).sum(0).to(self.sums)
            flat.index_fill_(0, geometry.excluded, torch.inf)
            lowest.append(self._blocks(acts, torch.amin))
            # Most units of smooth networks are never exactly zero, which is cheaper to see than to count.
            if bool(flat.abs().amin() > 0):
                self.nonzero[units] += geometry.counted
            else:
                zeros = (flat == 0).sum(0)
                self.nonzero[units] += (geometry.counted - zeros).to(self.device)
            flat.index_fill_(0, geometry.excluded, -torch.inf)
            highest.append(self._blocks(acts, torch.amax))
        tails = (torch.cat(highest, 2), -torch.cat(lowest, 2))
        bad = ~torch.isfinite(self.sums).all(0)
        if bool(bad.any()):
            raise IndexDataError(
                f"{int(bad.sum())} units have activations that are not finite numbers. Load the subject in another "
                "dtype (float32 or bfloat16 overflow less than float16)."
            )
        for tail, maxima in enumerate(tails):
            self._merge(tail, maxima.to(self.device), groups, geometry)
        self.seen.update(geometry.documents.tolist())

    def _blocks(self, acts: Tensor, reduce: Any) -> Tensor:
        """Reduce [batch, pos, units] to [batch, blocks, units]."""
        whole = acts.shape[1] // self.window * self.window
        parts = []
        if whole:
            parts.append(reduce(acts[:, :whole].view(len(acts), -1, self.window, acts.shape[2]), 2))
        if whole < acts.shape[1]:
            parts.append(reduce(acts[:, whole:], 1, keepdim=True))
        return torch.cat(parts, 1)

    def _merge(self, tail: int, maxima: Tensor, groups: list[Tensor], geometry: BatchGeometry) -> None:
        """Merge block maxima [batch, blocks, units] into the strongest blocks of a tail."""
        best, block = maxima.max(1)
        self.extremes[tail] = torch.maximum(self.extremes[tail], best.amax(0))
        self._best_of_document(best, geometry.documents)
        strengths = self.strengths[tail]
        entering = best > strengths.amin(1)
        rows = entering.any(0).nonzero().squeeze(1)
        if not len(rows):
            return
        held = strengths[rows]
        fresh = torch.where(entering, best, -1.0)[:, rows].T.contiguous()
        known = [i for i, document in enumerate(geometry.documents.tolist()) if document in self.seen]
        if known:
            # A document that is in the list already keeps the stronger of its blocks.
            numbers = torch.from_numpy(geometry.documents[known]).to(self.device)
            same = (self.documents[tail][rows][:, :, None] == numbers) & (held > 0)[:, :, None]
            rival = (same * held[:, :, None]).amax(1)
            challenger = fresh[:, known]
            loses = (rival > 0) & (challenger <= rival)
            fresh[:, known] = torch.where(loses, -1.0, challenger)
            # Below an empty slot (0), so that it is the first to be given up, to its own document.
            held = torch.where((same & (~loses & (challenger > 0))[:, None]).any(2), -0.5, held)
        n, k = held.shape
        _, chosen = torch.cat([held, fresh], 1).topk(k, 1)
        kept = torch.zeros((n, k + fresh.shape[1]), dtype=torch.bool, device=self.device)
        kept.scatter_(1, chosen, True)
        # Each row loses as many slots as it gains blocks, so both lists, in row order, match one to one.
        at, slot = (~kept[:, :k]).nonzero(as_tuple=True)
        _, which = kept[:, k:].nonzero(as_tuple=True)
        unit = rows[at]
        numbers = torch.from_numpy(geometry.contexts).to(self.device)
        documents = torch.from_numpy(geometry.documents).to(self.device)
        self.strengths[tail, unit, slot] = fresh[at, which]
        self.contexts[tail, unit, slot] = numbers[which]
        self.documents[tail, unit, slot] = documents[which]
        where = block[which, unit]
        self.blocks[tail, unit, slot] = where
        self.values[tail, unit, slot] = self._gather(groups, unit, which, where, geometry)

    @staticmethod
    def _best_of_document(best: Tensor, documents: IntArray) -> None:
        """Leave each unit one context a document: the strongest. `best` is [batch, units], changed in place."""
        numbers, inverse, counts = np.unique(documents, return_inverse=True, return_counts=True)
        for number in np.flatnonzero(counts > 1) if len(numbers) < len(documents) else ():
            rows = torch.from_numpy(np.flatnonzero(inverse == number)).to(best.device)
            some = best[rows]
            keep = torch.zeros_like(some, dtype=torch.bool).scatter_(0, some.argmax(0, keepdim=True), True)
            best[rows] = torch.where(keep, some, -torch.inf)

    def _gather(
        self, groups: list[Tensor], unit: Tensor, row: Tensor, block: Tensor, geometry: BatchGeometry
    ) -> Tensor:
        """Activations around blocks, [entries, span]; `unit` ascends."""
        values = torch.empty((len(unit), self.span), device=self.device)
        bounds = np.cumsum([0, *(group.shape[2] for group in groups)])
        cuts = torch.searchsorted(unit, torch.from_numpy(bounds).to(unit)).tolist()
        offsets = torch.arange(-self.before, self.span - self.before, device=self.device)
        starts = torch.arange(0, groups[0].shape[1], self.window, device=self.device)
        places = (starts[:, None] + offsets)[None]
        for number, acts in enumerate(groups):
            part = slice(cuts[number], cuts[number + 1])
            if part.start == part.stop:
                continue
            positions, width = acts.shape[1:]
            first = (row[part] * positions + block[part] * self.window) * width + unit[part] - bounds[number]
            at = (first[:, None] + offsets * width).clamp_(0, acts.numel() - 1)
            found = acts.view(-1).index_select(0, at.view(-1).to(acts.device)).to(self.device)
            values[part] = found.view(at.shape)
        # What lies before or behind the context was read from its neighbours, or from padding.
        inside = (places >= 1) & (places < geometry.lengths.to(self.device)[:, None, None])
        outside = ~inside.view(-1, self.span)
        values.masked_fill_(outside.index_select(0, row * len(starts) + block), torch.nan)
        return values

    def write(self, folder: Path, which: int, tokens: int) -> None:
        """Write the finished split's files, strongest block first."""
        strengths, order = self.strengths.sort(dim=2, descending=True, stable=True)
        empty = strengths <= 0
        contexts = self.contexts.gather(2, order).masked_fill(empty, -1)
        blocks = self.blocks.gather(2, order).masked_fill(empty, -1)
        values = self.values.gather(2, order[..., None].expand_as(self.values)).masked_fill(empty[..., None], torch.nan)
        minimum, maximum = -self.extremes[1].double(), self.extremes[0].double()
        moments = torch.stack([*self.sums, self.nonzero.double(), minimum, maximum], 1)
        if tokens == 0:
            moments.zero_()
        name = SPLITS[which]
        write_array(folder / f"moments-{name}.npy", moments.cpu().numpy())
        for kind, tensor in (("contexts", contexts), ("blocks", blocks), ("values", values)):
            # Unit-major, so that a unit is one contiguous read: [units, tail, k(, span)].
            write_array(folder / f"top_{kind}-{name}.npy", tensor.transpose(0, 1).contiguous().cpu().numpy())


class Panels:
    """The panel files, one a split: activations [units, panel positions], unit-major.

    Batches bring a few positions of every unit; they are gathered in memory and written in long stretches.
    """

    #: Bytes gathered before they are written.
    STAGE_BYTES = 1 << 27

    def __init__(self, folder: Path, sizes: list[int], n_units: int, dtype: npt.DTypeLike) -> None:
        self._paths = [folder / f"panel-{name}.npy" for name in SPLITS]
        self._offsets = [
            reserve_array(path, dtype, (n_units, size)) for path, size in zip(self._paths, sizes, strict=True)
        ]
        self._sizes, self.dtype = sizes, np.dtype(dtype)
        room = max(1, min(max(sizes), self.STAGE_BYTES // (n_units * self.dtype.itemsize)))
        self._stage = np.empty((n_units, room), dtype=self.dtype)
        self._staged, self._first, self._which = 0, 0, 0

    def write(self, first_column: int, in_panel: BoolArray, groups: list[Tensor],
              geometry: BatchGeometry) -> None:  # fmt: skip
        """Take in the columns of a batch's panel contexts (`in_panel`, [batch]), which begin at `first_column`."""
        lengths, positions = geometry.lengths.cpu().numpy(), groups[0].shape[1]
        at = np.concatenate([row * positions + np.arange(1, lengths[row]) for row in np.flatnonzero(in_panel)])
        for begin in range(0, len(at), self._stage.shape[1]):
            part = at[begin : begin + self._stage.shape[1]]
            if geometry.split != self._which or self._staged + len(part) > self._stage.shape[1]:
                self.flush()
            if not self._staged:
                self._which, self._first = geometry.split, first_column + begin
            columns = slice(self._staged, self._staged + len(part))
            unit, rows = 0, torch.from_numpy(part).to(groups[0].device)
            for acts in groups:
                found = acts.view(-1, acts.shape[2]).index_select(0, rows).T.cpu().numpy()
                self._check_range(found)
                self._stage[unit : unit + len(found), columns] = found
                unit += len(found)
            self._staged = columns.stop

    def _check_range(self, values: Array) -> None:
        if self.dtype == np.float16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise IndexDataError(
                "Some activations are beyond what float16 holds (65504). Build the index with the panel dtype float32."
            )

    def flush(self, *, durable: bool = False) -> None:
        """Write what is gathered; with `durable`, wait until all of it is on the disk."""
        if self._staged:
            size, item = self._sizes[self._which], self.dtype.itemsize
            with open(self._paths[self._which], "r+b", buffering=0) as file:
                for row, stretch in enumerate(self._stage[:, : self._staged]):
                    write_at(file.fileno(), stretch, self._offsets[self._which] + (row * size + self._first) * item)
            self._staged = 0
        if durable:
            for path in self._paths:
                sync_file(path)
