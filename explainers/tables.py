"""Lookup tables as predictors: the mean magnitude by token, or by (previous token, token).

They explain nothing (hundreds of entries, no generalisation) and are the references that a rule stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from explainers.rules.evaluate import group_by_context, reading_of
from explainers.types import TextSource
from tools.types import FloatArray, IntArray, Sample


class TablePredictor:
    """Mean magnitude of the last `width` tokens' combination on explore; the overall mean where it was never seen.

    Args:
        width: 1 for a token table, 2 for a pair table.
        texts: texts of the sample.
        sample: explore positions of the unit.
        sign: 1 or -1, the polarity.
    """

    def __init__(self, width: int, texts: TextSource, sample: Sample, sign: float = 1.0):
        self._describe(width)
        magnitude = np.maximum(sign * sample.values.astype(np.float64), 0)
        weights = sample.weights.astype(np.float64)
        sums: dict[tuple[str, ...], list[float]] = {}
        for key, w, y in zip(self._keys(texts, sample.contexts, sample.positions), weights, magnitude, strict=True):
            entry = sums.setdefault(key, [0.0, 0.0])
            entry[0] += w
            entry[1] += w * y
        self.means: dict[tuple[str, ...], float] = {key: total / weight for key, (weight, total) in sums.items()}
        self.default: float = float((weights * magnitude).sum() / weights.sum()) if len(sample) else 0.0

    @classmethod
    def of_means(cls, width: int, means: Mapping[tuple[str, ...], float], default: float) -> TablePredictor:
        """A table that was filled before.

        Args:
            width: tokens in a key.
            means: mean magnitude by the texts of the last `width` tokens.
            default: what is predicted for any other.
        """
        table = cls.__new__(cls)
        table._describe(width)
        table.means, table.default = dict(means), default
        return table

    def _describe(self, width: int) -> None:
        self.name = {1: "token-table", 2: "pair-table"}.get(width, f"{width}-token-table")
        self.width = width

    def __len__(self) -> int:
        return len(self.means)

    def entries_above(self, threshold: float) -> int:
        """Entries that predict 'active': what the table's length would be as a rule."""
        return sum(1 for mean in self.means.values() if mean > threshold)

    def _keys(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> list[tuple[str, ...]]:
        keys: list[tuple[str, ...]] = [()] * len(contexts)
        for context, rows in group_by_context(np.asarray(contexts)):
            pieces = reading_of(texts, context).pieces
            for row in rows.tolist():
                i = int(positions[row])
                keys[row] = tuple(pieces[max(i - self.width + 1, 0) : i + 1])
        return keys

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Predicted magnitude at each (context, position), float32, shape [n]."""
        keys = self._keys(texts, contexts, positions)
        return np.array([self.means.get(key, self.default) for key in keys], np.float32)
