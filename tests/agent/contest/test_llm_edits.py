"""What the policy `llm` does without asking the model: edits of texts, the opening round, mistakes on the corpus."""

from __future__ import annotations

import pytest

from agent.contest.types import Contest
from tests.agent.contest.test_contest import BROAD, NARROW, TRUE
from tests.agent.contest.test_llm_policy import (
    ALONE,
    Contend,
    Script,
    contend,  # noqa: F401  (a fixture)
    in_levels,
    probe,
    revision,
    rows_of,
    trial,
)
from tests.serving import ProgrammableServer


def variants(contest: Contest, number: int = 0) -> dict[bool, list[str]]:
    """What was put there or done to the text, by whether the unit stayed active."""
    outcome = contest.rounds[0][number]
    told = outcome.trial.aim["variants"]
    return {on: [one for one, active in zip(told, outcome.active, strict=True) if active is on] for on in (True, False)}


@pytest.mark.parametrize("replace", ["", " ,", " 3"])
def test_substitutes_show_the_members_of_a_set(contend: Contend, llm_server: ProgrammableServer, replace: str) -> None:  # noqa: F811
    asked = {**trial(probe("Anna took 3 ,", " ,"), tool="substitute"), "replace": replace}
    llm_server.mind = Script(trials=[[asked]])
    state = contend([BROAD], rounds=1)
    found = variants(Contest.from_json(state["contest"]["+"]))
    assert len(found[False]) > 50
    if replace == " 3":
        assert found[True]
        assert all(token.strip().isdigit() for token in found[True])
    else:
        assert sorted(found[True]) == [" :", " ;"]
    [revise] = [chat for chat in llm_server.chats() if chat.fields == {"revisions"}]
    place = "[1]  Anna took« 3» ,\n    with others in its place, read at the end: active " if replace == " 3" else (
        "[1]  Anna took 3« ,»\n    with others in its place: active ")  # fmt: skip
    assert place in revise.sections["RESULTS"]


def test_rearranged_texts_show_what_distance_and_order_do(contend: Contend, llm_server: ProgrammableServer) -> None:  # noqa: F811
    llm_server.mind = Script(trials=[[trial(probe("Anna took 3 ,", " ,"), tool="rearrange")]])
    state = contend([NARROW], rounds=1)
    found = variants(Contest.from_json(state["contest"]["+"]))
    # The number must stand right before the comma.
    assert 'without " took"' in found[True]
    assert 'without " 3"' in found[False]
    [put] = [one for one in found[False] if one.endswith('before " ,"')]
    assert put.startswith('"')
    assert any(one.startswith("in the order ") and not one.endswith(" 3") for one in found[False])


def test_a_token_that_is_not_there_has_no_substitutes(contend: Contend, llm_server: ProgrammableServer) -> None:  # noqa: F811
    asked = {**trial(probe("Anna took 3 ,", " ,"), tool="substitute"), "replace": " zebra"}
    llm_server.mind = Script(trials=[[asked], []])
    [row] = rows_of(contend([NARROW], rounds=1))
    assert row["error"] == "“ zebra” is no token of the text up to “ ,”"


def test_the_first_round_takes_texts_apart_and_asks_no_model(contend: Contend, llm_server: ProgrammableServer) -> None:  # noqa: F811
    llm_server.mind = Script(revisions=[[revision("refine", ["+1"], in_levels(TRUE))]])
    state = contend([NARROW.replace('" 1", ', "")], rounds=1, options={"opening": 2})
    assert [sorted(chat.fields) for chat in llm_server.chats()] == [["revisions"]]
    rows = rows_of(state)
    assert {row["kind"] for row in rows} == {"edit_tokens", "probe"}
    assert all(row["status"] == "done" for row in rows)
    # The rule misses the number 1: a text of that is taken apart, beside one that it is right about.
    read = {row["arguments"]["texts"][0].split()[-2] for row in rows if row["kind"] == "edit_tokens"}
    assert len(read) == 2
    assert "1" in read
    assert Contest.from_json(state["contest"]["+"]).alive[0].parents == ("+1",)


def test_the_model_is_shown_where_a_rule_is_wrong_on_texts(contend: Contend, llm_server: ProgrammableServer) -> None:  # noqa: F811
    wrong = 'rule v1\n6.0 if token in {" the"}\nelse 0.0'
    llm_server.mind = Script(trials=[[ALONE]])
    contend([wrong], rounds=1)
    [revise] = [chat for chat in llm_server.chats() if chat.fields == {"revisions"}]
    title, *lines = revise.sections["MISTAKES"].split("\n")
    assert title == "Of +1:"
    missed = {line.rpartition("«")[2] for line in lines if line.startswith("missed, is active: ")}
    named = {line.rpartition("«")[2] for line in lines if line.startswith("named, is silent: ")}
    assert missed == {" ,»"}
    assert named == {" the»"}


def test_trials_end_when_the_models_own_come_out_as_expected(contend: Contend, llm_server: ProgrammableServer) -> None:  # noqa: F811
    llm_server.mind = Script(trials=[[ALONE], [ALONE], [ALONE]])
    state = contend([TRUE], options={"opening": 1})
    assert [sorted(chat.fields) for chat in llm_server.chats() if "revisions" not in chat.fields] == [["trials"]]
    assert str(Contest.from_json(state["contest"]["+"]).stopped).startswith("decided: one rival is left")
