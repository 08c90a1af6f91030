"""Simulation scoring: predict a unit's activation on held-out text, position by position, and compare.

After "Language models can explain neurons in language models" (Bills et al. 2023), with three differences. The sample
is weighted back to the corpus, so that every metric is at the true prevalence and not at that of a chosen set of top
examples. Activations keep their sign. And a value comes with an interval and with what it would be by chance.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from explainers.types import Predictor
from scorers.bootstrap import Resampler, intervals
from scorers.errors import ScorerError
from scorers.metrics import METRICS, Comparison, Metric, evaluate
from scorers.permutation import MAX_LEVELS, MAX_ROTATIONS, pairing_null, rotation_null
from scorers.registry import Registry
from scorers.types import DoubleArray, Null, Score, ScoreSet, View, protocol_hash
from tools.types import BoolArray, IntArray, UnitId

NAME: Final = "simulation"
VERSION: Final = 2
"""Raised whenever a change can alter a value, an interval or a p-value."""
DEFAULT_METRICS: Final = (
    "f1", "average_precision", "pearson", "precision", "recall", "balanced_accuracy", "auroc",
)  # fmt: skip


class Scorer(Protocol):
    """A protocol that tests a predictor of one unit's activation on one split."""

    def __call__(
        self,
        predictor: Predictor,
        view: View,
        unit: UnitId,
        polarity: str,
        threshold: float,
        *,
        null_units: Sequence[UnitId] = (),
        resamples: int = 1000,
        seed: int = 0,
    ) -> ScoreSet: ...


#: Scorers by name.
SCORERS: Registry[Scorer] = Registry("scorer")


@dataclass(frozen=True)
class HeldOut:
    """The held-out sample of one tail of a unit in the order of the text; arrays are [n]."""

    unit: UnitId
    polarity: str
    threshold: float
    contexts: IntArray
    positions: IntArray
    documents: IntArray
    values: DoubleArray
    """Activation times the polarity's sign."""
    weights: DoubleArray

    @property
    def active(self) -> BoolArray:
        return self.values > self.threshold

    def __len__(self) -> int:
        return len(self.contexts)

    def part(self, rows: IntArray, weights: DoubleArray) -> HeldOut:
        """Some of the rows, with weights of their own."""
        return HeldOut(
            self.unit, self.polarity, self.threshold, self.contexts[rows], self.positions[rows], self.documents[rows],
            self.values[rows], weights,
        )  # fmt: skip

    def compare(self, raw: DoubleArray) -> Comparison:
        """Against predictions [n], of which NaN could not be parsed and is wrong."""
        prediction = wrong_answers(raw, self.active, self.threshold)
        return Comparison(
            activation=np.maximum(self.values, 0),
            active=self.active,
            prediction=prediction,
            predicted=prediction > self.threshold,
            weights=self.weights,
        )


