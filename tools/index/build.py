"""Building an activation index: one pass of the corpus through the subject serves every requested unit."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import IndexDataError
from tools.index.dense import BatchGeometry, DenseAccumulator, Panels
from tools.index.manifest import NAME, compress, list_files
from tools.index.plan import Batch, PanelLayout, batches, write_texts
from tools.index.reader import ActivationIndex, open_index
from tools.index.settings import (
    FLOAT32_PANEL_BYTES,
    FORMAT,
    SPLITS,
    IndexSettings,
    Progress,
    ProgressCallback,
    content_key,
)
from tools.index.sparse import PostingsWriter, group_folder
from tools.index.storage import disk_errors, exclusive, load_array, sync_folder, write_arrays, write_json
from tools.index.texts import Texts
from tools.types import BoolArray, IntArray, Site, UnitId
from tools.units import activations, check_unit, group_site, group_width, read_direction

if TYPE_CHECKING:
    from tools.corpora import Corpus
    from tools.subject import Subject

#: Latent activations computed at a time: dictionaries are wide, and all of a batch at once would not fit.
_LATENT_ELEMENTS = 1 << 25

#: Checkpoints take at most this share of the time, however large they are.
_CHECKPOINT_SHARE = 0.02


def build_index(subject: Subject, corpus: Corpus, units: Sequence[UnitId], home: Path,
                settings: IndexSettings | None = None, *,
                progress: ProgressCallback | None = None) -> ActivationIndex:  # fmt: skip
    """Build the index of `units` over `corpus`, or open it if it is complete, or go on where a run was interrupted.

    Args:
        subject: The model under study, dictionaries and directions attached.
        corpus: The documents.
        units: Units wanted. Of a sparse dictionary with any unit among them, all latents are indexed.
        home: Data folder; the index is ``home/indexes/KEY``.
        settings: See `IndexSettings`.
        progress: Called after every batch.

    Returns:
        The opened index. Two processes that want the same index build it once: the second waits.

    Raises:
        UnitError: a unit that the subject does not have.
        CorpusError: no tokens in the corpus.
        IndexDataError: settings out of range, disk full (the last checkpoint is kept), activations not finite.
    """
    settings = (settings or IndexSettings()).resolved(subject.context)
    groups = _group(subject, units)
    ranges = {group: compress(indices.tolist()) for group, indices in groups.items()}
    key = content_key(subject.fingerprint, _fingerprints(subject, groups), corpus.id, ranges, settings)
    path = home / "indexes" / key
    if (path / NAME).exists():
        return open_index(path)
    report = progress or (lambda _: None)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_name(f"{key}.lock"), lambda: report(Progress("waiting", 0, None, 0.0, 0.0))):
            if not (path / NAME).exists():
                folder = path.with_name(f"{key}.building")
                folder.mkdir(exist_ok=True)
                if not (folder / NAME).exists():
                    _Builder(
                        subject, corpus, groups, ranges=ranges, folder=folder, key=key, settings=settings, report=report
                    ).run()
                (folder / "state.npz").unlink(missing_ok=True)
                os.rename(folder, path)
                sync_folder(path.parent)
    return open_index(path)


def _group(subject: Subject, units: Sequence[UnitId]) -> dict[str, IntArray]:
    """Ascending indices of the units of each group; groups in order of kind, then layer or name."""
    if not units:
        raise IndexDataError("No units were given to index. Name some, e.g. mlp:*:*.")
    found: dict[str, set[int]] = {}
    for unit in units:
        check_unit(subject, unit)
        found.setdefault(unit.group, set()).add(unit.index)

    def order(group: str) -> tuple[str, int, str]:
        kind, _, where = group.partition(":")
        return kind, int(where) if where.isdigit() else -1, where

    return {group: np.array(sorted(found[group]), dtype=np.int64) for group in sorted(found, key=order)}


def _fingerprints(subject: Subject, groups: dict[str, IntArray]) -> dict[str, str]:
    """What identifies the attached things that groups stand for: dictionaries and directions."""
    prints = {}
    for group in groups:
        kind, _, name = group.partition(":")
        if kind == "sae":
            prints[group] = str(getattr(subject.dictionaries[name], "fingerprint", name))
        elif kind == "dir":
            vector = read_direction(subject, UnitId(group, 0))
            data = b"" if vector is None else vector.cpu().float().numpy().tobytes()
            prints[group] = hashlib.sha256(str(group_site(subject, group)).encode() + data).hexdigest()
    return prints


class _Builder:
    """One building of one index, from its last checkpoint to its manifest."""

    def __init__(self, subject: Subject, corpus: Corpus, groups: dict[str, IntArray], *, ranges: dict[str, str],
                 folder: Path, key: str, settings: IndexSettings,
                 report: Callable[[Progress], None]) -> None:  # fmt: skip
        self.subject, self.corpus, self.ranges, self.key = subject, corpus, ranges, key
        self.folder, self.settings, self.report = folder, settings, report
        self.started = time.monotonic()
        self.earlier = 0.0  # seconds that former runs have spent
        self.widths = {group: group_width(subject, group) for group in groups}
        self.sites: dict[str, Site] = {group: group_site(subject, group) for group in groups}
        self.sparse = [group for group in groups if group.startswith("sae:")]
        self.dense = {group: indices for group, indices in groups.items() if group not in self.sparse}
        self.n_dense = sum(len(indices) for indices in self.dense.values())

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def run(self) -> None:
        write_texts(self.folder, self.subject, self.corpus, self.settings, self._report_tokens)
        self.texts = Texts.open(self.folder, self.settings.length)
        panel = load_array(self.folder / "panel_contexts.npy", mapped=False)
        layouts = [PanelLayout.of(self.texts, panel, which) for which in range(len(SPLITS))]
        self._run_batches(layouts)
        files = list_files(self.folder)
        write_json(self.folder / NAME, {**self._facts(layouts), "files": files})

    def _report_tokens(self, done: int) -> None:
        self.report(Progress("tokens", done, None, self.seconds, done / max(1e-9, time.monotonic() - self.started)))

    # --- the pass through the corpus

    def _run_batches(self, layouts: list[PanelLayout]) -> None:
        """Run all batches from the last checkpoint on; every finished split is on disk when this returns."""
        plan = batches(self.texts, self.settings.batch_tokens)
        state = self._load_state(len(plan))
        which, done = (int(state["which"]), int(state["done"])) if state else (0, 0)
        self.earlier = float(state["seconds"]) if state else 0.0
        if which > len(SPLITS):
            return  # the postings are merged too
        with self._open_writers(state) as writers:
            accumulator = self._accumulator()
            if state:
                accumulator.restore({name[6:]: array for name, array in state.items() if name.startswith("dense:")})
            panels = self._panels(layouts)
            self._clock = _Clock(self.settings.checkpoint_seconds)
            lengths = np.cumsum([0, *(int(self.texts.lengths[b.first : b.last].sum()) for b in plan)])
            begun, at_begin = time.monotonic(), int(lengths[done])

            def checkpoint() -> None:
                self._save_state(which, done, len(plan), accumulator=accumulator, panels=panels, writers=writers)

            while which < len(SPLITS):
                while done < len(plan) and plan[done].split == which:
                    self._run_batch(plan[done], accumulator, panels, layouts, writers)
                    done += 1
                    rate = float(lengths[done] - at_begin) / max(1e-9, time.monotonic() - begun)
                    self.report(Progress("activations", int(lengths[done]), int(lengths[-1]), self.seconds, rate))
                    if self._clock.due():
                        self._clock.timed(checkpoint)
                if self.dense:
                    accumulator.write(self.folder, which, self._tokens(which))
                accumulator, which = self._accumulator(), which + 1
            checkpoint()
            total = int(lengths[-1])
            for writer in writers.values():
                self.report(Progress("postings", total, total, self.seconds, 0.0))
                writer.merge()
            which += 1
            # From here on the spilled runs are not needed any more, and a resumed run knows it.
            checkpoint()
            for writer in writers.values():
                writer.discard_spill()

    def _run_batch(self, batch: Batch, accumulator: DenseAccumulator, panels: Panels | None,
                   layouts: list[PanelLayout], writers: dict[str, PostingsWriter]) -> None:  # fmt: skip
        contexts = np.arange(batch.first, batch.last)
        ids, mask = self.texts.padded(contexts)
        captured = self.subject.capture(
            torch.from_numpy(ids), None if mask.all() else torch.from_numpy(mask).long(), set(self.sites.values())
        )
        counted = mask.copy()
        counted[:, 0] = False
        device = self.subject.device
        geometry = BatchGeometry(
            split=batch.split,
            contexts=contexts,
            lengths=torch.from_numpy(self.texts.lengths[batch.first : batch.last]).to(device),
            documents=self.texts.documents[batch.first : batch.last],
            excluded=torch.from_numpy(np.flatnonzero(~counted)).to(device),
            counted=int(counted.sum()),
        )
        with torch.inference_mode():
            for group, writer in writers.items():
                self._run_sparse(group, writer, captured, counted, geometry)
            if not self.dense or panels is None:
                return
            # All groups are computed before any is changed: some are the captured tensors themselves.
            acts = [self._columns(group, captured) for group in self.dense]
            accumulator.update(acts, geometry)
            layout = layouts[batch.split]
            in_panel = np.isin(contexts, layout.rows)
            if in_panel.any():
                first = int(np.searchsorted(layout.contexts, contexts[in_panel][0]))
                panels.write(first, in_panel, acts, geometry)

    def _columns(self, group: str, captured: Captured) -> Tensor:
        """Activations [batch, pos, requested units of the group], contiguous."""
        acts = activations(self.subject, group, captured)
        indices = self.dense[group]
        if len(indices) < self.widths[group]:
            acts = acts.index_select(2, torch.from_numpy(indices).to(acts.device))
        return acts.contiguous()

    def _run_sparse(self, group: str, writer: PostingsWriter, captured: Captured, counted: BoolArray,
                    geometry: BatchGeometry) -> None:  # fmt: skip
        """Latents of a batch, some contexts at a time."""
        site, positions = self.sites[group], counted.shape[1]
        step = max(1, _LATENT_ELEMENTS // (positions * self.widths[group]))
        for first in range(0, len(counted), step):
            part = slice(first, first + step)
            some = Captured({site: captured[site][part]}, None)
            excluded = torch.from_numpy(np.flatnonzero(~counted[part])).to(geometry.excluded.device)
            acts = activations(self.subject, group, some).contiguous()
            writer.add(acts, BatchGeometry(
                geometry.split, geometry.contexts[part], geometry.lengths[part], geometry.documents[part], excluded,
                int(counted[part].sum()),
            ))  # fmt: skip

    # --- state

    def _accumulator(self) -> DenseAccumulator:
        return DenseAccumulator(self.n_dense, self.settings, self.subject.device)

    def _panels(self, layouts: list[PanelLayout]) -> Panels | None:
        if not self.dense:
            return None
        return Panels(self.folder, [len(layout) for layout in layouts], self.n_dense, self._panel_dtype(layouts))

    def _panel_dtype(self, layouts: list[PanelLayout]) -> Literal["float16", "float32"]:
        if self.settings.dtype != "auto":
            return self.settings.dtype
        size = 4 * self.n_dense * sum(map(len, layouts))
        return "float32" if size <= FLOAT32_PANEL_BYTES else "float16"

    @contextmanager
    def _open_writers(self, state: dict[str, Any] | None) -> Iterator[dict[str, PostingsWriter]]:
        writers = {
            group: PostingsWriter(group_folder(self.folder, group), self.widths[group], self.settings.length)
            for group in self.sparse
        }
        try:
            for group, writer in writers.items():
                if state:
                    writer.restore({name: state[f"{group}:{name}"] for name in ("counts", "runs")})
                else:
                    writer.restart()
            yield writers
        finally:
            for writer in writers.values():
                writer.close()

    def _load_state(self, n_batches: int) -> dict[str, Any] | None:
        """The last checkpoint, unless it was made with other batches."""
        path = self.folder / "state.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IndexDataError(
                f"The checkpoint {path} is damaged ({error}).\n"
                f"Delete the folder {self.folder} and run the same command again."
            ) from error
        same = int(state["batch_tokens"]) == self.settings.batch_tokens and int(state["n_batches"]) == n_batches
        return state if same else None

    def _save_state(self, which: int, done: int, n_batches: int, *, accumulator: DenseAccumulator,
                    panels: Panels | None, writers: dict[str, PostingsWriter]) -> None:  # fmt: skip
        # What the state counts on must be durable before the state is.
        if panels is not None:
            panels.flush(durable=True)
        arrays: dict[str, Any] = {f"dense:{name}": array for name, array in accumulator.state().items()}
        for group, writer in writers.items():
            writer.flush()
            arrays.update({f"{group}:{name}": array for name, array in writer.state().items()})
        arrays.update(which=which, done=done, n_batches=n_batches, batch_tokens=self.settings.batch_tokens,
                      seconds=self.seconds)  # fmt: skip
        write_arrays(self.folder / "state.npz", {name: np.asarray(value) for name, value in arrays.items()})

    # --- manifest

    def _tokens(self, which: int) -> int:
        """Counted tokens of a split."""
        first, last = self.texts.split_bounds[which], self.texts.split_bounds[which + 1]
        return int(self.texts.lengths[first:last].sum()) - (last - first)

    def _facts(self, layouts: list[PanelLayout]) -> dict[str, Any]:
        seconds = self.seconds
        return {
            "format": FORMAT,
            "key": self.key,
            "subject": {"name": self.subject.name, "fingerprint": self.subject.fingerprint},
            "corpus": {"spec": self.corpus.spec, "id": self.corpus.id},
            "groups": self.ranges,
            "latents": {group: self.widths[group] for group in self.sparse},
            "settings": self.settings.address(),
            "n_contexts": self.texts.n_contexts,
            "n_documents": len(self.texts.document_ids),
            "tokens": {str(name): self._tokens(which) for which, name in enumerate(SPLITS)},
            "panel_tokens": {str(name): len(layouts[which]) for which, name in enumerate(SPLITS)},
            "build": {"seconds": seconds, "tokens_per_second": int(self.texts.lengths.sum()) / max(1e-9, seconds)},
        }


class _Clock:
    """Says when a checkpoint is due: every so many seconds, less often when checkpoints take long."""

    def __init__(self, seconds: float) -> None:
        self._least = self._interval = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._interval

    def timed(self, checkpoint: Callable[[], None]) -> None:
        begun = time.monotonic()
        checkpoint()
        self._last = time.monotonic()
        if self._least:
            self._interval = max(self._least, (self._last - begun) / _CHECKPOINT_SHARE)
