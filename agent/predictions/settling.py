"""Comparing what was predicted with what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.bench import Bench
from agent.plain import digest, plain, short
from agent.state import Json
from agent.triage import Tail
from scorers.calibration import brier, log_loss
from scorers.types import DoubleArray, Score, View, protocol_hash
from tools.types import BoolArray, UnitId
from tools.units import unit_activations

NAME, VERSION = "predictions", 1
#: Under this name, in place of a split's, stand scores on made-up inputs.
CONSTRUCTED = "constructed"
RESAMPLES = 500


def active_share(view: View, unit: UnitId, tail: Tail) -> float | None:
    """Share of a split's tokens at which a tail of a unit is active; None where nothing is sampled."""
    sample = view.sample(unit)
    if not len(sample):
        return None
    sign = 1.0 if tail.polarity == "+" else -1.0
    return float(np.average(sign * sample.values > tail.threshold, weights=sample.weights))


def settled(
    bench: Bench, tested: tuple[UnitId, Tail] | None, predictions: Json, scores: Sequence[Score], density: float | None
) -> Json:
    """How predictions came out.

    Args:
        bench: Of the investigation.
        tested: The unit and tail that the claim was tested on; None where there is no such tail.
        predictions: As they were filed.
        scores: On sealed text.
        density: Share of active tokens there.

    Returns:
        'sealed' and 'effect': each prediction with the value that came and whether the interval held it; 'constructed':
        at which made-up inputs the unit was active; 'scores', as JSON; 'digest' of the predictions.
    """
    came = {score.metric: score.value for score in scores}
    if density is not None:
        came["density"] = density
    by = "rule_" if "rule_f1" in came else ""  # what was foretold of a rule is compared with the rule's own scores
    sealed = {
        metric: _compared(said, came.get(f"{by}{metric}", came.get(metric)))
        for metric, said in (predictions["sealed"] or {}).items()
        if isinstance(said, dict)
    }
    effect = predictions["effect"]
    found: Json = {
        "digest": predictions["digest"],
        "sealed": sealed,
        "effect": None if effect is None else {**effect, **_compared(effect, came.get(effect["metric"]))},
        "constructed": None,
        "scores": [],
    }
    if predictions["constructed"] is not None and tested is not None:
        active = active_last(bench, *tested, [probe["ids"] for probe in predictions["constructed"]["probes"]])
        probabilities = np.array([row["probability"] for row in predictions["constructed"]["probes"]])
        found["constructed"] = {"active": active.tolist()}
        seed = bench.seed(tested[0], f"settle {tested[1].polarity}")
        found["scores"] = [
            score.to_json()
            for score in constructed_scores(
                probabilities,
                active,
                predictions["constructed"]["base"],
                seed=seed,
                predictor="words" if "by" in predictions["constructed"] else "rule",
            )
        ]
    return plain(found)  # type: ignore[no-any-return]


def _compared(said: Json, value: float | None) -> Json:
    """Whether the value is in the interval, as both are written down."""
    low, high, came = said["low"], said["high"], None if value is None else short(value)
    held = None if came is None or low is None or high is None else bool(low <= came <= high)
    return {"foretold": said["value"], "low": low, "high": high, "value": came, "held": held}


def active_last(bench: Bench, unit: UnitId, tail: Tail, texts: Sequence[Sequence[int]]) -> BoolArray:
    """Whether a tail of a unit is active at the last token of each text, [n]."""
    found = unit_activations(bench.subject, [unit], texts)
    last = np.array([values[0, -1] for values in found], dtype=np.float64)
    return np.asarray((last if tail.polarity == "+" else -last) > tail.threshold)


def constructed_scores(
    probabilities: DoubleArray, active: BoolArray, base: float, *, seed: int, predictor: str = "rule"
) -> list[Score]:
    """Brier and logarithmic score of predictions on made-up inputs, against always saying the share of active tokens.

    They are diagnostics: nothing rests on them. `predictor` is what the probabilities come from, 'rule' or 'words'.
    """
    drawn = np.random.default_rng(seed).integers(len(active), size=(RESAMPLES, len(active)))
    made = []
    for metric, measure in (("prediction_brier", brier), ("prediction_log", log_loss)):
        each = measure(probabilities, active)
        low, high = np.quantile(each[drawn].mean(1), [0.025, 0.975])
        made.append(
            Score(
                scorer=NAME, metric=metric, value=float(each.mean()), low=float(low), high=float(high),
                n_examples=len(active), n_documents=len(active), n_active=int(active.sum()),
                null_mean=float(measure(np.full(len(active), base), active).mean()), p_value=None, split=CONSTRUCTED,
                predictor=predictor, protocol_hash=protocol_hash(NAME, VERSION, {"resamples": RESAMPLES}, metric),
                headline=False,
            )
        )  # fmt: skip
    return made


def prediction_rows(unit: UnitId, polarity: str, hypothesis: str, filed: Json, came: Json) -> Json:
    """The experiment that predictions are: what was foretold, and what came, on the rival that was asserted.

    The observations have no outcome: no verdict rests on them.
    """
    told = {name: value for name, value in filed.items() if name != "digest"}
    observations = []
    if came["sealed"]:
        observations.append((_summary(came["sealed"]), {"sealed": came["sealed"]}))
    if came["effect"] is not None:
        observations.append((_summary({"effect": came["effect"]}), {"effect": came["effect"]}))
    if came["constructed"] is not None:
        rows = filed["constructed"]["probes"]
        active = came["constructed"]["active"]
        right = sum(row["says"] == on for row, on in zip(rows, active, strict=True))
        [score] = [one for one in came["scores"] if one["metric"] == "prediction_brier"]
        summary = (
            f"right at {right} of {len(rows)} inputs that were made up, of which {sum(active)} are active; "
            f"Brier score {score['value']:.3f}, {score['null_mean']:.3f} without the description"
        )
        observations.append((summary, {"active": active}))
    data = [observed for _, observed in observations]
    return {
        "kind": "predictions",
        "arguments": {"unit": str(unit), "polarity": polarity, "predictions": filed["digest"], **told},
        "seed": None, "status": "done", "error": None, "digest": digest(data), "seconds": 0.0,
        "observations": [
            {"summary": summary, "data": observed, "hypothesis": hypothesis, "outcome": None}
            for summary, observed in observations
        ],
    }  # fmt: skip


def _summary(compared: Json) -> str:
    parts = []
    for name, one in compared.items():
        ends = "" if one["low"] is None else f" [{one['low']:.3g}, {one['high']:.3g}]"
        came = "not known" if one["value"] is None else f"{one['value']:.3g}"
        parts.append(f"{name.replace('_', ' ')} foretold {one['foretold']:.3g}{ends}, came {came}")
    return "; ".join(parts)