def score_simulation(
    predictor: Predictor,
    view: View,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    null_units: Sequence[UnitId] = (),
    resamples: int = 1000,
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> ScoreSet:
    """Score predicted activations on one split.

    With s = 1 for polarity '+' and -1 for '-', the true magnitude is max(0, s * activation), the unit is active where
    s * activation > threshold, and it is predicted to be active where the prediction > threshold.

    Args:
        predictor: predicts the magnitude on that polarity from text alone. NaN is an answer that could not be parsed;
            it counts as wrong (see `wrong_answers`), and its share is stored.
        view: the split; for a result, a sealed one.
        unit: the described unit.
        polarity: '+' or '-'.
        threshold: magnitude above which the unit is active; 0 or more, from explore.
        null_units: other units of the same group, for the pairing null; `unit` itself is skipped.
        resamples: bootstrap resamples.
        seed: with the unit and polarity, decides the resamples.
        metrics: names of registered metrics.

    Returns:
        One score per metric, in the order given. `p_value` and `null_mean` are those of the rotation null; the pairing
        null is the second of `nulls`. A metric that is undefined has value None and a reason, no interval, no p-value.

    Raises:
        ScorerError: unknown metric or polarity, negative threshold, misshapen or infinite predictions.
    """
    began = time.perf_counter()
    chosen = [METRICS.get(metric) for metric in metrics]
    held = held_out(view, unit, polarity, threshold)
    raw = ask(predictor, view, held)
    return score_held(
        predictor.name, view, held, raw, null_units=null_units, resamples=resamples, seed=seed, metrics=chosen,
        began=began,
    )  # fmt: skip


def score_held(
    name: str,
    view: View,
    held: HeldOut,
    raw: DoubleArray,
    *,
    null_units: Sequence[UnitId],
    resamples: int,
    seed: int,
    metrics: Sequence[Metric],
    began: float,
    drawn_from: HeldOut | None = None,
    drawn: Resampler | None = None,
) -> ScoreSet:
    """The scores of predictions `raw` [n] by the predictor `name` for a sample in the order of the text; the rest as
    in `score_simulation`. `began` is when the work started, by `time.perf_counter`; `drawn_from` is the unit's whole
    sample, where `held` is a part of it that was drawn by activity; `drawn` are the resamples of `seed`, where they
    serve several calls."""
    comparison = held.compare(raw)
    unseen = None
    if drawn_from is not None:
        unseen = max(float(drawn_from.weights.max()), float(held.weights[held.active].max(initial=0)))
    ends = intervals(
        metrics, comparison, held.documents, rng=drawn or resampler(seed, held, resamples), active_weight=unseen
    )
    longest = int(np.unique(held.contexts, return_counts=True)[1].max())
    rotation = rotation_null(metrics, comparison, shortest=longest)
    others = [other for other in null_units if other != held.unit]
    pairing = _pairing(metrics, held, comparison, view, others, whole=drawn_from is None)
    settings = {
        "resamples": resamples, "interval": "document percentile with mid-p phantoms", "rotations": MAX_ROTATIONS,
        "null_levels": MAX_LEVELS, "pairing": "density matched",
    }  # fmt: skip
    cost = {"seconds": time.perf_counter() - began, "positions": float(len(held))}
    documents, active, missing = len(np.unique(held.documents)), int(held.active.sum()), float(np.isnan(raw).mean())
    scores = []
    for metric in metrics:
        value, reason = evaluate(metric, comparison)
        own = rotation.get(metric.name)
        scores.append(
            Score(
                scorer=NAME,
                metric=metric.name,
                value=value,
                low=ends[metric.name].low,
                high=ends[metric.name].high,
                n_examples=len(held),
                n_documents=documents,
                n_active=active,
                null_mean=own.mean if own else None,
                p_value=own.p_value if own else None,
                split=str(view.split),
                predictor=name,
                protocol_hash=protocol_hash(NAME, VERSION, settings, metric.name),
                headline=metric.headline,
                unparseable=missing,
                reason=reason,
                nulls=tuple(null for null in (own, pairing.get(metric.name)) if null),
                cost=cost,
            )
        )
    return tuple(scores)


SCORERS.add(NAME, score_simulation)


def wrong_answers(prediction: DoubleArray, active: BoolArray, threshold: float) -> DoubleArray:
    """Fill predictions that could not be parsed (NaN) with the wrong answer.

    An answer that is dropped would raise the score of a predictor that fails on what is hard. So a missing answer is
    "not active" where the unit is active, and as strong as the strongest prediction where it is not.

    Args:
        prediction: [n], with NaN.
        active: [n], whether the unit is active.
        threshold: magnitude above which the unit is active.
    """
    missing = np.isnan(prediction)
    if not missing.any():
        return prediction
    strongest = float(np.nanmax(prediction)) if not missing.all() else threshold
    wrong = np.where(active, min(0.0, threshold), max(strongest, np.nextafter(threshold, np.inf), 2 * threshold))
    return np.where(missing, wrong, prediction)


def held_out(view: View, unit: UnitId, polarity: str, threshold: float) -> HeldOut:
    """A unit's sample of a split, in the order of the text.

    Raises:
        ScorerError: unknown polarity, negative threshold, or nothing sampled.
    """
    if polarity not in ("+", "-"):
        raise ScorerError(f"A polarity is '+' or '-', not '{polarity}'.")
    if not threshold >= 0:
        raise ScorerError(
            f"The threshold of {unit} on polarity '{polarity}' is {threshold:g}: that tail is empty and has no "
            "description to score. Leave the polarity out."
        )
    sample = view.sample(unit)
    order = np.lexsort((sample.positions, sample.contexts))
    if not len(order):
        raise ScorerError(f"The {view.split} split holds no sampled position of {unit}: the corpus is too small.")
    sign = 1.0 if polarity == "+" else -1.0
    return HeldOut(
        unit, polarity, threshold, sample.contexts[order], sample.positions[order], sample.documents[order],
        sign * sample.values[order].astype(np.float64), sample.weights[order].astype(np.float64),
    )  # fmt: skip


def ask(predictor: Predictor, view: View, held: HeldOut) -> DoubleArray:
    """What the predictor says of each position of a sample, [n]; NaN where it gave no answer that could be read.

    Raises:
        ScorerError: misshapen or infinite predictions.
    """
    raw = np.asarray(predictor.predict(view.texts, held.contexts, held.positions), dtype=np.float64)
    if raw.shape != held.contexts.shape:
        raise ScorerError(
            f"The predictor '{predictor.name}' gave predictions of shape {raw.shape} for {len(held)} positions."
        )
    if np.isinf(raw).any():
        raise ScorerError(f"The predictor '{predictor.name}' predicted an infinite activation for {held.unit}.")
    return raw


def generator(seed: int, unit: UnitId, polarity: str) -> np.random.Generator:
    """Random numbers that depend on the unit and not on the order in which units are scored."""
    digest = hashlib.sha256(f"{unit}{polarity}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def resampler(seed: int, held: HeldOut, resamples: int) -> Resampler:
    """The resamples of one tail of a unit."""
    return Resampler(lambda: generator(seed, held.unit, held.polarity), resamples)


def panel_rows(view: View, held: HeldOut) -> IntArray:
    """Where each position of the random panel is found in the sample, all of which holds them; [n_panel_positions].

    Raises:
        ScorerError: one is missing.
    """
    rows, columns = panel_pairs(view, held)
    if len(columns) < len(view.panel_index[0]):
        raise ScorerError("The sample of a unit lacks positions of the random panel; the index is inconsistent.")
    return rows


def panel_pairs(view: View, held: HeldOut) -> tuple[IntArray, IntArray]:
    """Rows of a sample in the order of the text that are positions of the random panel, and which of them they are."""
    contexts, positions = view.panel_index
    stride = 1 + max(int(held.positions.max()), int(positions.max()))
    keys, panel = held.contexts * stride + held.positions, contexts * stride + positions
    columns = np.minimum(np.searchsorted(panel, keys), len(panel) - 1)
    rows = np.flatnonzero(panel[columns] == keys)
    return rows.astype(np.int64), columns[rows].astype(np.int64)


def _pairing(
    metrics: Sequence[Metric], held: HeldOut, comparison: Comparison, view: View, others: Sequence[UnitId], *,
    whole: bool,
) -> dict[str, Null]:  # fmt: skip
    """The pairing null on the random panel, or on what of it is in a part of a sample."""
    if not others:
        return {}
    found = view.panel_matrix(others)
    if whole:
        rows = panel_rows(view, held)
    else:
        rows, columns = panel_pairs(view, held)
        found = found[:, columns]
    if held.polarity == "-":
        found = -found
    return pairing_null(metrics, comparison.rows(rows), found, weighted=not whole)
