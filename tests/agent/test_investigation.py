"""The graph of one investigation: its steps alone, its checkpoints, its evidence and the seal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent import load_spec
from agent.bench import Bench
from agent.budget import StoppedError
from agent.checkpoints import open_checkpoints
from agent.desk import Desk
from agent.experiments import Report, experiment_of
from agent.investigation import ROUND, STEPS, build_graph, investigate
from agent.ledger import Ledger
from agent.plain import digest
from agent.results import events_of, result_of
from agent.sealed import judge_edges
from agent.spec import ContestSettings
from agent.state import State
from explainers.registry import get
from explainers.types import Evidence, Explanation, Recorder
from scorers.types import Null, Score
from scorers.verdict import Verdict
from store.records import ExperimentRecord
from tools.corpora import load_corpus
from tools.errors import SealedError
from tools.index import IndexSettings, Opening, SplitView, build_index
from tools.subject import load_subject
from tools.types import Split, UnitId
from tools.units import unit_activations

NEURON, HEAD = UnitId("mlp:1", 1), UnitId("head:1", 0)


@pytest.fixture(scope="module")
def bench(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    spec = load_spec(None, tiny)
    subject = load_subject(spec.subject, device="cpu")
    units = [*(UnitId("mlp:1", i) for i in range(6)), *(UnitId("head:1", i) for i in range(4))]
    panel = {Split.EXPLORE: 2000, Split.REFINE: 1000, Split.SCORE: 1000, Split.AUDIT: 500}
    home = tmp_path_factory.mktemp("index")
    index = build_index(subject, load_corpus(spec.corpus), units, home, IndexSettings(panel_tokens=panel))
    bench = Bench.open(spec, subject, index, units, get("pattern"))
    yield bench
    bench.close()


@pytest.fixture
def desk(bench: Bench) -> Callable[..., Desk]:
    def make(unit: UnitId = NEURON, stop_before: str | None = None, opened: list[str] | None = None) -> Desk:
        def record(opening: Opening) -> None:
            if opened is not None:
                opened.append(opening.claim)

        keeper = bench.index.keeper(record)

        def open_sealed(claim: str, polarity: str, predictions: str | None) -> SplitView:
            return keeper.open(Split.SCORE, claim=claim, polarity=polarity, by="simulation", predictions=predictions)

        desk = Desk(bench, unit, open_sealed, lambda: False)
        if stop_before is not None:
            desk.stopping = lambda: desk.stage == stop_before
        return desk

    return make


def without_times(state: State) -> dict[str, Any]:
    """What does not depend on the clock."""
    cost = {name: value for name, value in state["cost"].items() if name != "seconds"}
    events = {
        polarity: [{k: v for k, v in event.items() if k != "seconds"} for event in found]
        for polarity, found in state["events"].items()
    }
    experiments = [{**row, "seconds": 0.0} for row in state["experiments"]]
    scores = {polarity: [{**row, "cost": {}} for row in found] for polarity, found in state["scores"].items()}
    assert all(not contest["answers"] for contest in state["contest"].values())
    return {**state, "cost": cost, "events": events, "experiments": experiments, "scores": scores}


def test_steps_run_alone_one_after_the_other(bench: Bench, desk: Callable[..., Desk]) -> None:
    state: State = {"cost": {}}
    calls: dict[str, float] = {}
    for name, step in STEPS.items():
        ledger = Ledger(bench.passes)
        state = {**state, **step(state, desk(), ledger)}
        calls[name] = ledger.cost["tool_calls"]
    assert calls["triage"] == 0
    assert calls["score"] >= 1
    assert set(state) == {
        "cost", "triage", "profile", "rivals", "events", "experiments", "marks", "chosen", "standing", "expected",
        "claims", "predictions", "scores", "tests", "settled", "verdicts",
    }  # fmt: skip


def test_a_tool_that_a_step_uses_is_counted_and_becomes_an_experiment(desk: Callable[..., Desk]) -> None:
    at = desk()
    ledger = at.enter("propose")
    done = at.use("activations", {"texts": ["Ann saw the red ball."], "units": [str(NEURON)]})
    failed = at.use("activations", '{"texts": []}')
    assert done.ok
    assert not failed.ok
    assert ledger.cost["tool_calls"] == 2
    assert ledger.cost["forward_passes"] == done.cost.forward_passes == 1
    rows = [experiment_of(Report(at.bench, NEURON, "+", 0, "+1", event)) for event in ledger.events]
    first, second = (ExperimentRecord(**(row or {})) for row in rows)
    direct = done.experiment(hypothesis="+1")
    assert (first.kind, first.digest, first.seconds) == (direct.kind, direct.digest, direct.seconds)
    assert first.arguments == {"unit": str(NEURON), "polarity": "+", **direct.arguments}
    assert first.observations == [asdict(direct.observations[0])]
    assert (second.status, second.error, second.observations) == ("failed", failed.error, [])


def test_stopped_before_any_step_ends_as_if_undisturbed(desk: Callable[..., Desk], tmp_path: Path) -> None:
    undisturbed = without_times(investigate(build_graph(InMemorySaver()), desk(), "plain"))
    with open_checkpoints(tmp_path / "c.db") as saver:
        graph = build_graph(saver)
        for name in {**STEPS, **ROUND}:
            with pytest.raises(StoppedError):
                investigate(graph, desk(stop_before=name), f"before {name}")
    # Another connection, as another process would have it.
    with open_checkpoints(tmp_path / "c.db") as saver:
        graph = build_graph(saver)
        for name in {**STEPS, **ROUND}:
            assert without_times(investigate(graph, desk(), f"before {name}")) == undisturbed
            # An investigation that is complete but was not committed yet is not run again.
            assert without_times(investigate(graph, desk(stop_before="triage"), f"before {name}")) == undisturbed


class Undecided:
    """Rules for early and for late positions, each right about as often, and the second of them once more."""

    name = "undecided"

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        sample, texts = evidence.refine.sample(evidence.unit), evidence.refine.texts
        active = evidence.sign * sample.values > evidence.threshold
        places = zip(sample.contexts[active].tolist(), sample.positions[active].tolist(), strict=True)
        tokens = ", ".join(sorted({json.dumps(texts.pieces(context)[position]) for context, position in places}))
        middle = int(np.median(np.repeat(sample.positions[active], sample.weights[active].round().astype(int))))
        rules = [
            f"rule v1\n9 if token in {{{tokens}}} and {part}\nelse 0\n"
            for part in (f"position < {middle}", f"not position < {middle}", f"not position < {middle}")
        ]
        return [Explanation(self.name, rule[:20], rule, None, rule, None, {}) for rule in rules]


def test_rivals_that_might_have_been_chosen_are_kept_untested(bench: Bench, desk: Callable[..., Desk]) -> None:
    opened: list[str] = []
    at = desk(opened=opened)
    # Trials on random tokens tell the two apart, and no other rivals are wanted.
    spec = bench.spec.model_copy(update={"contest": ContestSettings(rounds=0), "rivals_from": ()})
    at.bench = replace(bench, spec=spec, explainer=Undecided())
    state = investigate(build_graph(InMemorySaver()), at, "t")
    found = result_of(state, at.bench, NEURON)
    ranked = {(row.polarity, row.rank): row for row in found.descriptions}
    for polarity in state["claims"]:
        first, second = ranked[polarity, 1], ranked[polarity, 2]
        assert first.claim in opened
        assert second.claim not in opened
        assert (second.verdict_input, second.verdict_output, second.scores) == ("untested", "untested", ())
        standing = [row.details["standing"] for row in (first, second)]
        assert sum(row["selection"] for row in standing) == pytest.approx(1)
        assert sorted(len(row["same"]) for row in standing) == [0, 1], "the repeated rule is one with the second"
        statuses = {row.key: row.status for row in found.hypotheses if row.polarity == polarity}
        assert statuses[second.hypothesis] == "untested"
        assert list(statuses.values()).count("dropped") == 1
    assert len(events_of(NEURON, found)) == len(state["claims"])


def test_claim_is_fixed_before_the_seal_is_opened(desk: Callable[..., Desk]) -> None:
    opened: list[str] = []
    state = investigate(build_graph(InMemorySaver()), desk(opened=opened), "t")
    assert opened == [claim["digest"] for claim in state["claims"].values()]
    assert len(set(opened)) == len(opened)


def test_predictions_are_fixed_before_the_seal_is_opened_and_compared_with_what_came(
    bench: Bench, desk: Callable[..., Desk]
) -> None:
    at, filed = desk(), []
    once = at.open_sealed

    def noted(claim: str, polarity: str, predictions: str | None) -> SplitView:
        filed.append((polarity, predictions))
        return once(claim, polarity, predictions)

    at.open_sealed = noted
    state = investigate(build_graph(InMemorySaver()), at, "t")
    assert filed == [(polarity, said["digest"]) for polarity, said in state["predictions"].items()]
    assert [polarity for polarity, _ in filed] == list(state["claims"])
    found = result_of(state, bench, NEURON)
    rows = {row.arguments["polarity"]: row for row in found.experiments if row.kind == "predictions"}
    for description in (one for one in found.descriptions if one.rank == 1):
        row, said = rows[description.polarity], state["predictions"][description.polarity]
        without = {name: value for name, value in said.items() if name != "digest"}
        assert digest(without) == said["digest"] == row.arguments["predictions"]
        assert row.arguments["claim"] == description.claim
        assert {one.outcome for one in row.observations} == {None}, "no verdict rests on predictions"
        told = description.details["predictions"]
        sealed = {score.metric: score.value for score in description.scores}
        assert told["sealed"]["f1"]["value"] == pytest.approx(sealed["weighted_f1"], rel=1e-3)
        probes = said["constructed"]["probes"]
        texts = [" ".join(map(str, probe["ids"])) for probe in probes]
        assert len(set(texts)) == len(texts) > 10
        values = unit_activations(bench.subject, [NEURON], [probe["ids"] for probe in probes])
        sign, threshold = (1 if description.polarity == "+" else -1), description.details["tail"]["threshold"]
        assert [one["active"] for one in told["probes"]] == [bool(sign * v[0, -1] > threshold) for v in values]
        brier = np.mean([(one["probability"] - one["active"]) ** 2 for one in told["probes"]])
        assert sealed["prediction_brier"] == pytest.approx(brier)
        assert not any(score.headline for score in description.scores if score.split == "constructed")
        assert "F1 on sealed text was expected" in description.details["confidence"]
        assert "the first position of each is left out" in description.details["scope"]


def test_predictions_that_are_off_leave_nothing_behind(bench: Bench, desk: Callable[..., Desk]) -> None:
    at = desk()
    at.bench = replace(bench, spec=bench.spec.model_copy(update={"predictions": "off"}))
    state = investigate(build_graph(InMemorySaver()), at, "t")
    assert (state["predictions"], state["settled"]) == ({}, {})
    found = result_of(state, at.bench, NEURON)
    assert not [row for row in found.experiments if row.kind == "predictions"]
    assert all(row.details["predictions"] is None for row in found.descriptions if row.rank == 1)
    assert not [s for row in found.descriptions for s in row.scores if s.split == "constructed"]


def test_explainer_is_given_open_splits_only(bench: Bench) -> None:
    evidence = bench.evidence(NEURON, "+", 0.1)
    assert {evidence.explore.split, evidence.refine.split} == {Split.EXPLORE, Split.REFINE}  # type: ignore[attr-defined]
    with pytest.raises(SealedError):
        evidence.explore.texts.ids(evidence.refine.texts.contexts[-1] + 1)  # score's first
    with pytest.raises(SealedError):
        bench.index.view(Split.SCORE)


def test_experiments_hold_what_is_needed_to_run_them_again(bench: Bench, desk: Callable[..., Desk]) -> None:
    state = investigate(build_graph(InMemorySaver()), desk(), "t")
    edits = [row for row in state["experiments"] if row["kind"] == "token edits"]
    assert edits
    for row in edits:
        arguments = row["arguments"]
        assert arguments["subject"] == bench.subject.fingerprint
        assert row["seed"] is not None
        assert row["digest"]
        for prompt in arguments["prompts"]:
            assert prompt["ids"] == bench.explore.texts.ids(prompt["context"])[: prompt["position"] + 1].tolist()
        (observation,) = row["observations"]
        assert observation["hypothesis"] == f"{arguments['polarity']}1"
        assert observation["outcome"] in ("supported", "refuted", "inconclusive")
        # The activation that was edited is the one in the index.
        example = observation["data"]["examples"][0]
        panel = bench.explore.sample(NEURON)
        at = (panel.contexts == example["context"]) & (panel.positions == example["position"])
        assert example["effects"][0]["original"] == pytest.approx(float(panel.values[at][0]), abs=1e-3)


def test_head_is_described_by_its_edges(bench: Bench, desk: Callable[..., Desk]) -> None:
    state = investigate(build_graph(InMemorySaver()), desk(HEAD), "t")
    assert {"previous", "induction", "baseline"} <= state["profile"]["edges"].keys()
    assert state["profile"]["strongest_edges"]
    assert state["profile"]["writes"]
    result = result_of(state, bench, HEAD)
    assert result.unit.layer == 1
    assert "atten" in result.descriptions[0].input_half


def test_dead_unit_ends_after_triage(bench: Bench, desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    real = bench.explore.statistics(NEURON)
    silent = replace(real, minimum=0.0, maximum=0.0, quantiles=dict.fromkeys(real.quantiles, 0.0))
    monkeypatch.setattr(bench.explore, "statistics", lambda unit: silent)
    state = investigate(build_graph(InMemorySaver()), desk(), "t")
    result = result_of(state, bench, NEURON)
    (description,) = result.descriptions
    assert result.skipped == description.label == f"never active on {real.tokens:,} tokens"
    assert description.verdict_input == "untested"
    assert not description.scores
    assert (result.unit.state, result.cost.tool_calls) == ("dead", 0)


def edge_score(value: float, low: float, high: float, even: float, p: float = 0.001) -> Score:
    return Score(
        scorer="edges", metric="edge_mass", value=value, low=low, high=high, n_examples=100, n_documents=20,
        n_active=90, null_mean=None, p_value=None, split="score", predictor="edge:previous", protocol_hash="h",
        headline=False, nulls=(Null("uniform", value, even, even, p, 1000),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (edge_score(0.8, 0.7, 0.9, 0.1), Verdict.SUPPORTED),
        (edge_score(0.35, 0.25, 0.45, 0.1), Verdict.INCONCLUSIVE),
        (edge_score(0.5, 0.45, 0.55, 0.4), Verdict.REFUTED),
        (edge_score(0.1, 0.05, 0.15, 0.02), Verdict.REFUTED),
        (edge_score(0.8, 0.7, 0.9, 0.1, p=0.2), Verdict.INCONCLUSIVE),
    ],
)
def test_role_of_a_head_is_judged_by_mass_and_lift(score: Score, expected: Verdict) -> None:
    assert judge_edges(score, 0.05).verdict is expected
