"""How often the 95 % intervals hold the truth, over how rare a unit is and how good its description."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.error_control.simulate import (
    THRESHOLD,
    UNIT,
    Corpus,
    SimulatedPredictor,
    SimulatedView,
    Truth,
    draw,
    source_f1,
)
from scorers.bootstrap import intervals
from scorers.metrics import METRICS
from scorers.simulation import ask, held_out

PREVALENCES = (0.001, 0.003, 0.01, 0.03, 0.1)
#: Precision and recall; F1 about 0.3, 0.5, 0.7, 0.85 and 0.96. (An interval cannot fail to hold an F1 of exactly 1.)
QUALITIES = ((0.25, 0.4), (0.5, 0.5), (0.7, 0.7), (0.9, 0.8), (0.97, 0.95))


def coverage(
    rng: np.random.Generator, runs: int, *, documents: int = 500, resamples: int = 200, population: int = 40_000
) -> list[dict[str, Any]]:
    """A row for each cell: truth, share of intervals that hold it, that miss it on either side, and mean width.

    `population` documents of the source say what the truth is of rare units; a tenth is enough where they are dense.
    """
    metric = METRICS.get("f1")
    rows = []
    corpus = Corpus(documents=documents)
    for prevalence in PREVALENCES:
        for precision, recall in QUALITIES:
            source = Truth(prevalence, precision, recall)
            truth = source_f1(rng, source, round(population * min(1, 0.003 / prevalence)))
            ends = []
            for _ in range(runs):
                view = SimulatedView(draw(rng, source, corpus), corpus, rng)
                held = held_out(view, UNIT, "+", THRESHOLD)
                if not held.active.any():
                    continue
                comparison = held.compare(ask(SimulatedPredictor(), view, held))
                found = intervals([metric], comparison, held.documents, resamples=resamples, rng=rng)["f1"]
                if found.low is not None and found.high is not None:
                    ends.append((found.low, found.high))
            low, high = np.array(ends).T
            rows.append({
                "prevalence": prevalence, "f1": truth, "runs": len(ends),
                "covered": float(((low <= truth) & (truth <= high)).mean()),
                "too_high": float((low > truth).mean()), "too_low": float((high < truth).mean()),
                "width": float((high - low).mean()),
            })  # fmt: skip
    return rows
