"""Rivals from elsewhere than the explainer: who proposes them, and that they compete like any other."""

from __future__ import annotations

from typing import Any

import pytest

from agent import further
from agent.contest.types import Contest
from agent.spec import BEFORE, load_spec
from explainers.types import Evidence, Explanation

#: Fires on a comma, semicolon or colon right after a number.
UNIT = "mlp:2:135"
TRUE = 'rule v1\n6.0 if before[1] is digit and token in {" ,", " ;", " :"}\nelse 0.0'
BROAD = 'rule v1\n6.0 if token in {" ,", " ;", " :"}\nelse 0.0'


def _output(rule: str) -> Explanation:
    return Explanation("output", "a rule", "Fires by a rule.", None, rule, None, {})


@pytest.fixture
def raises_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output side proposes the true rule."""

    def rivals(evidence: Evidence) -> list[Explanation]:
        assert str(evidence.unit) == UNIT
        return [_output(TRUE)]

    monkeypatch.setattr(further, "output_rivals", rivals)


@pytest.mark.usefixtures("raises_marks")
def test_a_rival_from_the_output_side_competes_and_may_win(arena: Any) -> None:
    without = arena.investigate(UNIT, [BROAD], rounds=0)
    assert without["chosen"]["+"] == 1
    state = arena.investigate(UNIT, [BROAD], rounds=1)
    rival = Contest.from_json(state["contest"]["+"]).rivals[1]
    assert (rival.origin, rival.explanation.rule) == ("output", TRUE)
    assert state["claims"]["+"]["explainer"] == "output"


@pytest.mark.usefixtures("raises_marks")
def test_what_the_explainer_proposed_already_is_not_proposed_again(arena: Any) -> None:
    state = arena.investigate(UNIT, [BROAD, TRUE], rounds=0)
    assert [rival["explainer"] for rival in state["rivals"]["+"]] == ["by hand", "by hand"]


def test_campaigns_of_before_are_found_by_their_hash_and_have_no_such_rivals() -> None:
    base = {"subject": "pycode", "units": "mlp:0:1", "corpus": "stdlib:"}
    assert load_spec(None, base).rivals_from == ("output",)
    assert load_spec(None, {**base, **BEFORE}).rivals_from == ()
    assert load_spec(None, base).spec_hash != load_spec(None, {**base, "rivals_from": []}).spec_hash
