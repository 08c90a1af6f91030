"""The steps of an investigation: small functions from (state, desk, ledger) to what they add to the state.

Each can be run by itself. None keeps anything between calls, and all randomness comes from the unit's seeds, so a step
that was cut off is simply done again.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from agent.claims import claim_digest, try_rivals
from agent.contest.choice import best_first_of, out_of
from agent.desk import Desk
from agent.disagreement import standings
from agent.experiments import Report, experiment_of, measured_event
from agent.further import further_rivals
from agent.ledger import Ledger
from agent.output_half import test_output
from agent.plain import plain
from agent.predictions import active_share, expected_scores, filed, settled
from agent.sealed import score, verdict
from agent.state import Json, State, hypothesis_key
from agent.triage import Tail, triage
from explainers.output.attach import with_claim
from explainers.output.claim import claim_in
from explainers.types import Explanation
from scorers.types import Score
from tools.effects import Measured
from tools.types import Split

#: Why a description is not tested at all: it was swapped to a unit without the tail that it is about.
NO_SUCH_TAIL = "the unit that it is tested on has no such tail"


def tails_of(state: State) -> list[Tail]:
    """The tails under investigation."""
    return [Tail(**tail) for tail in state["triage"]["tails"]]


def explanations_of(state: State, polarity: str) -> list[Explanation]:
    """The rivals of one tail."""
    return [Explanation(**rival) for rival in state["rivals"][polarity]]


def triage_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Is there anything to investigate? Reads the index alone, and counts no tool call."""
    bench, unit = desk.bench, desk.unit
    statistics = bench.explore.statistics(unit)
    found = triage(statistics, bench.explore.sample(unit), bench.duplicate_of(unit), bench.spec.polarity)
    return {"triage": {**plain(found), "statistics": plain(statistics)}}


def gather_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """What the weights say, and where a head looks and what it does there."""
    profile: Json = {"promotion": plain(desk.bench.promotion(desk.unit))}
    ledger.count()
    edges, writes = desk.bench.edges(desk.unit), desk.bench.writes(desk.unit)
    if edges is not None and writes is not None:
        profile["edges"] = plain(edges)
        profile["strongest_edges"] = plain(writes.edges)
        profile["writes"] = plain(writes.writes)
        ledger.count(2)
    return {"profile": profile}


