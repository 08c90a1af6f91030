"""A split of a planted corpus: true activations of every position are known, the sample is drawn as an index would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from scorers.metrics import Comparison
from scorers.types import DoubleArray
from tools.types import FloatArray, IntArray, Sample, Split, UnitId

WINDOW = 32


@dataclass(frozen=True)
class PlantedView:
    """One document per context; unit u is 'mlp:0:u'. A random panel of contexts, and the strongest blocks."""

    values: DoubleArray  # [units, contexts, length]
    panel_contexts: IntArray
    split: Split = Split.SCORE
    top_k: int = 12
    window: int = WINDOW

    @property
    def texts(self) -> DoubleArray:
        return self.values

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        length = self.values.shape[2]
        contexts = np.repeat(self.panel_contexts, length - 1)
        return contexts, np.tile(np.arange(1, length), len(self.panel_contexts))

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        contexts, positions = self.panel_index
        return np.stack([self.values[u.index, contexts, positions] for u in units]).astype(np.float32)

    def sample(self, unit: UnitId) -> Sample:
        values = self.values[unit.index]
        contexts, length = values.shape
        blocks = values.reshape(contexts, length // WINDOW, WINDOW).max(axis=2)
        strongest = np.argsort(-blocks.max(axis=1))[: self.top_k]
        sure = np.zeros(blocks.shape, dtype=bool)
        sure[strongest, blocks[strongest].argmax(axis=1)] = True
        in_panel = np.zeros(blocks.shape, dtype=bool)
        in_panel[self.panel_contexts] = True
        weight = np.where(sure, 1.0, (~sure).sum() / (in_panel & ~sure).sum())
        at, block = np.nonzero(in_panel | sure)
        # Strongest blocks last, as no scorer may rely on an order.
        order = np.argsort(sure[at, block], kind="stable")
        at, block = at[order], block[order]
        position = block[:, None] * WINDOW + np.arange(WINDOW)
        keep = position >= 1
        rows = np.broadcast_to(at[:, None], position.shape)
        return Sample(
            contexts=rows[keep],
            positions=position[keep],
            values=values[rows[keep], position[keep]].astype(np.float32),
            weights=np.broadcast_to(weight[at, block][:, None], position.shape)[keep].astype(np.float32),
            documents=rows[keep] + 1000,
        )


class TablePredictor:
    """Predicts what a table [contexts, length] says."""

    name = "table"

    def __init__(self, table: DoubleArray) -> None:
        self.table = table
        self.asked = 0

    def predict(self, texts: object, contexts: IntArray, positions: IntArray) -> FloatArray:
        self.asked += len(contexts)
        return self.table[contexts, positions].astype(np.float32)


@dataclass(frozen=True)
class Planted:
    view: PlantedView
    active: np.ndarray  # [contexts, length] truth of unit 0
    predictor: TablePredictor

    def predicting(self, table: DoubleArray) -> TablePredictor:
        return TablePredictor(table)


@pytest.fixture(scope="session")
def plant() -> Callable[..., Planted]:
    """Make a corpus in which unit 0 is active in runs, and a description with given precision and recall."""

    def make(
        *,
        seed: int = 0,
        contexts: int = 400,
        panel: int = 150,
        units: int = 40,
        prevalence: float = 0.01,
        precision: float = 0.8,
        recall: float = 0.8,
    ) -> Planted:
        rng = np.random.default_rng(seed)
        length = 64
        active = active_runs(rng, contexts, length, prevalence)
        hit = active & (rng.random(active.shape) < recall)
        false = ~active & (rng.random(active.shape) < prevalence * recall * (1 / precision - 1))
        values = 0.1 * np.abs(rng.normal(size=(units, contexts, length)))
        values[0] += active * (1 + rng.random(active.shape))
        for unit in range(1, units):
            values[unit] += active_runs(rng, contexts, length, prevalence) * (1 + rng.random(active.shape))
        chosen = np.sort(rng.choice(contexts, panel, replace=False))
        return Planted(PlantedView(values, chosen), active, TablePredictor(np.where(hit | false, 1.5, 0.0)))

    return make


def active_runs(rng: np.random.Generator, contexts: int, length: int, prevalence: float) -> np.ndarray:
    """Activity in runs of two, and more of it in some documents than in others."""
    rate = prevalence / 2 * rng.gamma(1.0, 1.0, contexts)
    start = rng.random((contexts, length)) < rate[:, None]
    return start | np.roll(start, 1, axis=1)


@pytest.fixture(scope="session")
def compare() -> Callable[..., Comparison]:
    """A comparison from plain lists; active above 0.5, weight 1 unless given."""

    def make(activation: Sequence[float], prediction: Sequence[float], weights: Sequence[float] | None = None, *,
             threshold: float = 0.5) -> Comparison:  # fmt: skip
        y, p = np.asarray(activation, dtype=float), np.asarray(prediction, dtype=float)
        w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
        return Comparison(np.maximum(y, 0), y > threshold, p, p > threshold, w)

    return make
