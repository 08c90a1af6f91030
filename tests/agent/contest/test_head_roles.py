"""A head's rivals about what it attends to: texts leave several roles, trials tell which is right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent.budget import StoppedError
from agent.contest.edges import edge_predictions
from agent.contest.types import Contest, Probe, Rival
from agent.investigation import build_graph, investigate
from explainers.pattern.explainer import PatternExplainer
from explainers.pattern.heads import Role, head_sentence, with_roles
from explainers.types import Explanation
from tests.agent.contest.conftest import explanation
from tests.agent.contest.test_contest import counting
from tools.planted.words import pieces
from tools.types import UnitId

ALWAYS = "rule v1\n6.0 if position > 0\nelse 0.0"
NAMES = [" Anna", " Ben", " Clara"]
ROLES: dict[str, dict[str, Any]] = {
    "previous": {"name": "previous"},
    "two back": {"name": "offset", "offset": 2, "where_it_writes": True},
    "three back": {"name": "offset", "offset": 3, "where_it_writes": True},
    "duplicate": {"name": "duplicate", "where_it_writes": True},
    "induction": {"name": "induction"},
    "first": {"name": "first"},
    "names": {"name": "tokens", "queries": [" to", " for"], "keys": NAMES, "where_it_writes": True},
}


def of_role(name: str, rule: str = ALWAYS) -> Explanation:
    """A description of a head that says what it attends to."""
    said = explanation(rule)
    return replace(said, label=name, input_half=f"Attends: {name}.", details={"roles": [ROLES[name]]})


def labels(state: Any) -> dict[str, str]:
    """Of each rival what became of it."""
    return {one.explanation.label: one.status for one in Contest.from_json(state["contest"]["+"]).rivals}


@pytest.mark.parametrize(
    ("unit", "wrong", "right"),
    [
        ("head:0:1", ("previous", "three back", "induction"), "two back"),
        ("head:0:0", ("first", "duplicate"), "previous"),
        ("head:1:1", ("first", "induction"), "duplicate"),
    ],
)
def test_trials_refute_wrong_roles_and_the_right_one_is_asserted(
    arena: Any, unit: str, wrong: tuple[str, ...], right: str
) -> None:
    said = [*(of_role(name) for name in wrong), of_role(right)]
    assert arena.investigate(unit, said, rounds=0)["claims"]["+"]["label"] == wrong[0]
    state = arena.investigate(unit, said, rounds=3, options={"bases": 0})
    found = labels(state)
    assert state["claims"]["+"]["label"] == right
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, "dropped")
    contest = Contest.from_json(state["contest"]["+"])
    assert 0 < contest.passes <= arena.bench.spec.contest.forward_passes
    assert not any(outcome.error for outcome in contest.outcomes)


def test_a_role_that_has_no_rival_is_tried_too(arena: Any) -> None:
    state = arena.investigate("head:0:0", [of_role("induction")], rounds=1, options={"bases": 0})
    rows = [row for row in state["experiments"] if row["kind"] == "edges"]
    assert len(rows) > 1
    assert {row["observations"][1]["outcome"] for row in rows} == {"refuted"}
    assert labels(state) == {"induction": "alive"}  # there is none to take its place


@pytest.mark.slow
def test_tokens_that_were_not_known_are_found_and_wrong_ones_struck_off(arena: Any) -> None:
    few = Role("tokens", 0.5, 0.1, 0, (" to", " for"), (" Anna", " Ben", " Clara", " dog"), where_it_writes=True)
    profile = arena.bench.edges(UnitId("head:2", 0))
    first = of_role("first", 'rule v1\n30.0 if token in {" to", " for"}\nelse 0.0')
    first = replace(first, input_half=head_sentence(profile, [Role.from_json(ROLES["first"])]))
    said = with_roles(first, profile, [few])
    state = arena.investigate("head:2:0", [first, said], rounds=4, options={"bases": 0})
    [role] = state["claims"]["+"]["details"]["roles"]
    assert set(role["keys"]) == set(pieces("name"))
    contest = Contest.from_json(state["contest"]["+"])
    [before] = [one for one in contest.rivals if one.status == "refined"]
    more = len(pieces("name")) - 3
    assert before.why == f"of the tokens tried in the place it attends to {more} more, and not to 1 of those named"


@pytest.mark.slow
def test_a_name_mover_is_not_called_a_resting_head(arena: Any) -> None:
    """It rests at nearly all tokens, and at a fixed distance of the few others names stand in half of the texts."""
    desk = arena.desk("head:2:0")
    desk.bench = replace(desk.bench, explainer=PatternExplainer())
    state = investigate(build_graph(InMemorySaver()), desk, "t")
    roles = [one.explanation.details["roles"][0]["name"] for one in Contest.from_json(state["contest"]["+"]).rivals]
    assert {"first", "tokens", "offset"} <= set(roles)
    claim = state["claims"]["+"]
    [role] = claim["details"]["roles"]
    assert role["name"] == "tokens"
    assert role["queries"] == [" to", " for"] or role["queries"] == [" for", " to"]
    assert set(role["keys"]) == set(pieces("name"))  # also those that it did not move in explore
    assert state["verdicts"]["+"]["input"] == "supported"
    assert "edge:tokens" in state["verdicts"]["+"]["reasons"][0]


def test_the_notebook_says_what_each_role_expected_and_what_came(arena: Any) -> None:
    state = arena.investigate("head:0:1", [of_role("three back"), of_role("two back")], rounds=1, options={"bases": 0})
    rows = [row for row in state["experiments"] if row["kind"] == "edges"]
    assert {row["arguments"]["contest"]["aim"]["name"] for row in rows} == {"repeat", "example", "longer", "changed"}
    for row in rows:
        assert re.search(r"\? Attended to are \d+ of \d+ places\.$", row["observations"][0]["summary"])
        assert {len(row["arguments"][name]) for name in ("texts", "positions", "sources")} == {
            len(row["observations"][0]["data"]["result"]["values"])
        }
        against, for_it = row["observations"][1:]
        assert (against["hypothesis"], against["outcome"]) == ("+1", "refuted")
        assert (for_it["hypothesis"], for_it["outcome"]) == ("+2", "supported")


def test_a_contest_about_edges_that_is_cut_off_asks_nothing_twice(arena: Any) -> None:
    said = [of_role("three back"), of_role("two back")]
    settings: dict[str, Any] = {"rounds": 2, "options": {"bases": 0}}
    whole = arena.investigate("head:0:1", said, **settings)
    asked = [row["kind"] for row in whole["experiments"] if "contest" in row["arguments"]]
    assert asked.count("edges") == 4
    for steps in (5, 6, 7):  # before, between and after running and weighing
        graph, used = build_graph(InMemorySaver()), []
        desk = arena.desk("head:0:1", said, **settings)
        left = iter([False] * steps)
        desk.stopping = lambda left=left: next(left, True)
        with pytest.raises(StoppedError):
            investigate(graph, counting(desk, used), "t")
        state = investigate(graph, counting(arena.desk("head:0:1", said, **settings), used), "t")
        assert used == asked
        assert labels(state) == labels(whole)


def test_what_roles_expect_of_a_text(arena: Any) -> None:
    """In 'Anna saw Ben . Anna' (0 is the beginning) the last token has one duplicate, at 1, and induction's is at 2."""
    names = ("previous", "two back", "duplicate", "induction", "first", "names")
    rivals = [Rival(name, of_role(name), "test") for name in names] + [Rival("none", explanation(ALWAYS), "test")]
    text = " Anna saw Ben . Anna"
    assert len(arena.bench.subject.encode(text)) == 6
    asked = [Probe(text, 5, sources) for sources in ((4,), (3,), (1,), (2,), (0,), (1, 3))]
    found = edge_predictions(arena.bench.subject, rivals, asked, 0.05)
    no, yes, either = 0.05, 0.95, 0.5
    assert found.tolist() == [
        [yes, no, no, no, either, no],
        [no, yes, no, no, either, yes],
        [no, no, yes, no, either, yes],
        [no, no, no, yes, either, no],
        [no, no, no, no, yes, no],
        [no, no, no, no, either, no],  # there is no 'to' or 'for' to attend from
        [either] * 6,
    ]
