"""How well a judge's answers tell texts in which a unit is active from texts in which it is silent.

*Weights.* Both kinds of text count alike, however many there are of each: published scores are taken at as many active
as silent texts (Paulo et al. 2024, arXiv 2410.13928), and F1 depends on that.

*Answers that could not be had* are wrong: in an active text below every other answer, in a silent one above.

*Interval.* Whole documents are resampled (`scorers.bootstrap`).

*Null.* Labels are shuffled among the texts of one request, so that a judge's mood in one request, or a request that
failed, is as much a part of the null as of the score. Where each text was judged by itself, they are shuffled among
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from scorers.bootstrap import Interval, intervals
from scorers.metrics import ACTIVE, BOTH, METRICS, N_SUMS, PREDICTED, WEIGHT, Comparison, Metric, Totals
from scorers.types import DoubleArray, Null
from tools.types import BoolArray, IntArray

LEAST: Final = 4
"""Texts of either kind below which nothing is scored."""


@dataclass(frozen=True)
class Answers:
    """A judge's answers to n texts; arrays are parallel, [n]."""

    value: DoubleArray
    """Larger is surer that the unit is active; NaN where no answer could be had."""
    active: BoolArray
    group: IntArray
    """Number of the request."""
    document: IntArray
    peak: DoubleArray
    """Largest activation in the text, times the polarity's sign."""

    def part(self, rows: BoolArray) -> Answers:
        """Some of them."""
        return Answers(*(array[rows] for array in self.__dict__.values()))

    @property
    def unparseable(self) -> float:
        """Share of the answers that could not be had."""
        return float(np.isnan(self.value).mean()) if len(self.value) else 0.0


@dataclass(frozen=True)
class Measured:
    """One metric; value None with a reason where there is nothing to measure."""

    value: float | None
    interval: Interval
    null: Null | None
    reason: str | None = None


def measure(
    answers: Answers, metrics: Sequence[str], *, cut: float | None, resamples: int, rng: np.random.Generator
) -> dict[str, Measured]:
    """Metrics of `scorers.metrics` by name, with intervals and nulls.

    Args:
        answers: of all texts, active and silent.
        metrics: those that need no more than labels, a ranking and what counts as yes.
        cut: from which value on an answer means yes; None where it only ranks.
        resamples: of the bootstrap; also shuffles of the null.
        rng: of both.
    """
    chosen = [METRICS.get(metric) for metric in metrics]
    reason = _too_little(answers)
    if reason:
        return {metric: Measured(None, Interval(None, None), None, reason) for metric in metrics}
    labels = _shuffled(answers, resamples, rng)
    observed, shuffled = _totals(answers, answers.active[None], cut), _totals(answers, labels, cut)
    ends = intervals(chosen, _comparison(answers, cut), answers.document, resamples=resamples, rng=rng)
    return {metric.name: _measured(metric, observed, shuffled, ends[metric.name]) for metric in chosen}


def _measured(metric: Metric, observed: Totals, shuffled: Totals, interval: Interval) -> Measured:
    value = float(metric.values(observed)[0])
    return Measured(value, interval, Null.of("permutation", value, metric.values(shuffled)))


def _too_little(answers: Answers) -> str | None:
    for name, count in (("active", int(answers.active.sum())), ("silent", int((~answers.active).sum()))):
        if count < LEAST:
            return f"there are {count} {name} texts to ask about; at least {LEAST} are needed"
    return "no answer could be had" if np.isnan(answers.value).all() else None


def _shuffled(answers: Answers, draws: int, rng: np.random.Generator) -> BoolArray:
    """[draws, n] labels, each request's shuffled."""
    labels: BoolArray = np.tile(answers.active, (draws, 1))
    for group in np.unique(answers.group).tolist():
        rows = np.flatnonzero(answers.group == group)
        labels[:, rows] = rng.permuted(labels[:, rows], axis=1)
    return labels


def _levels(answers: Answers) -> tuple[DoubleArray, IntArray, IntArray]:
    """The distinct values, ascending, each answer's number among them, with a place below and one above all of them for
    the missing ones; and the number that a missing answer has in an active and in a silent text."""
    known = ~np.isnan(answers.value)
    distinct, inverse = np.unique(answers.value[known], return_inverse=True)
    level = np.zeros(len(known), dtype=np.int64)
    level[known] = inverse + 1
    return distinct, level, np.array([0, len(distinct) + 1])


def _totals(answers: Answers, labels: BoolArray, cut: float | None) -> Totals:
    """Totals under each of some labellings [k, n], all with as many active texts; both kinds weigh as much."""
    distinct, level, wrong = _levels(answers)
    missing = np.isnan(answers.value)
    n_active = int(answers.active.sum())
    silent_weight = n_active / (labels.shape[1] - n_active)
    levels = np.where(missing, np.where(labels, wrong[0], wrong[1]), level)
    # Highest first, as metrics want them.
    order = range(len(distinct) + 1, -1, -1)
    positives = np.stack([((levels == at) & labels).sum(axis=1) for at in order], axis=1).astype(np.float64)
    negatives = np.stack([((levels == at) & ~labels).sum(axis=1) for at in order], axis=1) * silent_weight
    sums = np.zeros((len(labels), N_SUMS))
    sums[:, WEIGHT], sums[:, ACTIVE] = 2 * n_active, n_active
    if cut is not None:
        yes = np.array([True, *(distinct[::-1] >= cut), False])
        sums[:, BOTH] = positives[:, yes].sum(axis=1)
        sums[:, PREDICTED] = sums[:, BOTH] + negatives[:, yes].sum(axis=1)
    return Totals(sums, positives, negatives, (0.0, 0.0))


def _comparison(answers: Answers, cut: float | None) -> Comparison:
    """The same as rows, for the bootstrap."""
    distinct, level, wrong = _levels(answers)
    missing = np.isnan(answers.value)
    levels = np.where(missing, np.where(answers.active, wrong[0], wrong[1]), level)
    first_yes = 1 + (int(np.searchsorted(distinct, cut)) if cut is not None else 0)
    silent_weight = answers.active.sum() / (~answers.active).sum()
    return Comparison(
        activation=np.maximum(answers.peak, 0),
        active=answers.active,
        prediction=levels.astype(np.float64),
        predicted=levels >= first_yes,
        weights=np.where(answers.active, 1.0, silent_weight),
    )
