"""The policy `pattern` on planted units: a rule that is nearly right goes in, the true one comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.contest.types import Contest
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from tools.planted import near_misses, planted_spec
from tools.types import BoolArray

ANIMALS = '{" dog", " cat", " horse", " cow", " bird"}'
DID = '{" walked", " looked", " worked", " waited", " stopped", " turned", " rested", " landed", " jumped", " started"}'
NEARLY = {
    # a bigram of which texts show one mark only
    "mlp:2:135": 'rule v1\n6.0 if before[1] is digit and token in {" ,"}\nelse 0.0',
    # a pair of sets at one distance too few
    "mlp:1:405": f'rule v1\n6.0 if token in {ANIMALS} and before[1] in {{" this", " that", " every"}}\nelse 0.0',
    # a range of positions whose ends are wrong
    "mlp:2:462": 'rule v1\n6.0 if token in {" he", " she", " it"} and position > 6 and position < 12\nelse 0.0',
    # a repetition of some of its tokens
    "mlp:2:395": 'rule v1\n6.0 if repeated token and token in {" knife", " rope", " saw"}\nelse 0.0',
    # three rules in one, of which one is missing
    "mlp:2:137": f'rule v1\n6.0 if token in {{" gold"}}\n6.0 if before[1] in {ANIMALS} and token in {DID}\nelse 0.0',
    # an exception that was taken for another one
    "mlp:0:508": 'rule v1\n6.0 if token in {" ,", " ;", " :"} and not within[3] token in {" when", " she"}\nelse 0.0',
}


#: Those that are tried among the fast tests.
QUICK = ("mlp:2:135", "mlp:0:508")


class Texts:
    """Near-misses of a unit's rule, as predictors read them."""

    def __init__(self, pieces: list[list[str]]) -> None:
        self._pieces = pieces

    def pieces(self, context: int) -> list[str]:
        return self._pieces[context]


def near_f1(arena: Any, unit: str, rule: str, threshold: float) -> float:
    """F1 of a rule on texts in which the unit's true one only just holds, or only just fails."""
    truth = arena.truths[f"{unit}+"]
    subject = arena.bench.subject
    lines = near_misses(truth, planted_spec("planted:seed=0"), 40, seed=1)
    pieces = [subject.pieces(subject.encode(line)) for line in lines]
    contexts = np.repeat(np.arange(len(pieces)), [len(line) - 1 for line in pieces])
    positions = np.concatenate([np.arange(1, len(line)) for line in pieces])
    active: BoolArray = np.concatenate([truth.active(line)[1:] for line in pieces])
    called = RulePredictor(parse_rule(rule)).predict(Texts(pieces), contexts, positions) > threshold
    return 2 * int((called & active).sum()) / max(int(called.sum()) + int(active.sum()), 1)


@pytest.mark.parametrize(
    "unit", [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in NEARLY if one not in QUICK)]
)
def test_a_rule_that_is_nearly_right_is_mended(arena: Any, unit: str) -> None:
    state = arena.investigate(unit, [NEARLY[unit]], rounds=6)
    claim, threshold = state["claims"]["+"], state["triage"]["tails"][0]["threshold"]
    assert near_f1(arena, unit, NEARLY[unit], threshold) < 0.93
    assert near_f1(arena, unit, claim["rule"], threshold) >= 0.97, claim["rule"]
    contest = Contest.from_json(state["contest"]["+"])
    assert not any(outcome.error for outcome in contest.outcomes)
    assert contest.rivals[state["chosen"]["+"]].origin in ("trials", "refined")


@pytest.mark.slow
def test_a_rule_that_is_right_already_is_not_made_worse(arena: Any) -> None:
    first = arena.investigate("mlp:2:462", [NEARLY["mlp:2:462"]], rounds=6)
    right, threshold = first["claims"]["+"]["rule"], first["triage"]["tails"][0]["threshold"]
    again = arena.investigate("mlp:2:462", [right], rounds=6)
    assert near_f1(arena, "mlp:2:462", again["claims"]["+"]["rule"], threshold) == 1


def test_a_rule_that_fits_badly_is_not_taken_apart(arena: Any) -> None:
    state = arena.investigate("mlp:2:462", ['rule v1\n6.0 if token in {" dog"}\nelse 0.0'])
    contest = Contest.from_json(state["contest"]["+"])
    assert not contest.rounds
    assert contest.stopped is not None
