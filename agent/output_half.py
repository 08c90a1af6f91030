"""Testing the output half of a claim on sealed text: by turning the unit off, by degrees, and against random writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.bench import Bench
from agent.experiments import places_told
from agent.plain import digest, plain
from agent.state import Json
from agent.triage import Tail
from explainers.output.claim import OutputClaim, claim_in
from scorers.output import OutputTest, score_output
from scorers.output_verdict import OutputRule, judge_output
from scorers.types import Score
from scorers.verdict import Judgement, Verdict
from tools.effects import (
    CONTROLS,
    DOSES,
    FEW_PLACES,
    FEWEST_PLACES,
    FOLLOWING,
    Effects,
    Off,
    Places,
    active_places,
    dose_curve,
    measure_effects,
    not_measurable,
    off_values,
    random_effects,
)
from tools.index import SplitView
from tools.types import FloatArray, Split, UnitId
from tools.unhooked import unhooked


@dataclass(frozen=True)
class OutputTested:
    """What came of a test."""

    scores: list[Score] = field(default_factory=list)
    experiment: Json | None = None
    """Fields of `store.records.ExperimentRecord`, but for the hypothesis that it bears on."""
    reason: str | None = None
    """Why there was no test."""


def test_output(bench: Bench, unit: UnitId, tail: Tail, claim: OutputClaim | None, view: SplitView) -> OutputTested:
    """Tests what a description says of the output, on a sealed split.

    All that is used of open text is fixed by then: the claimed tokens and the values that stand for off. Runs over
    sealed text are private, as all are (`tools.unhooked`).

    Args:
        bench: Of the investigation.
        unit: The unit that the description is tested on.
        tail: Its tail.
        claim: Of the description.
        view: The sealed split.
    """
    reason = _untestable(bench, unit, claim)
    if reason is not None or claim is None:
        return OutputTested(reason=reason)
    subject, sign = bench.subject, 1.0 if tail.polarity == "+" else -1.0
    seed = bench.seed(unit, f"output test {tail.polarity}")
    with unhooked(subject):
        places = active_places(
            view, unit, sign, tail.threshold, room=subject.context - FOLLOWING, seed=seed, common_seed=bench.spec.seed
        )
        if len(places) < FEWEST_PLACES:
            told = f"it is on in only {len(places)} documents of the sealed split that leave room behind it"
            return OutputTested(reason=told)
        off = off_values(bench.explore.sample(unit), tail.threshold, seed=bench.seed(unit, f"output {tail.polarity}"))
        test = _measured(bench, (unit, tail), claim, places, off, seed=seed)
    settings = {"off": off.method, "controls": CONTROLS, "few": FEW_PLACES, "following": FOLLOWING, "doses": DOSES}
    scores = list(
        score_output(test, split=Split(view.split), settings=settings, resamples=bench.spec.resamples, seed=seed)
    )
    judged = judge_output(claim.kind, scores, OutputRule(alpha=bench.spec.alpha))
    arguments = {
        "unit": str(unit), "polarity": tail.polarity, "subject": bench.fingerprint, "split": str(view.split),
        "intervention": "turn the unit off at each place; in its place random directions; set it to several strengths",
        **settings, "site": str(test.effects.site), "off": off.to_json(), "claim": claim.asserted,
        "strengths": None if test.doses is None else test.doses, "places": places_told(view, places),
    }  # fmt: skip
    data = plain({"scores": [_row(score) for score in scores], "places": _found(test)})
    row = {
        "kind": "output test", "arguments": plain(arguments), "seed": seed, "status": "done", "error": None,
        "digest": digest(data), "seconds": 0.0,
        "observations": [{"summary": "; ".join(judged.reasons), "data": data, "outcome": str(judged.verdict)}],
    }  # fmt: skip
    return OutputTested(scores, row)


def output_verdict(
    details: Mapping[str, Any], scores: Sequence[Score], alpha: float, reason: str | None = None
) -> Judgement:
    """What the scores say about the output half of a claim.

    Args:
        details: Of the explanation.
        scores: Of the claim, those of the input half among them.
        alpha: Level.
        reason: Why it was not tested, where it was not.
    """
    claim = claim_in(details)
    if claim is None:
        return Judgement(Verdict.UNTESTED, ("it claims nothing about the output",))
    if claim.kind == "untested":
        return Judgement(Verdict.UNTESTED, (claim.reason or "it claims nothing about the output",))
    if reason is not None:
        return Judgement(Verdict.UNTESTED, (reason,))
    return judge_output(claim.kind, scores, OutputRule(alpha=alpha))


def _untestable(bench: Bench, unit: UnitId, claim: OutputClaim | None) -> str | None:
    if claim is None or claim.kind == "untested":
        return None if claim is None else claim.reason
    if bench.spec.output == "off":
        return "this campaign tests no output halves (output: off)"
    return bench.no_output_test or not_measurable(bench.subject, unit)


def _measured(
    bench: Bench, tested: tuple[UnitId, Tail], claim: OutputClaim, places: Places, off: Off, *, seed: int
) -> OutputTest:
    (unit, tail), subject, kept = tested, bench.subject, bench.sealed_beginnings
    values = off.at(len(places))
    effects = measure_effects(subject, unit, places, values, beginnings=kept)
    if claim.kind in ("later", "nothing"):
        return OutputTest(claim.kind, places.documents, effects)
    rows = places.shortest(FEW_PLACES)
    few, tokens = places.take(rows), claim.tokens if claim.kind == "changes" else None
    random = random_effects(
        subject, unit, few, tokens, off=values[rows], moved=effects.moved[rows], seed=seed, beginnings=kept
    )
    doses: FloatArray | None = None
    curve: FloatArray | None = None
    if tokens is not None:
        statistics = bench.explore.statistics(unit)
        strongest = statistics.maximum if tail.polarity == "+" else statistics.minimum
        doses = np.array([strongest * share for share in DOSES], dtype=np.float32)
        curve = dose_curve(subject, unit, few, doses.tolist(), tokens, beginnings=kept)
    return OutputTest(claim.kind, places.documents, effects, tokens, rows, random, doses, curve)


def _row(score: Score) -> Json:
    return {name: getattr(score, name) for name in ("metric", "value", "low", "high", "null_mean", "p_value")}


def _found(test: OutputTest) -> Json:
    """What came back at each place."""
    effects: Effects = test.effects
    shift = None if test.tokens is None else test.tokens.shift(effects.change)
    found = {"shift": shift, "kl": effects.kl, "loss": effects.loss, "moved": effects.moved}
    told = {name: _short(values) for name, values in found.items() if values is not None}
    return {**told, **({} if test.curve is None else {"curve": _short(test.curve.mean(0))})}


def _short(values: FloatArray) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
