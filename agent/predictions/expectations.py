"""What scores and effects on sealed text are to be expected, from open text, with an interval for what will be seen.

An interval for what will be seen is wider than one for the truth: both samples vary. With r the size of the open sample
over that of the sealed one, the ends are sqrt(1 + r) times as far away (a prediction interval; Faulkenberry 1973).

Of several rivals the one is asserted that did best, so its score is on average too high by what luck added. That is
estimated by choosing again among resampled documents: how much better the best of a resample does there than on the
whole split (Efron 1983; Tibshirani & Tibshirani 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agent.claims import Tried
from agent.disagreement import resampled_f1
from agent.plain import short
from agent.state import Json
from agent.triage import Tail
from explainers.output.claim import OutputClaim
from scorers.bootstrap import intervals
from scorers.metrics import METRICS, Comparison, evaluate
from tools.types import IntArray, Sample

#: Metrics that are predicted, by the scorers' names.
METRICS_FORETOLD = ("f1", "precision", "recall")
#: Resamples behind an interval.
RESAMPLES = 500
#: No effect is foretold more exactly than this share of it.
EXACT = 0.01
#: Half the width of a 95 % interval in standard errors.
_Z = 1.959964


def expected_scores(tried: Tried, chosen: int, *, ratio: float, seed: int) -> Json | None:
    """F1, precision and recall to be expected of the rival that is asserted.

    Args:
        tried: The rivals on the refine split.
        chosen: Number of the one that is asserted.
        ratio: Size of the refine sample over that of the sealed one.
        seed: Of the resamples.

    Returns:
        For each 'value', 'low' and 'high'; beside them the 'optimism' that was taken off. None where it was compared
        with nothing.
    """
    own = tried.comparisons[chosen]
    if own is None:
        return None
    rng = np.random.default_rng(seed)
    luck = optimism(tried.comparisons, tried.documents, seed=seed)
    chosen_metrics = [METRICS.get(name) for name in METRICS_FORETOLD]
    ends = intervals(chosen_metrics, own, tried.documents, resamples=RESAMPLES, rng=rng)
    found: Json = {"optimism": short(luck)}
    for metric in chosen_metrics:
        value = evaluate(metric, own)[0]
        if value is None:
            continue
        interval = ends[metric.name]
        found[metric.name] = _foretold(value, luck, (interval.low, interval.high), ratio)
    return found


def optimism(comparisons: Sequence[Comparison | None], documents: IntArray, *, seed: int) -> float:
    """How much too high the F1 of the best rival is on average for having been chosen; 0 of a single one."""
    known = [one for one in comparisons if one is not None]
    if len(known) < 2:
        return 0.0
    values = resampled_f1(known, documents, seed=seed, resamples=RESAMPLES)
    whole = np.array([evaluate(METRICS.get("f1"), one)[0] or 0.0 for one in known])
    best = values.argmax(0)
    # What resampling alone does to a rival, chosen or not, is no luck.
    drift = values.mean(1) - whole
    return max(0.0, float((values.max(0) - whole[best] - drift[best]).mean()))


def _foretold(value: float, luck: float, ends: tuple[float | None, float | None], ratio: float) -> Json:
    """A value between 0 and 1, less what luck added, with its interval for what will be seen.

    The upper end stays where it was: that luck played a part is likely, not sure.
    """
    centre, wider = max(0.0, value - luck), math.sqrt(1 + ratio)
    low, high = ends
    return {
        "value": short(centre),
        "low": None if low is None else short(max(0.0, centre + wider * (low - value))),
        "high": None if high is None else short(min(1.0, value + wider * (high - value))),
    }


def expected_density(samples: Sequence[Sample], tail: Tail, *, ratio: float, seed: int) -> Json | None:
    """The share of tokens to be expected at which a tail of a unit is active; None where nothing is sampled.

    Args:
        samples: Of the unit on the open splits.
        tail: The tail.
        ratio: Size of these samples over that of the sealed one.
        seed: Of the resamples.
    """
    sign = 1.0 if tail.polarity == "+" else -1.0
    values, weights, documents = (
        np.concatenate([getattr(sample, name) for sample in samples]) for name in ("values", "weights", "documents")
    )
    if not len(values):
        return None
    _, document = np.unique(documents, return_inverse=True)
    n = int(document.max()) + 1
    active = np.bincount(document, weights * (sign * values > tail.threshold), n)
    total = np.bincount(document, weights, n)
    value = float(active.sum() / total.sum())
    if n < 2:
        return {"value": short(value), "low": None, "high": None}
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = np.quantile((counts @ active) / (counts @ total), [0.025, 0.975])
    return _foretold(value, 0.0, (float(low), float(high)), ratio)


def expected_effect(claim: OutputClaim | None) -> Json | None:
    """How far the claimed tokens' logits will move at sealed places when the unit is turned off; None of no such claim.

    From their mean moves on open text, shrunk by what they lose where they were not chosen (cross-fitting), with an
    interval for the mean over as many places as were measured.
    """
    if claim is None or claim.kind != "changes":
        return None
    sizes = [token.size for token in (*claim.raised, *claim.lowered)]
    basis, error = claim.basis, claim.basis.get("shift_error")
    if error is None or not sizes or any(size is None for size in sizes):
        return None
    moved = float(np.mean([abs(size) for size in sizes if size is not None]))
    found, fitted = basis.get("shift"), basis.get("fitted")
    value = moved * min(1.0, fitted / found) if found and fitted else moved
    wide = max(_Z * error * math.sqrt(2), EXACT * abs(value))
    return {
        "metric": "output_shift", "value": short(value), "low": short(value - wide), "high": short(value + wide),
        "raised": [token.piece for token in claim.raised], "lowered": [token.piece for token in claim.lowered],
    }  # fmt: skip
