"""Units and descriptions whose truth is known because they are drawn: activity in runs, clustered in documents.

A document is active at a rate of its own (gamma distributed with mean the prevalence), in runs of geometric length,
with a strength for each run. A description finds a run with a probability that differs between documents (beta
distributed with mean the recall), and raises false alarms in runs, at rates that differ between documents. The sample
of a split is drawn as `tools.index` draws it: a panel of documents in which all positions are kept, and the strongest
blocks of all the split's documents, which stand for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scorers.types import DoubleArray
from tools.types import BoolArray, FloatArray, IntArray, Sample, Split, UnitId

#: Tokens of a block.
BLOCK = 32
THRESHOLD = 0.5
UNIT = UnitId("mlp:0", 0)


@dataclass(frozen=True)
class Truth:
    """What the source of the documents is like."""

    prevalence: float
    precision: float
    recall: float
    clustering: float = 1.0
    """Shape of the gamma distribution of rates over documents: the smaller, the more of the activity is in few."""

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall)


@dataclass(frozen=True)
class Corpus:
    """How large things are; the defaults are those of a campaign."""

    documents: int = 1000
    length: int = 256
    panel: int = 94
    top: int = 24


@dataclass(frozen=True)
class Documents:
    """Drawn documents; arrays are [documents, length]."""

    values: DoubleArray
    predicted: BoolArray

    @property
    def active(self) -> BoolArray:
        return self.values > THRESHOLD


class SimulatedView:
    """A split with one unit, as `scorers` see it: one document a context."""

    split = Split.SCORE
    window = BLOCK

    def __init__(self, drawn: Documents, corpus: Corpus, rng: np.random.Generator) -> None:
        self.drawn, self.corpus = drawn, corpus
        self.panel = np.sort(rng.choice(corpus.documents, min(corpus.panel, corpus.documents), replace=False))

    @property
    def texts(self) -> Any:
        return self.drawn.predicted

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        length = self.corpus.length
        return np.repeat(self.panel, length - 1), np.tile(np.arange(1, length), len(self.panel))

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        contexts, positions = self.panel_index
        return np.repeat(self.drawn.values[contexts, positions][None], len(units), axis=0).astype(np.float32)

    def sample(self, unit: UnitId) -> Sample:
        values = self.drawn.values
        documents, length = values.shape
        blocks = values.reshape(documents, length // BLOCK, BLOCK).max(axis=2)
        strongest = np.argsort(-blocks.max(axis=1))[: self.corpus.top]
        sure = np.zeros(blocks.shape, dtype=np.bool_)
        sure[strongest, blocks[strongest].argmax(axis=1)] = True
        panel = np.zeros(blocks.shape, dtype=np.bool_)
        panel[self.panel] = True
        weight = np.where(sure, 1.0, (~sure).sum() / max(1, (panel & ~sure).sum()))
        at, block = np.nonzero(panel | sure)
        position = block[:, None] * BLOCK + np.arange(BLOCK)
        keep = position >= 1
        rows = np.broadcast_to(at[:, None], position.shape)
        return Sample(
            contexts=rows[keep],
            positions=position[keep],
            values=values[rows[keep], position[keep]].astype(np.float32),
            weights=np.broadcast_to(weight[at, block][:, None], position.shape)[keep].astype(np.float32),
            documents=rows[keep],
        )


class SimulatedPredictor:
    """Says what was drawn for the description."""

    name = "simulated"

    def predict(self, texts: Any, contexts: IntArray, positions: IntArray) -> FloatArray:
        return np.asarray(texts[contexts, positions], dtype=np.float32)


def draw_runs(rng: np.random.Generator, rate: DoubleArray, length: int) -> tuple[IntArray, IntArray, IntArray]:
    """Document, first position and length of runs that make each position of document d active at about `rate[d]`."""
    runs = rng.poisson(rate * length / 2)
    document = np.repeat(np.arange(len(rate)), runs)
    return document, rng.integers(0, length, len(document)), rng.geometric(0.5, len(document))


def paint(target: DoubleArray, runs: tuple[IntArray, IntArray, IntArray], strength: DoubleArray) -> None:
    """Raise `target` [documents, length] to each run's strength."""
    document, first, size = runs
    for k in range(int(size.max(initial=0))):
        here = (size > k) & (first + k < target.shape[1])
        np.maximum.at(target, (document[here], first[here] + k), strength[here])


def draw(rng: np.random.Generator, truth: Truth, corpus: Corpus) -> Documents:
    """Documents with a unit and a description of it."""
    shape = (corpus.documents, corpus.length)
    rate = truth.prevalence * rng.gamma(truth.clustering, 1 / truth.clustering, corpus.documents)
    runs = draw_runs(rng, rate, corpus.length)
    values = 0.1 * rng.random(shape)
    paint(values, runs, 1 + rng.gamma(2.0, 0.3, len(runs[0])))
    found = np.ones(corpus.documents)
    if 0 < truth.recall < 1:
        found = rng.beta(8 * truth.recall, 8 * (1 - truth.recall), corpus.documents)
    elif truth.recall == 0:
        found = np.zeros(corpus.documents)
    hit = rng.random(len(runs[0])) < found[runs[0]]
    said = np.zeros(shape)
    paint(said, (runs[0][hit], runs[1][hit], runs[2][hit]), np.ones(int(hit.sum())))
    # Runs overlap each other where the unit is dense, so that false alarms are set against what is left silent.
    alarms = truth.prevalence * truth.recall * (1 / max(truth.precision, 1e-9) - 1) / (1 - truth.prevalence)
    if truth.precision < 1:
        noise = np.zeros(shape)
        spread = rng.gamma(truth.clustering, 1 / truth.clustering, corpus.documents)
        false = draw_runs(rng, alarms * spread, corpus.length)
        paint(noise, false, np.ones(len(false[0])))
        said = np.maximum(said, noise * (values < THRESHOLD))
    return Documents(values, said > 0)


def whole_f1(drawn: Documents) -> float:
    """F1 over all drawn documents, position 0 left out as in an index."""
    both, total = _agreement(drawn)
    return 2 * both / total if total else 0.0


def source_f1(rng: np.random.Generator, truth: Truth, documents: int) -> float:
    """F1 over so many documents of the source, drawn a few thousand at a time."""
    parts = [_agreement(draw(rng, truth, Corpus(documents=2000))) for _ in range(max(1, documents // 2000))]
    both, total = np.sum(parts, axis=0)
    return float(2 * both / total) if total else 0.0


def _agreement(drawn: Documents) -> tuple[int, int]:
    """Hits, and active plus predicted positions."""
    active, said = drawn.active[:, 1:], drawn.predicted[:, 1:]
    return int((active & said).sum()), int(active.sum() + said.sum())


def simulated(
    rng: np.random.Generator, truth: Truth, corpus: Corpus | None = None
) -> tuple[SimulatedView, UnitId, SimulatedPredictor]:
    """A view, its unit and the description as a predictor."""
    corpus = corpus or Corpus()
    return SimulatedView(draw(rng, truth, corpus), corpus, rng), UNIT, SimulatedPredictor()
