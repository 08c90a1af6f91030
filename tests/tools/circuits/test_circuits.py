"""Circuits: those that were planted are found, whole and alone; the criteria are what their definitions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, Case, make_case
from tests.tools.patching.test_sweep import random_pairs
from tools.circuits import Circuit, Knockout, find_circuit, judge, known, task
from tools.errors import InterventionError
from tools.interventions import Where, replace, run, set_to
from tools.patching import Node, all_nodes
from tools.subject import Subject, load_subject
from tools.types import Site

PLANTED = {
    "ioi": {
        "heads": {"head:0:3", "head:1:2", "head:2:0"},
        "edges": {("head:0:3", "head:1:2:k"), ("head:1:2", "head:2:0:q"), ("head:2:0", "logits")},
    },
    "induction": {
        "heads": {"head:0:0", "head:1:0"},
        "edges": {("head:0:0", "head:1:0:k"), ("head:1:0", "logits")},
    },
}


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject("planted", device="cpu")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return make_case("gpt2", tiny_gpt2_folder).subject


@pytest.fixture(scope="module", params=list(PLANTED))
def found(request: pytest.FixtureRequest, planted: Subject) -> tuple[str, Circuit]:
    pairs = known(planted, task(planted, request.param, 20))
    assert len(pairs) >= 18
    return request.param, find_circuit(planted, pairs, draws=16)


def test_the_planted_circuit_is_found_with_precision_and_recall_of_one(found: tuple[str, Circuit]) -> None:
    name, circuit = found
    assert {node.name for node in circuit.nodes} == PLANTED[name]["heads"]
    assert {(edge.sender, edge.receiver) for edge in circuit.edges} == PLANTED[name]["edges"]
    assert len(circuit.candidates) == 12


def test_the_planted_circuit_is_faithful_complete_and_minimal_and_random_sets_are_not(
    found: tuple[str, Circuit],
) -> None:
    criteria = found[1].criteria
    assert 0.95 <= criteria.faithfulness <= 1.06
    assert len(criteria.random_faithfulness) == 16
    assert max(criteria.random_faithfulness) <= 0.3
    assert criteria.least_partial >= 0.95
    assert criteria.incompleteness <= 0.06
    assert criteria.least_need >= 0.9
    assert {one.how for one in criteria.completeness} >= {"class", "random", "greedy"}


def test_heads_matter_where_they_were_planted_to_work(found: tuple[str, Circuit]) -> None:
    name, circuit = found
    tokens, last = circuit.tokens, len(circuit.tokens) - 1
    at = {node.name: node.position for node in circuit.nodes}
    if name == "ioi":
        again = next(i for i, t in enumerate(tokens) if t in tokens[:i])
        assert at == {"head:0:3": again, "head:1:2": last, "head:2:0": last}
        assert all(node.token == tokens[node.position or 0] for node in circuit.nodes)
    else:
        # The previous-token head at the token after the repeated one, where the induction head then looks, or after
        # its partner, where it looks in the other prompt.
        first = tokens.index(tokens[last])
        assert at["head:1:0"] == last
        assert at["head:0:0"] in (first + 1, first + 4)


def test_a_wrong_circuit_is_told_from_the_right_one(planted: Subject) -> None:
    """Without one head it is not faithful; with one too many it is not minimal."""
    pairs = known(planted, task(planted, "ioi", 8))
    knockout = Knockout(planted, pairs, all_nodes(planted, mlps=False))
    right = frozenset(Node.parse(name) for name in PLANTED["ioi"]["heads"])
    short, long = right - {Node(1, "head", 2)}, right | {Node(0, "head", 1)}
    assert judge(knockout, short, {}, draws=4).faithfulness < 0.1
    larger = judge(knockout, long, {}, draws=4)
    assert larger.faithfulness > 0.95
    needs = {one.node: one.loss for one in larger.minimality}
    assert needs["head:0:1"] < 0.02 < 0.9 < min(needs[name] for name in PLANTED["ioi"]["heads"])


def test_the_criteria_are_their_definitions(gpt2: Subject) -> None:
    """By hand, on a random model, with every number from runs of its own."""
    pairs = random_pairs(3)
    nodes = all_nodes(gpt2, mlps=False)
    circuit = frozenset(nodes[i] for i in (0, 3, 6, 7, 9))
    knockout = Knockout(gpt2, pairs, nodes)

    def score(kept: set[Node]) -> float:
        total = 0.0
        for pair in pairs:
            sites = [Site(layer, "head_z") for layer in range(3)]
            other = run(gpt2, torch.tensor([pair.corrupt]), read=sites, logits=False)
            edits = [
                replace(node.site, other[node.site], Where(channels=node.index)) for node in nodes if node not in kept
            ]
            logits = run(gpt2, torch.tensor([pair.clean]), None, edits).logits
            assert logits is not None
            total += float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])
        return total / len(pairs)

    every = set(nodes)
    found = judge(knockout, circuit, {"first": frozenset(nodes[:4]) & circuit}, draws=3, seed=1)
    full, empty = score(every), score(set())
    assert found.full == pytest.approx(full, abs=1e-4)
    assert found.empty == pytest.approx(empty, abs=1e-4)
    assert found.faithfulness == pytest.approx((score(set(circuit)) - empty) / (full - empty), abs=1e-3)
    for removal in found.completeness:
        k = {Node.parse(name) for name in removal.removed}
        assert removal.circuit == pytest.approx(score(set(circuit) - k), abs=1e-4)
        assert removal.model == pytest.approx(score(every - k), abs=1e-4)
        assert removal.gap == pytest.approx(abs(removal.circuit - removal.model) / abs(full - empty), abs=1e-3)
    assert [one.gap for one in found.completeness] == sorted((one.gap for one in found.completeness), reverse=True)
    for need in found.minimality:
        k, v = {Node.parse(name) for name in need.removed}, Node.parse(need.node)
        loss = abs(score(set(circuit) - k) - score(set(circuit) - k - {v})) / abs(full - empty)
        assert need.loss == pytest.approx(loss, abs=1e-3)


@pytest.mark.parametrize("kind", ["resample", "mean", "zero"])
def test_ablated_parts_have_the_output_that_was_asked_for(gpt2: Subject, kind: Any) -> None:
    pairs = random_pairs(3)
    nodes = [Node(0, "head", 1), Node(1, "mlp"), Node(2, "neuron", 5), Node(2, "head", 3)]
    knockout = Knockout(gpt2, pairs, nodes, kind)
    got = knockout.ablated([nodes[:2], nodes])
    other = run(gpt2, torch.tensor([p.corrupt for p in pairs]), read=[n.site for n in nodes], logits=False)
    for row, chosen in enumerate((nodes[:2], nodes)):
        for i, pair in enumerate(pairs):
            edits = []
            for node in chosen:
                where = Where(channels=None if node.kind == "mlp" else node.index)
                source = other[node.site]
                fill = source[i : i + 1] if kind == "resample" else source.mean(0, keepdim=True)
                edits.append(set_to(node.site, 0.0, where) if kind == "zero" else replace(node.site, fill, where))
            logits = run(gpt2, torch.tensor([pair.clean]), None, edits).logits
            assert logits is not None
            expected = float(logits[0, -1, pair.answer] - logits[0, -1, pair.wrong])
            assert got[row, i] == pytest.approx(expected, abs=1e-4)
    assert (knockout.reference is None) == (kind == "zero")


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "bert-headless"])
def test_on_every_architecture_nothing_ablated_is_the_model_and_batches_do_not_matter(
    name: str, tiny_gpt2_folder: Path
) -> None:
    case: Case = make_case(name, tiny_gpt2_folder)
    pairs, nodes = random_pairs(2), all_nodes(case.subject)
    sets = [[], nodes[:1], nodes[2:6], nodes]
    knockout = Knockout(case.subject, pairs, nodes)
    together = knockout.ablated(sets)
    np.testing.assert_allclose(together[0], knockout.clean)
    for i, one in enumerate(sets):
        alone = Knockout(case.subject, pairs, nodes).ablated([one])[0]
        np.testing.assert_allclose(together[i], alone, atol=2e-5)


@pytest.mark.slow
def test_neurons_that_matter_can_be_parts(planted: Subject) -> None:
    pairs = known(planted, task(planted, "ioi", 6))
    circuit = find_circuit(planted, pairs, neurons=5, draws=2)
    assert {node.name for node in circuit.nodes} == PLANTED["ioi"]["heads"]
    assert len(circuit.candidates) == 17
    assert sum(name.startswith("mlp:") for name in circuit.candidates) == 5


def test_parts_that_do_nothing_leave_a_circuit_of_none(planted: Subject) -> None:
    pairs = known(planted, task(planted, "ioi", 6))
    circuit = find_circuit(planted, pairs, candidates=[Node(0, "head", 1), Node(2, "head", 3)], draws=2)
    assert circuit.nodes == circuit.edges == ()
    assert circuit.criteria.incompleteness == circuit.criteria.least_need == 0.0


def test_tasks_are_pairs_of_equal_length_that_differ_and_the_same_for_a_seed(planted: Subject, gpt2: Subject) -> None:
    for name in ("ioi", "induction"):
        pairs = task(planted, name, 12, seed=4)
        assert pairs == task(planted, name, 12, seed=4) != task(planted, name, 12, seed=5)
        assert all(len(p.clean) == len(p.corrupt) and p.clean != p.corrupt and p.answer != p.wrong for p in pairs)
    for pair in task(gpt2, "induction", 5):
        assert sorted(pair.clean) == sorted(pair.corrupt)
        last = pair.clean[-1]
        assert pair.clean[pair.clean.index(last) + 1] == pair.answer
        assert pair.corrupt[pair.corrupt.index(last) + 1] == pair.wrong


def test_mistakes_are_told(gpt2: Subject) -> None:
    with pytest.raises(InterventionError, match="no task"):
        task(gpt2, "counting")
    with pytest.raises(InterventionError, match="tokens"):
        task(gpt2, "ioi", 8)  # names are several tokens, of several numbers
    with pytest.raises(InterventionError, match="at least 2"):
        find_circuit(gpt2, random_pairs(1))
    worse = [p for p in random_pairs(6) if p not in known(gpt2, random_pairs(6))]
    assert worse
    with pytest.raises(InterventionError, match="does not do this task"):
        find_circuit(gpt2, [p.__class__(p.corrupt, p.clean, p.answer, p.wrong, None, i)
                            for i, p in enumerate(known(gpt2, random_pairs(40)))])  # fmt: skip
    with pytest.raises(InterventionError, match="not one of the parts"):
        Knockout(gpt2, random_pairs(), [Node(0, "head", 1)]).ablated([[Node(0, "head", 2)]])
    with pytest.raises(InterventionError, match="no kind"):
        Knockout(gpt2, random_pairs(), [Node(0, "head", 1)], "gone")  # type: ignore[arg-type]
