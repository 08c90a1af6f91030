"""Sparse dictionaries: every non-zero activation of every latent, kept as postings in latent-major order.

While the subject runs, postings are spilled to disk in runs sorted by latent. At the end a counting sort places each
run in the final arrays: a latent's postings are one contiguous stretch, ordered by position, hence by split. Memory is
a buffer and some counters a latent, whatever the size of the corpus.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tools.index.dense import BatchGeometry
from tools.index.settings import SPLITS
from tools.index.storage import load_array, reserve_array, write_array
from tools.types import FloatArray, IntArray

_POSTING = np.dtype([("latent", "<i4"), ("position", "<i8"), ("value", "<f4")])

#: Postings held in memory before a run is spilled (32 MB).
RUN_POSTINGS = 1 << 21


def group_folder(folder: Path, group: str) -> Path:
    """Where a dictionary's postings are. Names may hold characters that file names may not."""
    safe = "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):02x}" for c in group)
    return folder / f"postings-{safe}"


class PostingsWriter:
    """Collects the postings of one dictionary group with `n_latents` latents."""

    def __init__(self, folder: Path, n_latents: int, context_length: int) -> None:
        self.folder = folder
        self.context_length = context_length
        self.counts = np.zeros((len(SPLITS), n_latents), dtype=np.int64)
        self.runs: list[int] = []
        self._buffer: list[npt.NDArray[Any]] = []
        self._buffered = 0
        folder.mkdir(exist_ok=True)
        self._spill = open(folder / "spill.bin", "a+b")  # noqa: SIM115 (lives as long as the building)

    def close(self) -> None:
        """Close the spill file."""
        self._spill.close()

    def add(self, acts: Tensor, geometry: BatchGeometry) -> None:
        """Take in latent activations [batch, pos, latents] of one batch. Overwrites `acts`."""
        acts.view(-1, acts.shape[2]).index_fill_(0, geometry.excluded, 0.0)
        row, position, latent = acts.nonzero(as_tuple=True)
        records = np.empty(len(row), dtype=_POSTING)
        records["value"] = acts[row, position, latent].float().cpu().numpy()
        records["latent"] = latent.cpu().numpy()
        records["position"] = geometry.contexts[row.cpu().numpy()] * self.context_length + position.cpu().numpy()
        self.counts[geometry.split] += np.bincount(records["latent"], minlength=self.counts.shape[1])
        self._buffer.append(records)
        self._buffered += len(records)
        if self._buffered >= RUN_POSTINGS:
            self.flush()

    def flush(self) -> None:
        """Spill what is buffered as a run sorted by latent, and make it durable."""
        if self._buffered:
            run = np.concatenate(self._buffer)
            run = run[np.argsort(run["latent"], kind="stable")]
            self._spill.write(run.tobytes())
            self.runs.append(len(run))
            self._buffer, self._buffered = [], 0
        self._spill.flush()
        os.fsync(self._spill.fileno())

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything needed to go on, after `flush`."""
        return {"counts": self.counts, "runs": np.array(self.runs, dtype=np.int64)}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` returned; postings spilled after it are cut off."""
        self.counts[:] = state["counts"]
        self.runs = state["runs"].tolist()
        self._spill.truncate(sum(self.runs) * _POSTING.itemsize)

    def restart(self) -> None:
        """Forget everything that a killed run without a checkpoint has spilled."""
        self._spill.truncate(0)

    def merge(self) -> None:
        """Place all runs in the final files and drop the spill. Can be repeated after a kill."""
        self.flush()
        totals = self.counts.sum(0)
        cursor = np.cumsum(totals) - totals
        positions = self._output("positions.npy", np.int64, int(totals.sum()))
        values = self._output("values.npy", np.float32, int(totals.sum()))
        self._spill.seek(0)
        for size in self.runs:
            run = np.frombuffer(self._spill.read(size * _POSTING.itemsize), dtype=_POSTING)
            counts = np.bincount(run["latent"], minlength=len(cursor))
            first = np.cumsum(counts) - counts
            to = cursor[run["latent"]] + np.arange(size) - first[run["latent"]]
            positions[to] = run["position"]
            values[to] = run["value"]
            cursor += counts
        for array in (positions, values):
            if isinstance(array, np.memmap):
                array.flush()
        write_array(self.folder / "counts.npy", self.counts)

    def _output(self, name: str, dtype: npt.DTypeLike, size: int) -> npt.NDArray[Any]:
        """A new ``.npy`` file, mapped for writing."""
        path = self.folder / name
        reserve_array(path, dtype, (size,))
        # There is no map of nothing.
        return np.lib.format.open_memmap(path, mode="r+") if size else np.empty(0, dtype=dtype)

    def discard_spill(self) -> None:
        """Remove the spill once the index is complete."""
        self.close()
        (self.folder / "spill.bin").unlink(missing_ok=True)


class Postings:
    """The postings of one dictionary group, mapped from disk."""

    def __init__(self, folder: Path) -> None:
        self.counts: IntArray = load_array(folder / "counts.npy", mapped=False)
        """Non-zero activations, [split, latent]."""
        self._positions = load_array(folder / "positions.npy")
        self._values = load_array(folder / "values.npy")
        totals = self.counts.sum(0)
        self._starts = np.cumsum(totals) - totals

    @property
    def n_latents(self) -> int:
        return len(self._starts)

    def read(self, latent: int, which: int) -> tuple[IntArray, FloatArray]:
        """Positions (context * context length + position, ascending) and values of a latent in split `which`."""
        first = int(self._starts[latent] + self.counts[:which, latent].sum())
        stretch = slice(first, first + int(self.counts[which, latent]))
        return np.array(self._positions[stretch]), np.array(self._values[stretch])
