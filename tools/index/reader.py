"""Reading an activation index: one split at a time, one unit at a time, each in milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tools.errors import IndexDataError, UnitError
from tools.index.dense import margins
from tools.index.manifest import NAME, expand_ranges, read_manifest, verify_files
from tools.index.plan import PanelLayout
from tools.index.seal import Opening, check_seal
from tools.index.settings import SPLITS
from tools.index.sources import DenseSource, DenseSplit, Source, SparseSource, Tail
from tools.index.sparse import Postings, group_folder
from tools.index.storage import damaged, load_array
from tools.index.texts import Texts, TextsView
from tools.index.weighting import Weights, block_key, weigh_panel, weighted_histogram, weighted_quantiles
from tools.types import BoolArray, Example, FloatArray, IntArray, Sample, Split, UnitId, UnitStatistics

ExampleKind = Literal["top", "bottom", "quantile", "random"]


def open_index(path: Path) -> ActivationIndex:
    """Open a complete index.

    Raises:
        IndexDataError: there is none, or a file is missing or has another size than the manifest says.
    """
    return ActivationIndex(Path(path))


class ActivationIndex:
    """Activations of a corpus at rest. `view` gives one split; `texts` holds the tokens of all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)
        try:
            self.key = str(self.manifest["key"])
            settings = self.manifest["settings"]
            self.window, self.top_k = int(settings["window"]), int(settings["top_k"])
            self.texts = Texts.open(path, int(settings["context"]))
            self._groups = {group: np.array(expand_ranges(text)) for group, text in self.manifest["groups"].items()}
            self._latents: dict[str, int] = dict(self.manifest["latents"])
            self.tokens = {Split(name): int(n) for name, n in self.manifest["tokens"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path / NAME, f"{type(error).__name__}: {error}") from error
        self.panel_contexts = load_array(path / "panel_contexts.npy", mapped=False)
        dense = {group: indices for group, indices in self._groups.items() if group not in self._latents}
        starts = np.cumsum([0, *map(len, dense.values())])
        self._first_rows = dict(zip(dense, starts.tolist(), strict=False))
        self.has_dense = bool(dense)
        self.postings = {group: Postings(group_folder(path, group)) for group in self._latents}
        self._views: dict[Split, SplitView] = {}

    @property
    def units(self) -> list[UnitId]:
        """The requested units. Of a sparse group, `SplitView` also knows all other latents."""
        return [UnitId(group, int(i)) for group, indices in self._groups.items() for i in indices]

    def verify(self) -> None:
        """Compare every file with its checksum; `IndexDataError` names the first that differs."""
        verify_files(self.path, self.manifest)

    def dense_row(self, unit: UnitId) -> int:
        """Row of a dense unit in the dense files; `UnitError` when it is not in this index."""
        indices = self._groups.get(unit.group)
        if indices is not None:
            at = int(np.searchsorted(indices, unit.index))
            if at < len(indices) and indices[at] == unit.index:
                return int(self._first_rows[unit.group]) + at
        raise self._unknown(unit)

    def _unknown(self, unit: UnitId) -> UnitError:
        having = ", ".join(f"{group} ({len(indices)} units)" for group, indices in list(self._groups.items())[:8])
        return UnitError(f"The unit {unit} is not in the index {self.key}, which has {having}. Build one with it.")

    def postings_of(self, unit: UnitId) -> Postings | None:
        """The postings that hold a unit, or None when it is dense."""
        postings = self.postings.get(unit.group)
        if postings is not None and unit.index >= postings.n_latents:
            raise self._unknown(unit)
        return postings

    def view(self, split: Split, *, opening: Opening | None = None) -> SplitView:
        """The view of one split.

        Raises:
            SealedError: score or audit without an opening.
            IndexDataError: the split has no tokens.
        """
        check_seal(split, opening)
        if not self.tokens[split]:
            raise IndexDataError(f"The index {self.key} has no tokens in the {split} split: the corpus is too small.")
        if split not in self._views:
            self._views[split] = SplitView(self, split)
        return self._views[split]


class SplitView:
    """What an index knows of one split. Arrays over panel positions run through `panel_contexts` in order."""

    def __init__(self, index: ActivationIndex, split: Split) -> None:
        self._index = index
        self.split = split
        self.texts = TextsView(index.texts, split)
        self.n_tokens = index.tokens[split]
        """Tokens of the split, position 0 of contexts left out: the population of `sample`."""
        self._which = SPLITS.index(split)
        self._layout = PanelLayout.of(index.texts, index.panel_contexts, self._which)
        self.panel_contexts: IntArray = self._layout.rows
        """The panel's contexts, ascending, [n_panel_contexts]."""
        self.panel_index: tuple[IntArray, IntArray] = (self._layout.contexts, self._layout.positions)
        """Context and position of each panel position, [n_panel_positions] each."""
        length = index.texts.context_length
        self.panel_mask: BoolArray = np.zeros((len(self.panel_contexts), length), dtype=np.bool_)
        """Which cells of `panel` are real, [n_panel_contexts, context length]; position 0 never is."""
        self._panel_rows = np.searchsorted(self.panel_contexts, self._layout.contexts)
        self.panel_mask[self._panel_rows, self._layout.positions] = True
        self._blocks_per_context = -(-length // index.window)
        self._panel_blocks = block_key(
            self._layout.contexts, self._layout.positions // index.window, self._blocks_per_context
        )
        self._panel_documents = index.texts.documents[self._layout.contexts]
        self._dense = DenseSplit(index.path, self._which) if index.has_dense else None

    def _source(self, unit: UnitId) -> Source:
        index = self._index
        postings = index.postings_of(unit)
        if postings is not None:
            return SparseSource(
                postings,
                unit.index,
                self._which,
                index.texts,
                self._layout,
                tokens=self.n_tokens,
                window=index.window,
                top_k=index.top_k,
            )
        row = index.dense_row(unit)
        assert self._dense is not None, "an index has dense files when it has a dense row"
        return DenseSource(self._dense, row, self.n_tokens)

    def panel(self, unit: UnitId) -> FloatArray:
        """Activations on the panel, [n_panel_contexts, context length]; 0 where `panel_mask` is false."""
        values = np.zeros(self.panel_mask.shape, dtype=np.float32)
        values[self._panel_rows, self._layout.positions] = self._source(unit).panel()
        return values

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        """Activations of several units at the panel positions, [n_units, n_panel_positions]."""
        return np.stack([self._source(unit).panel() for unit in units])

    def sample(self, unit: UnitId) -> Sample:
        """A weighted sample of the split's tokens; see `Sample`. The weights add up to `n_tokens`."""
        return self._sample(self._source(unit))

    def _sample(self, source: Source) -> Sample:
        index = self._index
        tails = source.tails()
        at, values = self._certain(tails)
        keys = block_key(*at, self._blocks_per_context) if len(values) else np.zeros(0, dtype=np.int64)
        panel_certain = np.isin(self._panel_blocks, keys)
        contexts, positions, found = self._expand(at, values)
        weight, shared = weigh_panel(self.n_tokens, len(contexts), panel_certain)
        if shared:
            outside = ~np.isin(contexts, self.panel_contexts)
            contexts, positions, found = contexts[outside], positions[outside], found[outside]
            panel_certain = np.zeros_like(panel_certain)
        rest = ~panel_certain
        contexts = np.concatenate([self._layout.contexts[rest], contexts])
        weights = np.ones(len(contexts), dtype=np.float32)
        weights[: int(rest.sum())] = weight
        return Sample(
            contexts=contexts,
            positions=np.concatenate([self._layout.positions[rest], positions]),
            values=np.concatenate([source.panel()[rest], found]),
            weights=weights,
            documents=index.texts.documents[contexts],
        )

    def _certain(self, tails: tuple[Tail, Tail]) -> tuple[tuple[IntArray, IntArray], FloatArray]:
        """Strongest blocks of both tails, each once: (contexts, blocks), and activations [n, window]."""
        before, _ = margins(self._index.window)
        contexts = np.concatenate([tail.contexts for tail in tails])
        blocks = np.concatenate([tail.blocks for tail in tails])
        _, once = np.unique(block_key(contexts, blocks, self._blocks_per_context), return_index=True)
        values = np.concatenate([tail.values for tail in tails])[once, before : before + self._index.window]
        return (contexts[once], blocks[once]), values

    def _expand(self, at: tuple[IntArray, IntArray], values: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Contexts, positions and activations of the counted tokens of blocks."""
        contexts, blocks = at
        positions = blocks[:, None] * self._index.window + np.arange(self._index.window)
        real = (positions >= 1) & (positions < self._index.texts.lengths[contexts][:, None])
        return np.broadcast_to(contexts[:, None], positions.shape)[real], positions[real], values[real]

    def statistics(self, unit: UnitId) -> UnitStatistics:
        """Exact moments and extremes; quantiles and histogram exact for latents, from the sample for dense units."""
        source = self._source(unit)
        moments = source.moments()
        distribution = source.distribution()
        if distribution is None:
            sample = self._sample(source)
            distribution = sample.values, sample.weights.astype(np.float64)
        values, weights = distribution
        edges, counts = weighted_histogram(values, weights, moments.minimum, moments.maximum, self.n_tokens)
        return UnitStatistics(
            unit=unit, tokens=self.n_tokens, mean=moments.mean, variance=moments.variance, minimum=moments.minimum,
            maximum=moments.maximum, nonzero=moments.nonzero, quantiles=weighted_quantiles(values, weights),
            histogram_edges=edges, histogram_counts=counts,
        )  # fmt: skip

    def examples(self, unit: UnitId, kind: ExampleKind, n: int, window: int = 24) -> list[Example]:
        """Windows of tokens around positions of a unit.

        Args:
            unit: Any unit of the index.
            kind: 'top' or 'bottom': the strongest position of each of the strongest blocks of the tail, strongest
                first; 'quantile': panel positions spread evenly over the activation's distribution, lowest first;
                'random': panel positions drawn uniformly, the same on every call.
            n: How many at most. There are at most `top_k` top or bottom examples, each from another document.
            window: Tokens to show: two thirds before the peak, one third from it on. Fewer where the context ends, or
                where the activations are not kept (beyond a strongest block and its margins).
        """
        source = self._source(unit)
        if kind in ("top", "bottom"):
            return self._strongest(source, kind, n, window)
        panel = source.panel()
        n = min(n, len(panel))
        if kind == "quantile":
            order = np.argsort(panel, kind="stable")
            chosen = order[((np.arange(n) + 0.5) / max(n, 1) * len(panel)).astype(np.int64)]
        elif kind == "random":
            seed = hashlib.sha256(f"{unit} {self.split}".encode()).digest()[:8]
            generator = np.random.default_rng(int.from_bytes(seed, "little"))
            chosen = np.sort(generator.choice(len(panel), n, replace=False))
        else:
            raise ValueError(f"kind is '{kind}'; it must be top, bottom, quantile or random")
        sample_weight = self._panel_weights(source)
        return [
            self._panel_example(panel, int(j), kind, window, float(weight))
            for j, weight in zip(chosen, sample_weight[chosen], strict=True)
        ]

    def _panel_weights(self, source: Source) -> Weights:
        """How many of the split's tokens each panel position stands for, beside the strongest blocks."""
        at, values = self._certain(source.tails())
        certain = np.isin(self._panel_blocks, block_key(*at, self._blocks_per_context))
        weight, shared = weigh_panel(self.n_tokens, len(self._expand(at, values)[0]), certain)
        return np.where(certain & (not shared), 1.0, weight)

    def _strongest(self, source: Source, kind: ExampleKind, n: int, window: int) -> list[Example]:
        sign, tail = (1.0, source.tails()[0]) if kind == "top" else (-1.0, source.tails()[1])
        before, _ = margins(self._index.window)
        panel = source.panel() if np.isin(tail.contexts[:n], self.panel_contexts).any() else None
        examples = []
        for context, block, values in zip(
            tail.contexts[:n].tolist(), tail.blocks[:n].tolist(), tail.values, strict=False
        ):
            inside = sign * values[before : before + self._index.window]
            peak = block * self._index.window + int(np.nanargmax(inside))
            if panel is not None and context in self.panel_contexts:
                known, first = self._context_values(panel, context), 1
            else:
                real = np.flatnonzero(~np.isnan(values))
                first = block * self._index.window - before + int(real[0])
                known = values[real[0] : real[-1] + 1]
            examples.append(self._example(context, peak, first, known, kind=kind, window=window, weight=1.0))
        return examples

    def _context_values(self, panel: FloatArray, context: int) -> FloatArray:
        """A panel context's activations from position 1 on."""
        first, last = np.searchsorted(self._layout.contexts, [context, context + 1])
        return panel[first:last]

    def _panel_example(self, panel: FloatArray, column: int, kind: ExampleKind, window: int, weight: float) -> Example:
        context = int(self._layout.contexts[column])
        known = self._context_values(panel, context)
        return self._example(
            context, int(self._layout.positions[column]), 1, known, kind=kind, window=window, weight=weight
        )

    def _example(self, context: int, peak: int, first: int, known: FloatArray, *, kind: ExampleKind, window: int,
                 weight: float) -> Example:  # fmt: skip
        """`known` are activations from position `first` on; the window stays within them."""
        window = min(window, len(known))
        start = min(max(peak - 2 * window // 3, first), first + len(known) - window)
        texts = self._index.texts
        return Example(
            document=texts.document_id(texts.document(context)),
            split=self.split,
            source=kind,
            context=context,
            start=start,
            peak=peak - start,
            tokens=tuple(texts.pieces(context, start, start + window)),
            activations=tuple(known[start - first : start - first + window].tolist()),
            weight=weight,
        )


__all__ = ["ActivationIndex", "ExampleKind", "SplitView", "open_index"]
