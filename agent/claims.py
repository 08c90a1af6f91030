"""From descriptions to claims that can be tested: which rival is best, what is asserted, how it is known by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.plain import digest
from explainers.output.claim import claim_in
from explainers.predictors import MakesPredictors, predictor_of
from explainers.types import Explainer, Explanation, Predictor
from scorers.metrics import METRICS, Comparison, evaluate
from scorers.windows import thin
from tools.index import SplitView
from tools.types import IntArray, Sample, UnitId


def claim_digest(
    unit: UnitId, polarity: str, threshold: float, explanation: Explanation, explainer: Explainer | None = None
) -> str:
    """By what a claim is known: a hash of all that it asserts and is tested on. Change any of it: another claim.

    Of the details, which say much about how a description was found, only those that are tested take part: a head's
    roles, what is said of the output, and all where the explainer makes predictions of them itself.
    """
    output = claim_in(explanation.details)
    figures = ("mass", "baseline")
    roles = [
        role["name"] if set(role) <= {"name", *figures} else {k: v for k, v in role.items() if k not in figures}
        for role in explanation.details.get("roles") or []
    ]
    return digest(
        {
            "unit": str(unit),
            "polarity": polarity,
            "threshold": threshold,
            "label": explanation.label,
            "input_half": explanation.input_half,
            "output_half": explanation.output_half,
            "exceptions": explanation.exceptions,
            "rule": explanation.rule,
            "roles": roles,
            "output": None if output is None else output.asserted,
            "details": explanation.details if isinstance(explainer, MakesPredictors) else None,
        }
    )


def compare(predictor: Predictor, view: SplitView, sample: Sample, polarity: str, threshold: float) -> Comparison:
    """Predicted against true activation on a sample of an open split."""
    sign = 1.0 if polarity == "+" else -1.0
    signed = sign * sample.values.astype(np.float64)
    prediction = np.asarray(predictor.predict(view.texts, sample.contexts, sample.positions), dtype=np.float64)
    # An answer that could not be parsed counts as a wrong one: as silence where the unit fires, and the reverse.
    wrong = np.where(signed > threshold, 0.0, 2 * threshold)
    prediction = np.where(np.isfinite(prediction), prediction, wrong)
    return Comparison(
        activation=np.maximum(signed, 0),
        active=signed > threshold,
        prediction=prediction,
        predicted=prediction > threshold,
        weights=sample.weights.astype(np.float64),
    )


#: What is known of a rival that was not compared.
_UNKNOWN: dict[str, Any] = {"f1": None, "average_precision": None}


@dataclass(frozen=True)
class Tried:
    """Rivals on the refine split, in their order."""

    marks: list[dict[str, Any]]
    """For each 'f1' and 'average_precision' at the corpus's prevalence; None where they are undefined, or the rival
    predicts nothing or was not asked."""
    comparisons: list[Comparison | None]
    """Predicted against true activation of each, on the same n positions."""
    documents: IntArray
    """Document of each position, [n]; empty where nothing was compared."""


def try_rivals(
    rivals: Sequence[Explanation],
    view: SplitView,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    explainer: Explainer | None = None,
    seed: int = 0,
    even_alone: bool = False,
    out: Collection[int] = (),
) -> Tried:
    """How each rival does on the refine split.

    A language model is not asked about a rival that is alone. Where it is asked, all rivals are compared on the same
    few windows of the split.

    Args:
        rivals: Descriptions of one tail of the unit.
        view: The refine split.
        unit: Whose activations they are compared with.
        polarity: '+' or '-'.
        threshold: Magnitude above which the unit counts as active.
        explainer: Who wrote them; None when their rules say it all.
        seed: Of the campaign; decides the windows.
        even_alone: Ask the language model about a single rival too.
        out: Numbers of rivals that are no longer in the running: the language model is not asked about them.
    """
    sample = view.sample(unit)
    predictors = [predictor_of(explainer, rival) for rival in rivals]
    nothing = Tried([dict(_UNKNOWN) for _ in rivals], [None] * len(rivals), np.zeros(0, np.int64))
    if not len(sample):
        return nothing
    costly = [i for i, predictor in enumerate(predictors) if getattr(predictor, "costly", False)]
    if costly:
        predictors = [None if i in out and i in costly else predictor for i, predictor in enumerate(predictors)]
        if len(rivals) - len(out) == 1 and not even_alone:
            return nothing
        sample = thin(view, unit, polarity, threshold, seed=seed, common_seed=seed)
    comparisons = [
        None if predictor is None else compare(predictor, view, sample, polarity, threshold) for predictor in predictors
    ]
    return Tried([mark_of(one) for one in comparisons], comparisons, sample.documents)


def mark_of(comparison: Comparison | None) -> dict[str, Any]:
    """The figures by which rivals are compared; unknown for one that predicts nothing."""
    if comparison is None:
        return dict(_UNKNOWN)
    return {name: evaluate(METRICS.get(name), comparison)[0] for name in _UNKNOWN}


def best_first(marks: Sequence[dict[str, Any]]) -> list[int]:
    """Numbers of the rivals by F1 on refine, then average precision; among equals the explainer's own first."""
    return sorted(
        range(len(marks)),
        key=lambda i: (
            1.0 if marks[i]["f1"] is None else -marks[i]["f1"],
            1.0 if marks[i]["average_precision"] is None else -marks[i]["average_precision"],
            i,
        ),
    )