def propose_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Rival descriptions of each tail, with the experiments that the explainer did to find them."""
    rivals: dict[str, list[Json]] = {}
    events: dict[str, list[Json]] = {}
    for tail in tails_of(state):
        before = len(ledger.events)
        evidence = desk.bench.evidence(desk.unit, tail.polarity, tail.threshold)
        with desk.charged(tail.polarity, desk.bench.explainer.name):
            found = [with_claim(rival, evidence) for rival in desk.bench.explainer.explain(evidence, ledger)]
        found += further_rivals(desk, evidence, found)
        if isinstance(evidence.output, Measured):
            ledger.count()
            ledger.event("output_effects", measured_event(desk.bench, evidence.output))
        rivals[tail.polarity] = [plain(asdict(rival)) for rival in found]
        events[tail.polarity] = ledger.events[before:]
    return {"rivals": rivals, "events": events}


def experiment_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """The tests on the subject, as rows: what was done, with which seed, what came back, on which rival it bears."""
    experiments: list[Json] = []
    for tail in tails_of(state):
        seed = desk.bench.seed(desk.unit, f"explain {tail.polarity}")
        # An explainer tests the rival that it puts first.
        first = hypothesis_key(tail.polarity, 0) if state["rivals"][tail.polarity] else None
        for event in state["events"][tail.polarity]:
            row = experiment_of(Report(desk.bench, desk.unit, tail.polarity, seed, first, event))
            if row is not None:
                experiments.append(plain(row))
    ledger.count(len(experiments))
    return {"experiments": experiments}


def choose_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """The rival that does best on the refine split, or as well there and better in trials; and those that say something
    else and do almost as well."""
    marks: dict[str, list[Json]] = {}
    chosen: dict[str, int] = {}
    standing: dict[str, list[Json]] = {}
    expected: dict[str, Json | None] = {}
    for tail in tails_of(state):
        rivals = explanations_of(state, tail.polarity)
        contest = state.get("contest", {}).get(tail.polarity)
        with desk.charged(tail.polarity, "choice"):
            tried = try_rivals(
                rivals, desk.bench.refine, desk.unit, tail.polarity, tail.threshold, explainer=desk.bench.explainer,
                seed=desk.bench.spec.seed, out=out_of(contest),
            )  # fmt: skip
        order, compared = best_first_of(tried, contest)
        left = standings(compared, tried.documents, order, seed=desk.bench.seed(desk.unit, f"standing {tail.polarity}"))
        marks[tail.polarity], chosen[tail.polarity] = tried.marks, order[0]
        standing[tail.polarity] = [plain(one) for one in left]
        expected[tail.polarity] = expected_scores(
            replace(tried, comparisons=compared), order[0], ratio=desk.bench.over_score(Split.REFINE),
            seed=desk.bench.seed(desk.unit, f"expect {tail.polarity}"),
        )  # fmt: skip
        ledger.count(len(rivals))
    return {"marks": marks, "chosen": chosen, "standing": standing, "expected": expected}


def write_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """The claim of each tail: both halves, the rule, the threshold, and the digest of it all."""
    claims: dict[str, Json] = {}
    for tail in tails_of(state):
        rival = explanations_of(state, tail.polarity)[state["chosen"][tail.polarity]]
        claims[tail.polarity] = {
            **plain(asdict(rival)),
            "threshold": tail.threshold,
            "digest": claim_digest(desk.unit, tail.polarity, tail.threshold, rival, desk.bench.explainer),
        }
    return {"claims": claims}


def preregister_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """What each claim predicts of sealed text and of made-up inputs, fixed before the seal is opened."""
    if desk.bench.spec.predictions == "off":
        return {"predictions": {}}
    ledger.count(len(state["claims"]))
    predictions: dict[str, Json] = {}
    for tail in tails_of(state):
        claim, expected = state["claims"][tail.polarity], state["expected"][tail.polarity]
        with desk.charged(tail.polarity, "predictions"):
            predictions[tail.polarity] = filed(desk.bench, desk.unit, tail, claim, expected)
    return {"predictions": predictions}


def score_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Tests both halves of each claim on the sealed score split, which is opened for that claim alone."""
    scores: dict[str, list[Json]] = {}
    tests: dict[str, Json] = {}
    for tail in tails_of(state):
        claim = state["claims"][tail.polarity]
        explanation = explanations_of(state, tail.polarity)[state["chosen"][tail.polarity]]
        foretold = state["predictions"].get(tail.polarity)
        view = desk.open_sealed(claim["digest"], tail.polarity, None if foretold is None else foretold["digest"])
        ledger.count()
        tested = desk.bench.scored(desk.unit, tail)
        if tested is None:
            scores[tail.polarity] = []
            tests[tail.polarity] = {"experiment": None, "reason": NO_SUCH_TAIL, "density": None}
            continue
        found = score(desk, *tested, explanation, view, described=tail)
        output = test_output(desk.bench, *tested, claim_in(explanation.details), view)
        ledger.count(len(output.scores) > 0)
        scores[tail.polarity] = [one.to_json() for one in (*found, *output.scores)]
        tests[tail.polarity] = {
            "experiment": output.experiment, "reason": output.reason, "density": active_share(view, *tested),
        }  # fmt: skip
    return {"scores": plain(scores), "tests": plain(tests)}


def settle_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """Compares what was predicted with what came, and runs the made-up inputs. No verdict rests on it."""
    found: dict[str, Json] = {}
    for tail in tails_of(state):
        if tail.polarity in state["predictions"]:
            scores = [Score.from_json(row) for row in state["scores"][tail.polarity]]
            found[tail.polarity] = settled(
                desk.bench, desk.bench.scored(desk.unit, tail), state["predictions"][tail.polarity], scores,
                state["tests"][tail.polarity]["density"],
            )  # fmt: skip
            ledger.count()
    return {"settled": found}


def verdict_step(state: State, desk: Desk, ledger: Ledger) -> State:
    """What the tests say about each half of each claim."""
    return {
        "verdicts": {
            tail.polarity: plain(
                verdict(
                    state["claims"][tail.polarity],
                    [Score.from_json(row) for row in state["scores"][tail.polarity]],
                    desk.bench.spec.alpha,
                    state["tests"][tail.polarity]["reason"],
                )
            )
            for tail in tails_of(state)
        }
    }
