"""What sequential scoring costs and decides, beside a score of the whole sample.

`compare` takes any claims, also those of planted models: give it triples of a view, a unit and a predictor with the
tail and its threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.error_control.simulate import THRESHOLD, Corpus, Truth, simulated
from explainers.types import Predictor
from scorers.sequential import score_sequential
from scorers.simulation import score_simulation
from scorers.types import View
from scorers.verdict import Verdict, judge
from tools.types import UnitId

PREVALENCES = (0.001, 0.003, 0.01, 0.05, 0.2)
#: Name, precision, recall.
QUALITIES = (
    ("right", 1.0, 1.0),
    ("nearly right", 0.95, 0.9),
    ("good", 0.8, 0.7),
    ("borderline", 0.55, 0.55),
    ("false", 0.03, 0.03),
)


@dataclass(frozen=True)
class Claim:
    """What is scored twice."""

    kind: str
    view: View
    unit: UnitId
    predictor: Predictor
    threshold: float
    polarity: str = "+"
    null_units: Sequence[UnitId] = ()


def claims(rng: np.random.Generator, each: int, documents: int = 500) -> Iterator[Claim]:
    """Simulated claims, `each` of every prevalence and quality."""
    corpus = Corpus(documents=documents)
    for kind, precision, recall in QUALITIES:
        for prevalence in PREVALENCES:
            for _ in range(each):
                view, unit, predictor = simulated(rng, Truth(prevalence, precision, recall), corpus)
                yield Claim(kind, view, unit, predictor, THRESHOLD)


def compare(given: Iterable[Claim], *, resamples: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each claim: both verdicts, and the share of positions that the sequential one asked for."""
    rows = []
    for claim in given:
        asked = (claim.predictor, claim.view, claim.unit, claim.polarity, claim.threshold)
        fixed = score_simulation(
            *asked, null_units=claim.null_units, resamples=resamples, seed=seed, metrics=["f1"]
        )  # fmt: skip
        early = score_sequential(
            *asked, null_units=claim.null_units, resamples=resamples, seed=seed, metrics=["f1"]
        )  # fmt: skip
        rows.append({
            "kind": claim.kind, "unit": str(claim.unit), "fixed": str(judge(fixed).verdict),
            "sequential": str(judge(early.scores).verdict), "stopped_for": early.verdict,
            "share": early.positions / early.positions_full,
        })  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By kind of claim and over all: agreement, median share of positions, share supported by either."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    result = []
    for kind in [*kinds, "all"]:
        some = [row for row in rows if kind in ("all", row["kind"])]
        shares = [row["share"] for row in some]
        result.append({
            "kind": kind, "claims": len(some),
            "agree": float(np.mean([row["fixed"] == row["sequential"] for row in some])),
            "median_share": float(np.median(shares)), "mean_share": float(np.mean(shares)),
            "supported_fixed": float(np.mean([row["fixed"] == Verdict.SUPPORTED for row in some])),
            "supported_sequential": float(np.mean([row["sequential"] == Verdict.SUPPORTED for row in some])),
        })  # fmt: skip
    return result
