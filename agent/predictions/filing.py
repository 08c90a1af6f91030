"""Filing what a claim predicts, before the seal is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from agent.bench import Bench
from agent.claims import compare
from agent.plain import digest, plain, short
from agent.predictions.expectations import expected_density, expected_effect
from agent.predictions.probes import Composed, Hit, Stock, hit_at, make_probes, stock_of
from agent.predictions.settling import active_last
from agent.predictions.trials import edit_trials, shifts_of
from agent.predictions.written import written_inputs
from agent.state import Json
from agent.triage import Tail
from explainers.output.claim import claim_in
from explainers.rules.ast import Rule
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from explainers.types import Explanation
from scorers.calibration import Calibrator, fit_calibrator
from tools.index import SplitView
from tools.types import Split, UnitId

#: Places of open text at which the rule says that the unit is active, from which probes are made.
MOST_HITS = 48
#: Places that are edited to see how far the rule holds; each five times.
MOST_EDITED = 16
#: Contexts of each open split from which probes are put together.
CONTEXTS = 64


def filed(bench: Bench, unit: UnitId, tail: Tail, claim: Json, expected: Json | None) -> Json:
    """All that a claim predicts, with a digest of it.

    Args:
        bench: Of the investigation.
        unit: The unit.
        tail: The tail that the claim is about.
        claim: What is asserted.
        expected: Its scores on sealed text, from `expected_scores`.

    Returns:
        'sealed' (scores), 'effect' (of the output half) and 'constructed' (made-up inputs, each with the probability
        that the unit is active at its last token), None where nothing is predicted; 'unwritten', why a language model
        that was asked for inputs gave none that can be run; and the 'digest' of these and of the claim's own.

    Raises:
        EndpointError, SpentError, NotRecordedError: A language model was to be asked, and no answer can be had at all.
    """
    constructed = _constructed(bench, unit, tail, claim)
    predictions: Json = {
        "claim": claim["digest"],
        "sealed": _sealed(bench, unit, tail, expected),
        "effect": expected_effect(claim_in(claim["details"])),
        "constructed": None if isinstance(constructed, str) else constructed,
        **({"unwritten": constructed} if isinstance(constructed, str) else {}),
    }
    return plain({**predictions, "digest": digest(predictions)})  # type: ignore[no-any-return]


def _sealed(bench: Bench, unit: UnitId, tail: Tail, expected: Json | None) -> Json | None:
    density = expected_density(
        [view.sample(unit) for view in (bench.explore, bench.refine)], tail,
        ratio=bench.over_score(Split.EXPLORE, Split.REFINE), seed=bench.seed(unit, f"density {tail.polarity}"),
    )  # fmt: skip
    found = {**(expected or {}), **({} if density is None else {"density": density})}
    return found or None


def _constructed(bench: Bench, unit: UnitId, tail: Tail, claim: Json) -> Json | str | None:
    """Probabilities on made-up inputs: by the claim's rule where it has one, else by who reads its words; in words why
    the latter gave none."""
    if unit.kind == "fn":
        return None
    if claim["rule"] is not None:
        return _by_rule(bench, unit, tail, parse_rule(claim["rule"]))
    return _by_words(bench, unit, tail, claim)


def _by_words(bench: Bench, unit: UnitId, tail: Tail, claim: Json) -> Json | str | None:
    """Inputs that the campaign's language model writes for a description in words, with what it expects of each."""
    explanation = Explanation(**{field.name: claim[field.name] for field in fields(Explanation)})
    sample = bench.refine.sample(unit)
    # Without a scale nothing was active in what the description was written from, and so nothing was described.
    if bench.kit is None or not explanation.details.get("scale") or not len(sample):
        return None
    found = written_inputs(bench.kit, bench.subject, explanation, stock_for(bench), tail.density)
    if isinstance(found, str):
        return found
    probabilities = np.array(found.probabilities)
    sign = 1.0 if tail.polarity == "+" else -1.0
    return {
        "by": f"words, read by {bench.kit.llm.model}",
        "prompt": found.prompt,
        "refused": list(found.refused),
        "base": short(float(np.average(sign * sample.values > tail.threshold, weights=sample.weights))),
        "right": short(float(np.maximum(probabilities, 1 - probabilities).mean())),
        "probes": [
            {"kind": probe.kind, "ids": list(probe.ids), "probability": short(probability), "says": probability > 0.5}
            for probe, probability in zip(found.probes, found.probabilities, strict=True)
        ],
    }


