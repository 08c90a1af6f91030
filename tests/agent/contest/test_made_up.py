"""Trials on random tokens: activity that no rival expects is found, and clauses that name no cause are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.contest.pattern import PatternPolicy
from agent.contest.pattern.bases import Material
from agent.contest.pattern.made_up import counterexamples, made_up_trials, without_what_fails
from agent.contest.policy import Context
from agent.contest.types import Contest, Revision, Trial
from agent.toolbox.probe import MOST

Offer = Callable[[str, Callable[..., Any]], None]

#: Fires on a comma, semicolon or colon, but not with certain words just before.
MARKS = "mlp:0:508"
#: Fires on one of those right after a number.
AFTER_NUMBER = "mlp:2:135"
SET = '{" ,", " ;", " :"}'
TRUE_CLAUSE = f"6.0 if before[1] is digit and token in {SET}"


class MadeUp(PatternPolicy):
    """Random tokens alone."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[int]] = []

    def trials(self, context: Context) -> list[Trial]:
        return list(made_up_trials(Material(context), context.best))

    def revise(self, context: Context) -> list[Revision]:
        self.found += counterexamples(context)
        return without_what_fails(context, Material(context))


def contest_of(arena: Any, policy: Offer, unit: str, rule: str) -> tuple[Contest, MadeUp]:
    made = MadeUp()
    policy("made up", lambda: made)
    state = arena.investigate(unit, [rule], policy="made up", rounds=1)
    return Contest.from_json(state["contest"]["+"]), made


def test_random_text_shows_activity_that_the_rule_does_not_expect(arena: Any, policy: Offer) -> None:
    contest, made = contest_of(arena, policy, MARKS, 'rule v1\n6.0 if token in {" ,"}\nelse 0.0')
    [random] = [one for one in contest.outcomes if one.trial.aim["kind"] == "random"]
    assert len(random.active) == MOST
    assert random.passes == 1
    subject = arena.bench.subject
    assert made.found
    assert {subject.pieces(body)[-1] for body in made.found} <= {" ;", " :"}


def test_it_shows_none_where_the_rule_says_it_all(arena: Any, policy: Offer) -> None:
    _, made = contest_of(arena, policy, MARKS, f"rule v1\n6.0 if token in {SET}\nelse 0.0")
    assert made.found == []


def test_a_clause_that_names_what_comes_along_is_left_out(arena: Any, policy: Offer) -> None:
    rule = f'rule v1\n6.0 if within[8] token in {{" the", " .", " a"}}\n{TRUE_CLAUSE}\nelse 0.0'
    contest, _ = contest_of(arena, policy, AFTER_NUMBER, rule)
    split = contest.rivals[1]
    assert (split.origin, split.parents) == ("split", ("+1",))
    assert "within" not in str(split.explanation.rule)
    assert "before[1] is digit" in str(split.explanation.rule)
    assert split.log_weight > contest.rivals[0].log_weight


def test_clauses_that_hold_are_kept(arena: Any, policy: Offer) -> None:
    contest, _ = contest_of(arena, policy, AFTER_NUMBER, f"rule v1\n{TRUE_CLAUSE}\nelse 0.0")
    [stretch] = [one for one in contest.outcomes if one.trial.aim["kind"] == "stretch"]
    assert all(stretch.active)
    assert len(contest.rivals) == 1
