"""Simulation scoring from a few windows, for predictors that cost something to ask (`scorers.windows`).

The metrics, their intervals and nulls are those of `scorers.simulation`, and so is the verdict that rests on them; only
the sample is thinner, and the intervals are wider for it. Beside them are kept, as diagnostics, what Bills et al.
(2023) publish: the correlation over top-and-random windows, which is easier (arXiv 2506.05774 shows that it hardly
falls for descriptions far too broad), and the explained variance before and after a linear calibration.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from explainers.llm.kit import Likeness, LlmKit
from explainers.prompted.simulate import Calibration
from explainers.types import Predictor
from scorers.bootstrap import Resampler
from scorers.diagnostics.cost import billed
from scorers.metrics import METRICS, Metric
from scorers.simulation import DEFAULT_METRICS, SCORERS, HeldOut, ask, generator, held_out, resampler, score_held
from scorers.types import DoubleArray, Score, ScoreSet, View, protocol_hash
from scorers.windows import Draw, Rank, Window, draw_windows
from tools.types import FloatArray, IntArray, UnitId

NAME: Final = "windows"
VERSION: Final = 1
"""Raised whenever a change can alter a value, an interval or a p-value."""

_EV: Final[Metric] = replace(METRICS.get("pearson"), name="ev_correlation", headline=False)
_R2: Final[Metric] = replace(METRICS.get("r2"), headline=False)
_R2_CALIBRATED: Final[Metric] = replace(METRICS.get("r2"), name="r2_calibrated", headline=False)
_AGREEMENT: Final[Metric] = replace(METRICS.get("f1"), name="rule_agreement", headline=False)


def score_windows(
    predictor: Predictor,
    view: View,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    null_units: Sequence[UnitId] = (),
    resamples: int = 1000,
    seed: int = 0,
    kit: LlmKit | None = None,
    common_seed: int = 0,
    rule: Predictor | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> ScoreSet:
    """Score predicted activations on windows that stand for one split.

    Args:
        predictor: as in `scorers.simulation.score_simulation`; is called once, with the windows' positions, those of
            the windows that all units share first.
        view: the split; for a result, a sealed one.
        unit: the described unit.
        polarity: '+' or '-'.
        threshold: magnitude above which the unit is active; 0 or more, from explore.
        null_units: other units of the same group, for the pairing null and for hard windows by co-activation.
        resamples: bootstrap resamples.
        seed: with the unit and polarity, decides the resamples and the windows that are the unit's own.
        kit: finds hard windows by likeness of text; None: by co-activation alone.
        common_seed: decides the windows that all units share.
        rule: predicts for the same description at no cost; adds how far the two agree.
        metrics: names of registered metrics.

    Returns:
        One score per metric, in the order given; then the diagnostics 'ev_correlation', 'r2', 'r2_calibrated' and, with
        a rule, 'rule_agreement'. `cost` has the calls and tokens, as far as they are known, and the windows.

    Raises:
        ScorerError: unknown metric or polarity, negative threshold, misshapen or infinite predictions.
        LlmError: the language model can be asked nothing at all.
    """
    began = time.perf_counter()
    chosen = [METRICS.get(metric) for metric in metrics]
    held = held_out(view, unit, polarity, threshold)
    with billed() as bill:
        draw = draw_windows(
            view, held, others=null_units, rank=None if kit is None else likest(kit.likeness), seed=seed,
            common_seed=common_seed,
        )  # fmt: skip
        asked = ask(predictor, view, draw.part)
    order = np.argsort(draw.rows, kind="stable")
    part, raw = held.part(draw.rows[order], draw.weights[order]), asked[order]
    drawn = resampler(seed, held, resamples)
    score = partial(score_held, predictor.name, view, resamples=resamples, seed=seed, began=began, drawn=drawn)
    *scores, r2 = score(part, raw, null_units=null_units, metrics=[*chosen, _R2], drawn_from=held)
    rows = np.flatnonzero(np.isin(draw.rows[order], _top_and_random(draw)))
    scores += score(part.part(rows, np.ones(len(rows))), raw[rows], null_units=(), metrics=[_EV])
    scores.append(replace(r2, nulls=tuple(null for null in r2.nulls if null.name == "rotation")))
    calibrated = cross_calibrated(part, raw, seed=seed)
    scores += score(part, calibrated, null_units=(), metrics=[_R2_CALIBRATED], drawn_from=held)
    if rule is not None:
        said = ask(rule, view, part)
        scores.append(
            agreement(part, raw, said, view=view, predictor=predictor.name, resamples=resamples, seed=seed, drawn=drawn)
        )
    settings: dict[str, Any] = {
        "resamples": resamples, "draw": dict(draw.settings), "likeness": None if kit is None else kit.likeness.name,
        "predictor": dict(getattr(predictor, "protocol", {})),
    }  # fmt: skip
    cost: Mapping[str, float] = {
        **bill.cost, "seconds": time.perf_counter() - began, "positions": float(len(part)),
        "windows": float(len(draw.windows)), "positions_full": float(len(held)),
    }  # fmt: skip
    return tuple(
        replace(s, scorer=NAME, protocol_hash=protocol_hash(NAME, VERSION, settings, s.metric), cost=cost)
        for s in scores
    )


SCORERS.add(NAME, score_windows)


def likest(likeness: Likeness) -> Rank:
    """How much each text resembles that one of the active texts which it resembles most."""

    def rank(texts: Sequence[str], active: Sequence[str]) -> FloatArray:
        most: FloatArray = likeness.to(active, texts).max(axis=0)
        return most

    return rank


def agreement(
    part: HeldOut,
    words: DoubleArray,
    rule: DoubleArray,
    *,
    view: View,
    predictor: str,
    resamples: int = 1000,
    seed: int = 0,
    drawn: Resampler | None = None,
) -> Score:
    """How far a description's words and its rule predict activity at the same positions: 2 |both| / (|words| + |rule|).

    Weighted, so at the corpus's prevalence; 1 where they always agree (Dice 1945, the F1 of one against the other). An
    answer in words that could not be had counts as disagreement.

    Args:
        part: the positions, in the order of the text, with their weights.
        words: [n] what was predicted from the words; NaN where there is no answer.
        rule: [n] what the rule predicts.
        view: the split they are of.
        predictor: name of who read the words.
        resamples: bootstrap resamples.
        seed: with the unit and polarity, decides the resamples.
        drawn: those resamples, where they serve others too.
    """
    truth = replace(part, values=rule)
    score = score_held(
        predictor, view, truth, words, null_units=(), resamples=resamples, seed=seed, metrics=[_AGREEMENT],
        began=time.perf_counter(), drawn=drawn,
    )[0]  # fmt: skip
    settings = {"resamples": resamples}
    reason = score.reason and "the rule predicts activity at no sampled position"
    return replace(
        score, scorer=NAME, protocol_hash=protocol_hash(NAME, VERSION, settings, score.metric), reason=reason,
        n_active=int(part.active.sum()),
    )  # fmt: skip


def cross_calibrated(part: HeldOut, raw: DoubleArray, *, seed: int = 0) -> DoubleArray:
    """Predictions [n] after a linear calibration that never saw the document it is applied to.

    Documents are divided in two; each half is calibrated by the line fitted on the other. NaN stays NaN. With a single
    document there is nothing to fit on, and predictions are left as they are.
    """
    names, document = np.unique(part.documents, return_inverse=True)
    half = generator(seed, part.unit, part.polarity).permutation(len(names)) % 2
    second = half[document] == 1
    truth = np.maximum(part.values, 0)
    result = raw.copy()
    for here, there in ((second, ~second), (~second, second)):
        if there.any():
            line = Calibration.fit(raw[there], truth[there], part.weights[there])
            result[here] = line(raw[here])
    return result


def _top_and_random(draw: Draw) -> IntArray:
    """Rows of the strongest active windows and of as many common ones, as in Bills et al. (2023)."""
    strongest = sorted((w for w in draw.windows if w.active), key=lambda window: -window.peak)
    common = [window for window in draw.windows if window.stratum == "common"]
    n = min(len(strongest), len(common))
    chosen: list[Window] = [*strongest[:n], *common[:n]] if n else list(draw.windows)
    return np.unique(np.concatenate([window.rows for window in chosen]))


__all__ = ["agreement", "cross_calibrated", "likest", "score_windows"]