def _by_rule(bench: Bench, unit: UnitId, tail: Tail, rule: Rule) -> Json | None:
    """Probabilities by a rule, calibrated on the refine split and by edits of open texts of other documents."""
    fitted = calibrator_of(bench, unit, tail, rule)
    if fitted is None:
        return None
    calibrate, base = fitted
    seed, stock, room = bench.seed(unit, f"probes {tail.polarity}"), stock_for(bench), bench.subject.context
    hits, others = _hits(bench, unit, tail, rule, seed)
    probes = make_probes(hits, stock, seed=seed, room=room)
    if not probes:
        return None
    trials = edit_trials(others, stock, seed=bench.seed(unit, f"edits {tail.polarity}"), room=room)
    tried = raw_scores(rule, [bench.subject.pieces(trial.ids) for trial in trials])
    active = active_last(bench, unit, tail, [trial.ids for trial in trials])
    shifts = shifts_of(trials, tried > tail.threshold, calibrate(tried), active)
    raw = raw_scores(rule, [bench.subject.pieces(probe.ids) for probe in probes])
    says = raw > tail.threshold
    probabilities = shifts([probe.kind for probe in probes], says, calibrate(raw))
    rows = [
        {"kind": probe.kind, "ids": list(probe.ids), "probability": short(probability), "says": said}
        for probe, probability, said in zip(probes, probabilities.tolist(), says.tolist(), strict=True)
    ]
    return {
        "calibration": {name: [short(value) for value in values] for name, values in calibrate.to_json().items()},
        "edits": {kind: {**one, "shift": short(one["shift"])} for kind, one in shifts.to_json().items()},
        "base": short(base),
        "right": short(float(np.where(says, probabilities, 1 - probabilities).mean())),
        "probes": rows,
    }


def calibrator_of(bench: Bench, unit: UnitId, tail: Tail, rule: Rule) -> tuple[Calibrator, float] | None:
    """From what a rule predicts to a probability, and the share of active tokens; None where nothing is sampled."""
    sample = bench.refine.sample(unit)
    if not len(sample):
        return None
    seen = compare(RulePredictor(rule), bench.refine, sample, tail.polarity, tail.threshold)
    fitted = fit_calibrator(seen.prediction, seen.active, seen.weights, sample.documents)
    return fitted, float(np.average(seen.active, weights=seen.weights))


def raw_scores(rule: Rule, pieces: Sequence[list[str]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What a rule predicts at the last token of each text, [n]."""
    texts = Composed(pieces)
    last = np.array([len(row) - 1 for row in pieces], dtype=np.int64)
    found = RulePredictor(rule).predict(texts, np.arange(len(pieces), dtype=np.int64), last)
    return np.asarray(found, dtype=np.float64)


def _hits(bench: Bench, unit: UnitId, tail: Tail, rule: Rule, seed: int) -> tuple[list[Hit], list[Hit]]:
    """Places of open text at which the rule says that the unit is active, drawn by a seed: those that inputs are made
    of, and those, of other documents, that are edited."""
    skip, rng = len(bench.subject.prefix), np.random.default_rng(seed)
    found: tuple[list[Hit], list[Hit]] = ([], [])
    for view in (bench.refine, bench.explore):
        sample = view.sample(unit)
        said = RulePredictor(rule).predict(view.texts, sample.contexts, sample.positions) > tail.threshold
        documents = np.unique(sample.documents[said])
        edited = rng.permutation(documents)[: len(documents) // 2]
        of = np.isin(sample.documents, edited)
        for part, own, most in ((found[0], said & ~of, MOST_HITS // 2), (found[1], said & of, MOST_EDITED // 2)):
            made = (
                hit_at(rule, view.texts, int(sample.contexts[row]), int(sample.positions[row]), skip)
                for row in rng.permutation(np.flatnonzero(own))[:most].tolist()
            )
            part += [hit for hit in made if hit is not None]
    return found


def stock_for(bench: Bench) -> Stock:
    """What the open texts of a campaign offer; put together once."""

    def some(view: SplitView) -> list[int]:
        return [int(context) for context in view.panel_contexts[:CONTEXTS]]

    return bench.shared(
        "stock of probes",
        lambda: stock_of([(view.texts, some(view)) for view in (bench.refine, bench.explore)], bench.subject.prefix),
    )
