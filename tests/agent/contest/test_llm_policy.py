"""The policy that asks a language model: what it is shown, what its answers become, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent.contest.llm.probing import PROBES, TOKENS
from agent.contest.types import Contest
from agent.investigation import build_graph, investigate
from agent.state import State
from explainers.llm.kit import LlmKit
from explainers.llm.types import MemoryAccount
from tests.agent.contest.test_contest import BROAD, NARROW, TRUE, UNIT
from tests.serving import Chat, Competent, Faults, ProgrammableServer


@dataclass
class Script(Competent):
    """Answers requests for trials and revisions from lists, and all others as a competent mind."""

    trials: list[Any] = field(default_factory=list)
    revisions: list[Any] = field(default_factory=list)

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        for name in ("trials", "revisions"):
            if chat.fields == {name}:
                answers = getattr(self, name)
                return {name: answers.pop(0) if answers else []}
        return super().__call__(chat)


def probe(text: str, at: str, **percent: int) -> dict[str, Any]:
    """A probe with what '+1', '+2' … expect, given as `one`, `two`."""
    keys = {"one": "+1", "two": "+2", "three": "+3", "nine": "+9"}
    return {"text": text, "at": at, "active": [{"rival": keys[k], "percent": p} for k, p in percent.items()]}


def trial(*probes: dict[str, Any], tool: str = "probe", rivals: Sequence[str] = (), question: str = "Which?") -> Any:
    return {"question": question, "tool": tool, "probes": list(probes), "rivals": list(rivals), "surprise": 20}


ALONE = trial(*(probe(text, at, one=5) for text, at in (("Anna took 3 ;", " ;"), ("he sold 20 :", " :"))))
GOOD = trial(
    probe("Anna took 3 ;", " ;", one=5, two=95), probe("he sold 20 :", " :", one=5, two=95),
    probe("it was 8 ;", " ;", one=5, two=95), probe("the dog ,", " ,", one=5, two=5),
)  # fmt: skip

Contend = Callable[..., State]


@pytest.fixture
def contend(arena: Any, llm_kit: LlmKit) -> Contend:
    """An investigation with the policy and the kit of the programmable server."""

    def go(rules: Sequence[str], **contest: Any) -> State:
        options = {"opening": 0, **contest.pop("options", {})}
        desk = arena.desk(UNIT, rules, policy="llm", options=options, **contest)
        desk.bench = replace(desk.bench, kit=llm_kit)
        return investigate(build_graph(InMemorySaver()), desk, UNIT)

    return go


def rows_of(state: State) -> list[dict[str, Any]]:
    return [row for row in state["experiments"] if "contest" in row["arguments"]]


def test_the_models_own_texts_drop_the_wrong_rival(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[GOOD]])
    state = contend([NARROW, TRUE])
    narrow, true = Contest.from_json(state["contest"]["+"]).rivals
    assert (narrow.status, true.status) == ("dropped", "alive")
    [row] = rows_of(state)
    assert row["arguments"]["texts"] == ["Anna took 3 ;", "he sold 20 :", "it was 8 ;", "the dog ,"]
    assert row["arguments"]["positions"] == [4, 4, 4, 3]
    # Rules are what is tested here, and so rules say what is expected, whatever the model makes of them.
    assert [one["data"]["expected"] for one in row["observations"][1:]] == [
        [0.05, 0.05, 0.05, 0.05], [0.95, 0.95, 0.95, 0.05],
    ]  # fmt: skip


def test_the_model_sees_rivals_weights_and_what_came_with_its_sign(
    contend: Contend, llm_server: ProgrammableServer
) -> None:
    llm_server.mind = Script(trials=[[trial(probe("Anna took 3 ;", " ;", one=5, two=95))], []])
    contend([NARROW, BROAD])
    first, second = [chat for chat in llm_server.chats() if chat.fields == {"trials"}][:2]
    assert first.sections["WEIGHTS"] == "+1 50%, +2 50%"
    assert "RESULTS" not in first.sections
    assert first.sections["RIVALS"].startswith("+1: a rule\n    rule v1\n")
    assert "\n+2: " in first.sections["RIVALS"]
    assert first.sections["FIT"].startswith("+1 catches ")
    assert first.texts()[0].marked
    # It is silent there for the narrow rule: what came was active.
    lines = second.sections["RESULTS"].split("\n")
    assert lines[0] == "[1]  Anna took 3« ;»"
    assert lines[1].strip().startswith("came: +")
    assert lines[1].endswith("active; expected: +1 5 %, +2 95 %")
    assert second.sections["WEIGHTS"] == "+1 5%, +2 95%"
    assert first.system == second.system


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (trial(probe("a 3 ;", " ;"), tool="run_code"), "there is no tool 'run_code'"),
        (trial(probe("Anna took 3 ;", " zebra")), "“ zebra” does not stand in the text"),
        (trial(probe("word " * (TOKENS + 9), "word")), f"{TOKENS - 1} at most"),
        (trial(probe("Anna took 3 ;", " ;", nine=50)), "there is no rival +9"),
        (trial(*[probe("Anna took 3 ;", " ;")] * (PROBES + 1)), f"1 to {PROBES} are run"),
        (trial(tool="disagreements", rivals=["+1"]), "takes two rivals"),
        (trial(tool="disagreements", rivals=["+1", "+9"]), "there is no rival +9"),
        (trial(tool="edit_tokens"), "edit_tokens takes one"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_told_back_once_and_then_a_failed_row(
    contend: Contend, llm_server: ProgrammableServer, wrong: Any, told: str
) -> None:
    llm_server.mind = Script(trials=[[{**wrong, "question": "Wrong?"}], [{**wrong, "question": "Still wrong?"}]])
    state = contend([NARROW, TRUE], rounds=1)
    repair = [chat for chat in llm_server.chats() if chat.fields == {"trials"}][1]
    assert told in repair.body["messages"][-1]["content"]
    assert "“Wrong?”" in repair.body["messages"][-1]["content"]
    [row] = rows_of(state)
    assert row["status"] == "failed"
    assert told in row["error"]
    assert row["arguments"]["contest"]["question"] == "Still wrong?"
    assert state["verdicts"]["+"]


def test_a_wrong_trial_beside_one_that_can_be_run_costs_no_further_prompt(
    contend: Contend, llm_server: ProgrammableServer
) -> None:
    wrong = trial(probe("Anna took 3 ;", " zebra"), question="Is it a zebra?")
    llm_server.mind = Script(trials=[[wrong, GOOD]])
    state = contend([NARROW, TRUE], rounds=1)
    assert [row["status"] for row in rows_of(state)] == ["failed", "done"]
    assert [chat.repairs for chat in llm_server.chats() if chat.fields == {"trials"}] == [False]


def test_a_probe_that_cannot_be_read_is_left_out_and_the_others_are_read(
    contend: Contend, llm_server: ProgrammableServer
) -> None:
    mixed = trial(probe("Anna took 3 ;", " zebra"), probe("Anna took 3 ;", " ;"))
    llm_server.mind = Script(trials=[[mixed], []])
    state = contend([NARROW, BROAD])
    [row] = rows_of(state)
    assert (row["status"], row["arguments"]["texts"]) == ("done", ["Anna took 3 ;"])
    last = [chat for chat in llm_server.chats() if chat.fields == {"trials"}][-1]
    assert "not run: “ zebra” does not stand in the text" in last.sections["RESULTS"]


def test_what_is_put_right_is_run(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[trial(probe("Anna took 3 ;", " zebra"))], [GOOD]])
    state = contend([NARROW, TRUE], rounds=1)
    [row] = rows_of(state)
    assert row["status"] == "done"


def test_failed_trials_are_told_to_the_model(contend: Contend, llm_server: ProgrammableServer) -> None:
    wrong = trial(probe("Anna took 3 ;", " zebra"), question="Is it a zebra?")
    llm_server.mind = Script(trials=[[wrong, GOOD], [wrong], []])
    contend([NARROW, BROAD])
    last = [chat for chat in llm_server.chats() if chat.fields == {"trials"}][-1]
    assert "not run: “Is it a zebra?”: “ zebra” does not stand in the text" in last.sections["RESULTS"]


def test_an_endpoint_that_answers_nothing_usable_ends_the_contest_and_not_the_investigation(
    contend: Contend, llm_server: ProgrammableServer
) -> None:
    llm_server.faults = Faults(1.0, ("ignores schema", "empty", "refusal"))
    state = contend([NARROW, TRUE])
    contest = Contest.from_json(state["contest"]["+"])
    assert contest.stopped is not None
    assert contest.stopped.startswith("futile")
    rows = rows_of(state)
    assert {row["status"] for row in rows} == {"failed"}
    assert all("No usable answer" in row["error"] for row in rows)
    assert state["verdicts"]["+"]["input"]


def test_edits_come_back_to_the_model(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[trial(probe("Anna took 3 ,", " ,"), tool="edit_tokens")], []])
    state = contend([NARROW, TRUE])
    [row] = rows_of(state)
    assert (row["kind"], row["status"]) == ("edit_tokens", "done")
    [revise] = [chat for chat in llm_server.chats() if chat.fields == {"revisions"}]
    assert "[1]  Anna took 3« ,»\n    came: +" in revise.sections["RESULTS"]
    # The unit needs the number and the comma: both stand among what takes its activation away.
    edited = revise.sections["RESULTS"].split("in the place of: ")[1].split(", ")
    assert '" 3" +0' in edited[:2]


def test_disagreements_of_rules_are_looked_up_in_the_corpus(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[trial(tool="disagreements", rivals=["+1", "+2"])], []])
    state = contend([TRUE, BROAD])
    [row] = rows_of(state)
    assert (row["kind"], row["status"]) == ("probe", "done")
    assert 1 <= len(row["arguments"]["texts"]) <= PROBES
    true, broad = row["observations"][1:]
    assert all((p > 0.5) != (q > 0.5) for p, q in zip(true["data"]["expected"], broad["data"]["expected"], strict=True))
    assert (true["outcome"], broad["outcome"]) == ("supported", "refuted")


def revision(kind: str, rivals: Sequence[str], *rules: str | None, label: str = "a better one") -> dict[str, Any]:
    said = [{"label": f"{label} {i}", "fires_on": f"Fires {i}.", "exceptions": None, "rule": r}
            for i, r in enumerate(rules)]  # fmt: skip
    return {"kind": kind, "rivals": list(rivals), "reason": "by result 1", "descriptions": said}


def in_levels(rule: str) -> str:
    """As a model writes it, whose strongest level is 10."""
    return rule.replace("6.0", "9")


def test_a_refined_rival_is_asserted(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[ALONE]], revisions=[[revision("refine", ["+1"], in_levels(TRUE))]])
    state = contend([NARROW])
    old, new = Contest.from_json(state["contest"]["+"]).rivals
    assert (old.status, old.why) == ("refined", "by result 1")
    assert (new.origin, new.parents, new.status) == ("refined", ("+1",), "alive")
    assert state["chosen"]["+"] == 1
    assert state["claims"]["+"]["label"] == "a better one 0"
    assert state["claims"]["+"]["details"]["prompt"]["name"] == "contest-revise"
    assert state["verdicts"]["+"]["input"] == "supported"


@pytest.mark.parametrize(
    ("kind", "rivals", "rules", "origin", "first"),
    [
        ("split", ["+1"], (NARROW.replace(" ,", " ;"), BROAD), "split", "split"),
        ("merge", ["+1", "+2"], (TRUE,), "merged", "merged"),
        ("new", [], (BROAD,), "llm", "alive"),
    ],
)  # fmt: skip
def test_each_kind_of_revision_is_done(
    contend: Contend, llm_server: ProgrammableServer, kind: str, rivals: list[str], rules: tuple[str, ...],
    origin: str, first: str,
) -> None:  # fmt: skip
    asked = trial(probe("Anna took 3 ;", " ;", one=5, two=5), probe("it was 8 .", " .", one=5, two=5))
    llm_server.mind = Script(trials=[[asked]], revisions=[[revision(kind, rivals, *map(in_levels, rules))]])
    other = NARROW.replace('{" ,"}', '{" :"}')
    state = contend([NARROW, other], rounds=1)
    contest = Contest.from_json(state["contest"]["+"])
    old, added = contest.rivals[:2], contest.rivals[2:]
    assert old[0].status == first
    assert [(rival.origin, list(rival.parents)) for rival in added] == [(origin, rivals)] * len(rules)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (revision("refine", ["+7"], TRUE), "there is no rival +7"),
        (revision("refine", ["+1"]), "'refine' takes 1 descriptions, not 0"),
        (revision("split", ["+1"], TRUE), "'split' takes 2 to 4 descriptions, not 1"),
        (revision("refine", ["+1"], "rule v1\n9 if magic\nelse 0"), "the rule of “a better one 0” is none"),
        (revision("new", [], None), "has no rule, and here rules are what is tested"),
        (revision("drop", ["+1"]), "+1 has most weight"),
        (revision("refine", ["+1"], BROAD), "on texts of the corpus the rule of “a better one 0” does worse than that"),
    ],
)
def test_a_revision_that_cannot_be_done_is_told_back_once_and_left_out(
    contend: Contend, llm_server: ProgrammableServer, wrong: Any, told: str
) -> None:
    llm_server.mind = Script(trials=[[ALONE]], revisions=[[wrong], [wrong]])
    state = contend([NARROW], rounds=1)
    first, second = [chat for chat in llm_server.chats() if chat.fields == {"revisions"}]
    assert not first.repairs
    assert told in second.body["messages"][-1]["content"]
    assert [rival.status for rival in Contest.from_json(state["contest"]["+"]).rivals] == ["alive"]


def test_nothing_is_asked_about_results_that_were_expected(contend: Contend, llm_server: ProgrammableServer) -> None:
    llm_server.mind = Script(trials=[[ALONE]])
    contend([TRUE])
    assert not [chat for chat in llm_server.chats() if chat.fields == {"revisions"}]


def test_a_competent_model_tells_rivals_apart_by_itself(contend: Contend, llm_server: ProgrammableServer) -> None:
    state = contend([NARROW, TRUE])
    rows = rows_of(state)
    assert rows
    assert {row["status"] for row in rows} == {"done"}, [row["error"] for row in rows]
    told = json.dumps([chat.body for chat in llm_server.chats()])
    assert "RESULTS" in told


def test_calls_are_charged_and_the_prompts_are_the_kits(
    contend: Contend, llm_server: ProgrammableServer, llm_account: MemoryAccount
) -> None:
    llm_server.mind = Script(trials=[[ALONE]], revisions=[[revision("refine", ["+1"], in_levels(TRUE))]])
    contend([NARROW])
    assert {call.purpose for call in llm_account.calls} == {"trials", "revise"}
    assert sum(call.usage.prompt_tokens for call in llm_account.calls) == llm_server.billed.prompt_tokens
