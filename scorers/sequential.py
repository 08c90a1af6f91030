"""Sequential scoring: ask the predictor for no more than the verdict needs.

What costs in scoring is the predictor (an LLM's tokens); where the unit is truly active is known beforehand. So the
strongest blocks are asked for first, then the documents of the random panel in random order, those with and those
without activity apart. After every batch the evidence is weighed (`scorers.stratified_bets`), and scoring stops for
success, for futility, or goes on to the end, where it gives the scores of `scorers.simulation`.

*Success* is E >= 2/alpha against "F1, corrected for chance, is at most the floor": the lower end of a 95 % interval
that holds whenever one looks. At the end of the sample the bootstrap interval has 2.5 % of its own, so that the level
is alpha in all. *Futility* is the same for "at least the floor". Documents count as drawn independently from the source
of the corpus, and a document that was not seen is taken to hold no more false alarms than the fullest one holds
activity; once a document with more was seen, scoring does not stop for success. Without a bound, one unseen document
full of false alarms could refute anything; the bootstrap assumes as much of its one unseen document.

The verdict also asks F1 to reach the target. `DOUBT` says how sure one must be, by the same kind of evidence, that the
whole sample would (or would not) have reached it: that is agreement with the full score, and no error rate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from explainers.types import Predictor
from scorers.metrics import METRICS
from scorers.sequential_run import DOUBT, LOOKS, Outcome, Run
from scorers.simulation import DEFAULT_METRICS, SCORERS, held_out, score_held
from scorers.types import ScoreSet, View, protocol_hash
from scorers.verdict import VerdictRule
from tools.types import UnitId

NAME: Final = "sequential"
VERSION: Final = 1


@dataclass(frozen=True)
class SequentialResult:
    """How a sequential score came out."""

    verdict: Outcome
    """'success': supported, as far as F1 decides. 'futility': refuted, or sure not to reach the target. 'undecided':
    the whole sample was asked for, and its ordinary scores decide."""
    scores: ScoreSet
    e_value: float
    """Against "F1, corrected for chance, is at most the floor"."""
    e_against: float
    """Against "F1, corrected for chance, is at least the floor"."""
    e_chance: float
    """Against "F1 is no better than chance"; the scores' `e_value`."""
    documents: int
    """Asked for, wholly or in part."""
    positions: int
    positions_full: int
    """What a score of the whole sample asks for."""


def score_sequential(
    predictor: Predictor,
    view: View,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    target: float = 0.5,
    floor: float = 0.3,
    alpha: float = 0.05,
    null_units: Sequence[UnitId] = (),
    resamples: int = 1000,
    seed: int = 0,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> SequentialResult:
    """Score one description and stop as soon as the verdict is clear.

    Args:
        predictor: predicts the magnitude on the polarity from text alone; is called once a batch.
        view: the split; for a result, a sealed one.
        unit: the described unit.
        polarity: '+' or '-'.
        threshold: magnitude above which the unit is active; 0 or more, from explore.
        target: F1 that a supported claim reaches.
        floor: lower bound of its interval, corrected for chance.
        alpha: level of the verdict.
        null_units: other units of the group; success also waits for the pairing null to pass.
        resamples: bootstrap resamples behind the intervals of metrics other than F1.
        seed: with the unit and polarity, decides the order of documents.
        metrics: names of registered metrics, 'f1' among them.

    Returns:
        The outcome with scores. Stopped early, F1's interval is a confidence sequence, which holds at any time; the
        p-value of every metric is min(1, 1/E) against chance, which also does. Other metrics' intervals are the
        bootstrap's over what was asked for; no verdict rests on them.

    Raises:
        ScorerError: as `scorers.simulation.score_simulation`.
    """
    began = time.perf_counter()
    chosen = [METRICS.get(name) for name in metrics]
    rule = VerdictRule("f1", target, floor, alpha)
    run = Run(predictor, view, held_out(view, unit, polarity, threshold), rule, seed=seed)
    others = [other for other in null_units if other != unit]
    verdict: Outcome = "undecided"
    while verdict == "undecided" and run.next_batch():
        verdict = run.outcome(others)
    if verdict == "undecided":
        whole = score_held(
            predictor.name, view, run.held, run.raw, null_units=others, resamples=resamples, seed=seed,
            metrics=chosen, began=began,
        )  # fmt: skip
        e_value = run.bets["chance"].e_value
        scores = tuple(replace(score, e_value=None if score.value is None else e_value) for score in whole)
    else:
        scores = run.scores(chosen, others, resamples, seed)
    settings = {
        "resamples": resamples, "target": target, "floor": floor, "alpha": alpha, "doubt": DOUBT, "looks": LOOKS,
    }  # fmt: skip
    cost = {
        "seconds": time.perf_counter() - began, "positions": float(run.asked.sum()),
        "positions_full": float(len(run.held)),
    }  # fmt: skip
    return SequentialResult(
        verdict=verdict,
        scores=tuple(
            replace(s, scorer=NAME, protocol_hash=protocol_hash(NAME, VERSION, settings, s.metric), cost=cost)
            for s in scores
        ),
        e_value=run.bets["above floor"].e_value,
        e_against=run.bets["below floor"].e_value,
        e_chance=run.bets["chance"].e_value,
        documents=len(np.unique(run.held.documents[run.asked])),
        positions=int(run.asked.sum()),
        positions_full=len(run.held),
    )


def score_early(
    predictor: Predictor,
    view: View,
    unit: UnitId,
    polarity: str,
    threshold: float,
    *,
    null_units: Sequence[UnitId] = (),
    resamples: int = 1000,
    seed: int = 0,
    rule: VerdictRule | None = None,
) -> ScoreSet:
    """`score_sequential` as a scorer; `rule` gives target, floor and level."""
    rule = rule or VerdictRule()
    return score_sequential(
        predictor, view, unit, polarity, threshold, target=rule.target, floor=rule.floor, alpha=rule.alpha,
        null_units=null_units, resamples=resamples, seed=seed,
    ).scores  # fmt: skip


SCORERS.add(NAME, score_early)
