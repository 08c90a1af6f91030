"""Reading an activation index: one split at a time, one unit at a time, each in milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from tools.errors import IndexDataError
from tools.index.contents import Contents
from tools.index.dense import margins
from tools.index.manifest import read_manifest, verify_files
from tools.index.plan import PanelLayout
from tools.index.seal import Opening, SealKeeper, check_seal
from tools.index.settings import SPLITS
from tools.index.sources import DenseSource, DenseSplit, Source, SparseSource, Tail
from tools.index.texts import TextsView, read_only
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
    """Activations of a corpus at rest. `view` gives one open split, a `keeper` the sealed ones; nothing gives all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)
        self._contents = Contents.open(path, self.manifest)
        self.key = self._contents.key
        self.window, self.top_k = self._contents.window, self._contents.top_k
        self.tokens: Mapping[Split, int] = MappingProxyType(self._contents.tokens)
        self._views: dict[Split, SplitView] = {}

    @property
    def units(self) -> list[UnitId]:
        """The requested units. Of a sparse group, `SplitView` also knows all other latents."""
        return [UnitId(group, int(i)) for group, indices in self._contents.groups.items() for i in indices]

    def verify(self) -> None:
        """Compare every file with its checksum; `IndexDataError` names the first that differs."""
        verify_files(self.path, self.manifest)

    def view(self, split: Split) -> SplitView:
        """The view of an open split.

        Raises:
            SealedError: score or audit, which a keeper opens.
            IndexDataError: the split has no tokens.
        """
        check_seal(split)
        return self._show(split)

    def keeper(self, record: Callable[[Opening], object]) -> SealKeeper:
        """A keeper of the sealed splits, which tells `record` of each opening before it opens."""
        return SealKeeper(self._show, record)

    def _show(self, split: Split) -> SplitView:
        if not self.tokens[split]:
            raise IndexDataError(f"The index {self.key} has no tokens in the {split} split: the corpus is too small.")
        if split not in self._views:
            self._views[split] = SplitView(self._contents, split)
        return self._views[split]


class SplitView:
    """What an index knows of one split, and nothing of the others.

    Arrays over panel positions run through `panel_contexts` in order. Views are shared by all who look at a split, so
    whatever they hand out is a copy or cannot be written to.
    """

    def __init__(self, contents: Contents, split: Split) -> None:
        self._contents = contents
        self._split = split
        self._texts = TextsView(contents.texts, split)
        self._which = SPLITS.index(split)
        self._layout = PanelLayout.of(contents.texts, contents.panel_contexts, self._which)
        length = contents.texts.context_length
        mask: BoolArray = np.zeros((len(self._layout.rows), length), dtype=np.bool_)
        self._panel_rows = np.searchsorted(self._layout.rows, self._layout.contexts)
        mask[self._panel_rows, self._layout.positions] = True
        self._panel_contexts, self._panel_mask = read_only(self._layout.rows), read_only(mask)
        self._panel_index = read_only(self._layout.contexts), read_only(self._layout.positions)
        self._blocks_per_context = -(-length // contents.window)
        self._panel_blocks = block_key(
            self._layout.contexts, self._layout.positions // contents.window, self._blocks_per_context
        )
        self._dense = DenseSplit(contents.path, self._which) if contents.has_dense else None

    @property
    def split(self) -> Split:
        """Which split this is."""
        return self._split

    @property
    def texts(self) -> TextsView:
        """The split's tokens."""
        return self._texts

    @property
    def n_tokens(self) -> int:
        """Tokens of the split, position 0 of contexts left out: the population of `sample`."""
        return self._contents.tokens[self._split]

    @property
    def window(self) -> int:
        """Tokens in a block, the sampling unit: block b of a context begins at position b * window."""
        return self._contents.window

    @property
    def panel_contexts(self) -> IntArray:
        """The panel's contexts, ascending, [n_panel_contexts]."""
        return self._panel_contexts

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        """Context and position of each panel position, [n_panel_positions] each."""
        return self._panel_index

    @property
    def panel_mask(self) -> BoolArray:
        """Which cells of `panel` are real, [n_panel_contexts, context length]; position 0 never is."""
        return self._panel_mask

    def holds(self, unit: UnitId) -> bool:
        """Whether the index has the unit's activations."""
        return self._contents.holds(unit)

    def _source(self, unit: UnitId) -> Source:
        contents = self._contents
        postings = contents.postings_of(unit)
        if postings is not None:
            return SparseSource(
                postings,
                unit.index,
                self._which,
                contents.texts,
                self._layout,
                tokens=self.n_tokens,
                window=contents.window,
                top_k=contents.top_k,
            )
        row = contents.dense_row(unit)
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
            documents=self._contents.texts.documents[contexts],
        )

    def _certain(self, tails: tuple[Tail, Tail]) -> tuple[tuple[IntArray, IntArray], FloatArray]:
        """Strongest blocks of both tails, each once: (contexts, blocks), and activations [n, window]."""
        before, _ = margins(self._contents.window)
        contexts = np.concatenate([tail.contexts for tail in tails])
        blocks = np.concatenate([tail.blocks for tail in tails])
        _, once = np.unique(block_key(contexts, blocks, self._blocks_per_context), return_index=True)
        values = np.concatenate([tail.values for tail in tails])[once, before : before + self._contents.window]
        return (contexts[once], blocks[once]), values

    def _expand(self, at: tuple[IntArray, IntArray], values: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Contexts, positions and activations of the counted tokens of blocks."""
        contexts, blocks = at
        positions = blocks[:, None] * self._contents.window + np.arange(self._contents.window)
        real = (positions >= 1) & (positions < self._contents.texts.lengths[contexts][:, None])
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

        Raises:
            UnitError: the unit is not in the index.
            ValueError: unknown kind, negative `n`, no `window`.
        """
        if n < 0 or window < 1:
            raise ValueError(f"n is {n} and window {window}; they are at least 0 and 1")
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
        before, _ = margins(self._contents.window)
        panel = source.panel() if np.isin(tail.contexts[:n], self.panel_contexts).any() else None
        examples = []
        for context, block, values in zip(
            tail.contexts[:n].tolist(), tail.blocks[:n].tolist(), tail.values, strict=False
        ):
            inside = sign * values[before : before + self._contents.window]
            peak = block * self._contents.window + int(np.nanargmax(inside))
            if panel is not None and context in self.panel_contexts:
                known, first = self._context_values(panel, context), 1
            else:
                real = np.flatnonzero(~np.isnan(values))
                first = block * self._contents.window - before + int(real[0])
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
        texts = self._contents.texts
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
