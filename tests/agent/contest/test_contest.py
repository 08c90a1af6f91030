"""The contest on planted units with rivals made by hand: who is dropped, who is kept, and what is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent import load_spec
from agent.budget import StoppedError
from agent.contest.nodes import check_contest
from agent.contest.policy import Context, PolicyError, rule_predictions
from agent.contest.types import Contest, Probe, Revision, Rival, Trial
from agent.desk import Desk
from agent.investigation import build_graph, investigate
from agent.results import result_of
from agent.state import State
from explainers.types import Explanation
from tools.types import UnitId

#: Fires on a comma, semicolon or colon right after a number. (The corpus has the comma alone after numbers.)
UNIT = "mlp:2:135"
DIGITS = " 1", " 2", " 3", " 4", " 5", " 6", " 7", " 8", " 9", " 10", " 12", " 20", " 50", " 100"
_SET = "{" + ", ".join(f'"{one}"' for one in DIGITS) + "}"
TRUE = f'rule v1\n6.0 if before[1] in {_SET} and token in {{" ,", " ;", " :"}}\nelse 0.0'
NARROW = f'rule v1\n6.0 if before[1] in {_SET} and token in {{" ,"}}\nelse 0.0'
BROAD = 'rule v1\n6.0 if token in {" ,", " ;", " :"}\nelse 0.0'

Offer = Callable[[str, Callable[..., Any]], None]


def explanation(rule: str) -> Explanation:
    return Explanation("by hand", "a rule", "Fires by a rule.", None, rule, None, {})


class Asking:
    """A policy that asks what it is given, a round at a time."""

    def __init__(self, rounds: Sequence[Sequence[Trial]], revisions: Sequence[Revision] = ()) -> None:
        self.rounds, self.revisions = rounds, revisions
        self.told: list[Context] = []

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Any:
        return rule_predictions(context, rivals, probes)

    def trials(self, context: Context) -> list[Trial]:
        self.told.append(context)
        done = len(context.contest.rounds)
        return list(self.rounds[done]) if done < len(self.rounds) else []

    def revise(self, context: Context) -> list[Revision]:
        self.told.append(context)
        return list(self.revisions) if len(context.contest.rounds) == 1 else []


def asks(*texts: str) -> Trial:
    return Trial("Which marks count?", tuple(Probe(text, len(text.split())) for text in texts), surprise=0.5)


def contest_of(state: State) -> Contest:
    return Contest.from_json(state["contest"]["+"])


def test_a_wrong_rival_is_dropped_and_the_true_one_asserted(arena: Any, policy: Offer) -> None:
    policy("test", lambda: Asking([[asks("Anna took 3 ;", "he sold 20 :", "it was 8 ;", "the dog ;", "a 4 :")]]))
    state = arena.investigate(UNIT, [NARROW, TRUE], policy="test")
    contest = contest_of(state)
    narrow, true = contest.rivals
    assert (narrow.status, true.status) == ("dropped", "alive")
    assert "refuted by trials" in narrow.why
    assert true.log_weight > narrow.log_weight
    assert state["chosen"]["+"] == 1
    assert contest.stopped is not None
    assert contest.stopped.startswith("decided")


def test_texts_alone_would_have_asserted_the_wrong_one(arena: Any) -> None:
    state = arena.investigate(UNIT, [NARROW, TRUE], rounds=0)
    assert "contest" not in state
    assert state["chosen"]["+"] == 0


def test_each_trial_is_a_row_that_speaks_for_or_against_each_rival(arena: Any, policy: Offer) -> None:
    policy("test", lambda: Asking([[asks("Anna took 3 ;", "he sold 20 :", "the dog ;")]]))
    state = arena.investigate(UNIT, [NARROW, TRUE], policy="test")
    [row] = [row for row in state["experiments"] if "contest" in row["arguments"]]
    assert row["kind"] == "probe"
    assert row["arguments"]["texts"] == ["Anna took 3 ;", "he sold 20 :", "the dog ;"]
    assert row["arguments"]["contest"]["information"] > 0.5
    whole, narrow, true = row["observations"]
    assert (narrow["hypothesis"], narrow["outcome"]) == ("+1", "refuted")
    assert (true["hypothesis"], true["outcome"]) == ("+2", "supported")
    assert narrow["data"]["log_likelihood_ratio"] < 0 < true["data"]["log_likelihood_ratio"]
    assert narrow["data"]["expected"] == [0.05, 0.05, 0.05]
    assert true["data"]["expected"] == [0.95, 0.95, 0.05]
    assert "Active at 2 of 3 places" in whole["summary"]
    [hypothesis, _] = result_of(state, arena.bench, UnitId.parse(UNIT)).hypotheses
    assert hypothesis.status == "dropped"
    assert hypothesis.details["dropped"].startswith("dropped: refuted by trials")


def test_a_refuted_rival_stays_where_none_could_take_its_place(arena: Any, policy: Offer) -> None:
    """The broad rule fits the corpus badly; the narrow one is wrong in trials but far better on texts."""
    policy("test", lambda: Asking([[asks("Anna took 3 ;", "he sold 20 :", "it was 8 ;", "she saw 7 :")]]))
    state = arena.investigate(UNIT, [NARROW, BROAD], policy="test")
    assert [rival.status for rival in contest_of(state).rivals] == ["alive", "alive"]
    assert state["chosen"]["+"] == 0


def test_the_same_question_asked_again_is_no_further_evidence(arena: Any, policy: Offer) -> None:
    """Two trials of a round share a probe, one has it twice, and the next round would ask nothing else."""
    once, again = asks("Anna took 3 ;"), asks("Anna took 3 ;", "Anna took 3 ;")
    policy("test", lambda: Asking([[once, again], [once]]))
    contest = contest_of(arena.investigate(UNIT, [NARROW, TRUE], policy="test"))
    narrow, true = contest.rivals
    assert true.log_weight - narrow.log_weight == pytest.approx(np.log(0.95 / 0.05))
    assert true.log_e == pytest.approx(np.log((0.45 * 0.05 + 0.1 * 0.5) / 0.55 / 0.95))
    assert [len(round_) for round_ in contest.rounds] == [2]


def test_errors_of_tools_are_failed_rows_and_the_contest_goes_on(arena: Any, policy: Offer) -> None:
    asking = Asking([
        [Trial("Is there such a tool?", tool="no_such_tool", surprise=0.5),
         Trial("Is there such a place?", (Probe("a dog", 40),), surprise=0.4)],
        [asks("Anna took 3 ;", "he sold 20 :", "it was 8 ;")],
    ])  # fmt: skip
    policy("test", lambda: asking)
    state = arena.investigate(UNIT, [NARROW, TRUE], policy="test")
    rows = [row for row in state["experiments"] if "contest" in row["arguments"]]
    assert [row["status"] for row in rows] == ["failed", "failed", "done"]
    assert "There is no tool 'no_such_tool'" in rows[0]["error"]
    assert "There is no token 40" in rows[1]["error"]
    assert not rows[0]["observations"]
    told = asking.told[-1].outcomes
    assert [one.error is None for one in told] == [False, False, True]
    assert state["chosen"]["+"] == 1


def test_a_refined_rival_takes_its_parents_place_and_is_weighed_by_earlier_trials(arena: Any, policy: Offer) -> None:

    better = Revision("refine", "other marks count too", ("+1",), (explanation(TRUE),))
    rounds = [[asks("Anna took 3 ;", "he sold 20 :", "it was 8 ;")]]
    policy("test", lambda: Asking(rounds, [better]))
    state = arena.investigate(UNIT, [NARROW], policy="test")
    old, new = contest_of(state).rivals
    assert (old.status, old.why) == ("refined", "other marks count too")
    assert (new.key, new.origin, new.parents, new.status) == ("+2", "refined", ("+1",), "alive")
    assert new.log_weight > old.log_weight
    assert new.log_e == 0
    assert state["rivals"]["+"][1]["rule"] == TRUE
    assert state["chosen"]["+"] == 1


def test_what_does_worse_on_texts_takes_no_place_however_often_it_is_proposed(arena: Any, policy: Offer) -> None:
    worse = Revision("refine", "all marks count", ("+1",), (explanation(BROAD),))
    rounds = [[asks("Anna took 3 ;", "he sold 20 :")], [asks("it was 8 ;", "she saw 7 :")]]
    policy("test", lambda: Asking(rounds, [worse, worse]))
    state = arena.investigate(UNIT, [TRUE], policy="test")
    old, new = contest_of(state).rivals
    assert old.alive
    assert new.status == "dropped"
    assert new.why.startswith("does worse on texts than +1: F1 ")
    assert state["chosen"]["+"] == 0


def test_rivals_that_say_the_same_are_merged(arena: Any, policy: Offer) -> None:
    # No text has all digits but one: the rules differ in what never happens.
    other = TRUE.replace('" 1", ', "", 1).replace("6.0 if", '6.0 if before[1] in {" 1"} and token in {" ,"}\n6.0 if')
    policy("test", lambda: Asking([[asks("Anna took 3 ;", "it was 8 ,")]]))
    state = arena.investigate(UNIT, [TRUE, other], policy="test")
    first, second = contest_of(state).rivals
    assert {first.status, second.status} == {"alive", "merged"}


def test_a_contest_that_changes_nothing_is_given_up(arena: Any, policy: Offer) -> None:
    rounds = [
        [asks(f"the dog {where} .")] for where in ("ran", "sat", "ate", "slept", "came", "left", "fell", "won", "hid")
    ]
    policy("test", lambda: Asking(rounds))
    state = arena.investigate(UNIT, [TRUE, BROAD], policy="test", rounds=9)
    contest = contest_of(state)
    assert contest.stopped is not None
    assert contest.stopped.startswith("futile")
    assert len(contest.rounds) < 9


@pytest.mark.parametrize(("limit", "said"), [({"rounds": 1}, "budget: 1 rounds"), ({"forward_passes": 1}, "budget")])
def test_a_contest_ends_with_its_budget(arena: Any, policy: Offer, limit: dict[str, int], said: str) -> None:
    trials = [[asks("Anna took 3 ;", "the dog .")], [asks("she saw 7 :", "a cow .")]]
    policy("test", lambda: Asking(trials))
    contest = contest_of(arena.investigate(UNIT, [NARROW, BROAD], policy="test", **limit))
    assert contest.stopped is not None
    assert contest.stopped.startswith(said)
    assert contest.passes == 1


def test_a_contest_that_is_cut_off_anywhere_goes_on_and_asks_nothing_twice(arena: Any, policy: Offer) -> None:
    rounds = [[asks("Anna took 3 ;", "the dog ."), asks("a cow .")], [asks("she saw 7 :", "he sold 20 :")]]
    policy("test", lambda: Asking(rounds))
    undisturbed = _kept(arena.investigate(UNIT, [NARROW, TRUE], policy="test"))
    asked = len([row for row in undisturbed["rows"] if row["kind"] == "probe"])
    assert asked == 3
    for steps in range(4, 16):  # from the experiments to beyond the second round
        graph, used = build_graph(InMemorySaver()), []
        first = arena.desk(UNIT, [NARROW, TRUE], policy="test")
        left = iter([False] * steps)
        first.stopping = lambda left=left: next(left, True)
        with pytest.raises(StoppedError):
            investigate(graph, counting(first, used), "t")
        again = arena.desk(UNIT, [NARROW, TRUE], policy="test")
        state = investigate(graph, counting(again, used), "t")
        assert _kept(state) == undisturbed
        assert len(used) == asked


def test_a_round_that_breaks_in_the_middle_of_its_trials_is_done_again_and_written_once(
    arena: Any, policy: Offer
) -> None:
    rounds = [[asks("Anna took 3 ;", "the dog ."), asks("she saw 7 :", "he sold 20 :")]]
    policy("test", lambda: Asking(rounds))
    undisturbed = _kept(arena.investigate(UNIT, [NARROW, TRUE], policy="test"))
    graph, used = build_graph(InMemorySaver()), []
    with pytest.raises(RuntimeError, match="cut off"):
        investigate(graph, counting(arena.desk(UNIT, [NARROW, TRUE], policy="test"), used, breaks_at=2), "t")
    state = investigate(graph, counting(arena.desk(UNIT, [NARROW, TRUE], policy="test"), used), "t")
    assert len(used) == 4
    assert _kept(state) == undisturbed


def test_an_unknown_policy_is_told_before_anything_is_spent() -> None:
    given = {"subject": "planted", "corpus": "planted:", "units": "mlp:0:*", "contest": {"policy": "nobody"}}
    with pytest.raises(PolicyError, match=r"no policy 'nobody'.*llm.*pattern"):
        check_contest(load_spec(None, given))
    check_contest(load_spec(None, {**given, "contest": "off"}))
    check_contest(load_spec(None, {**given, "contest": {"policy": "pattern", "options": {"bases": 2}}}))


def counting(desk: Desk, used: list[str], breaks_at: int | None = None) -> Desk:
    """The desk, whose uses of tools are counted; it breaks at one of them."""
    use = desk.use

    def counted(tool: str, arguments: Any) -> Any:
        used.append(tool)
        if len(used) == breaks_at:
            raise RuntimeError("cut off")
        return use(tool, arguments)

    desk.use = counted  # type: ignore[method-assign]
    return desk


def _kept(state: State) -> dict[str, Any]:
    """What does not depend on the clock."""
    rows = [{**row, "seconds": 0.0} for row in state["experiments"]]
    return {"contest": state["contest"], "rows": rows, "chosen": state["chosen"], "claims": state["claims"],
            "tool_calls": state["cost"]["tool_calls"]}  # fmt: skip
