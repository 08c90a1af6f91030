"""Inputs that a language model makes up for a description in words, with what it expects, before they are run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.predictions.probes import Stock
from agent.predictions.written import EACH, MAX_TOKENS, SUREST, Written, written_inputs
from explainers.llm.kit import LlmKit
from explainers.llm.types import EndpointError
from explainers.types import Explanation
from tests.agent.test_llm_campaign import asked, assert_all_ended, assert_ledger_is_the_bill, rows
from tests.serving import Competent, ProgrammableServer
from tests.serving.chat import Chat
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import unit_activations

NOTHING = Stock((), np.zeros(0, np.int64), (), {}, " ")
WORDS = Explanation("quantiles", "the word “cat”", "Fires on “cat”.", None, None, None, {"scale": 3.0})


class Wordy(Competent):
    """Writes no rules; answers a question for inputs with those that it is given, if any."""

    def __init__(self, inputs: Any = None) -> None:
        super().__init__()
        self.inputs = inputs

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        answer = super().__call__(chat)
        if chat.fields == {"inputs"} and self.inputs is not None:
            return self.inputs if isinstance(self.inputs, str) else {"inputs": self.inputs}
        return {**answer, "rule": None} if "fires_on" in chat.fields and not isinstance(answer, str) else answer


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


def written(text: str, at: str, percent: int = 70, kind: str = "fires") -> dict[str, Any]:
    return {"kind": kind, "text": text, "at": at, "percent": percent}


def test_inputs_are_cut_after_the_quoted_token_and_what_cannot_be_run_is_told(
    subject: Subject, llm_server: ProgrammableServer, llm_kit: LlmKit
) -> None:
    known = subject.encode("we saw a dog")
    llm_server.mind = Wordy([
        written("once a cat sat down", "cat", 100),
        written("once a cat slept", "cat", 20),
        written("only a house", "tree"),
        written("cat", "cat") if len(subject.encode("cat")) == 1 else written("x", "y"),
        written("we saw a dog", "dog", 1, "unrelated"),
        written("no dog came in", "in", 0, "unrelated"),
        written(90 * "so ", "so"),
    ])  # fmt: skip
    held = replace(NOTHING, known=f" {' '.join(map(str, known))} ")
    found = written_inputs(llm_kit, subject, WORDS, held, 0.01)
    assert isinstance(found, Written)
    assert [probe.kind for probe in found.probes] == ["fires", "unrelated"], "the second ends as the first does"
    assert found.probes[0].ids == tuple(subject.encode("once a cat"))
    assert found.probabilities == (SUREST, pytest.approx(1 - SUREST))
    assert any("does not stand in the text" in why for why in found.refused)
    assert any("the corpus has" in why for why in found.refused)
    assert any("tokens; 48 at most" in why for why in found.refused)
    [chat] = llm_server.chats()
    assert "Fires on “cat”" in chat.user
    assert "one token in 100" in chat.user
    assert chat.body.get("max_completion_tokens", chat.body.get("max_tokens")) == MAX_TOKENS


@pytest.mark.parametrize("answer", ["I would rather not.", [], [written("only a house", "tree")]])
def test_a_model_that_writes_nothing_usable_leaves_a_reason(
    subject: Subject, llm_server: ProgrammableServer, llm_kit: LlmKit, answer: Any
) -> None:
    llm_server.mind = Wordy(answer)
    found = written_inputs(llm_kit, subject, WORDS, NOTHING, 0.01)
    assert isinstance(found, str)
    assert found.startswith(("the language model wrote none", "none of the 1 that"))


def predictions(database: Path) -> list[dict[str, Any]]:
    """What was foretold, with the digest on record with the opening, and what the description keeps of it."""
    query = (
        "SELECT i.id AS job, u.unit, e.arguments, s.predictions AS opened, d.polarity, d.details FROM experiments e"
        " JOIN investigations i ON i.id = e.investigation_id JOIN descriptions d ON d.investigation_id = i.id"
        " JOIN units u ON u.id = d.unit_id JOIN openings s ON s.claim = d.claim AND s.polarity = d.polarity"
        " WHERE e.kind = 'predictions' AND d.rank = 1 AND json_extract(e.arguments, '$.polarity') = d.polarity"
    )
    return [
        {**row, "arguments": json.loads(row["arguments"]), "kept": json.loads(row["details"])["predictions"]}
        for row in rows(database, query)
    ]


def test_words_are_held_to_inputs_that_the_model_wrote_before_they_were_run(
    run: Callable[..., Any], llm_server: ProgrammableServer, tmp_path: Path, subject: Subject
) -> None:
    llm_server.mind = Wordy()
    summary, notes = run(**asked(llm_server), units=["mlp:1:0"])
    assert summary.status == "done"
    assert not notes.failed
    database = tmp_path / "ng.db"
    assert_ledger_is_the_bill(database, llm_server)
    calls = rows(database, "SELECT asker, polarity FROM llm_calls WHERE purpose = 'foretell'")
    told = predictions(database)
    assert len(calls) == len(told) >= 1
    assert {call["asker"] for call in calls} == {"predictions"}
    for row in told:
        assert row["opened"] == row["arguments"]["predictions"] == row["kept"]["digest"]
        made = row["arguments"]["constructed"]
        assert made["by"] == f"words, read by {llm_server.model}"
        assert 1 <= len(made["probes"]) <= 4 * EACH
        assert {probe["probability"] for probe in made["probes"]} <= {0.85, 0.1, 0.03}
        values = unit_activations(subject, [UnitId.parse(row["unit"])], [probe["ids"] for probe in made["probes"]])
        sign = 1 if row["polarity"] == "+" else -1
        threshold = json.loads(row["details"])["tail"]["threshold"]
        active = [bool(sign * one[0, -1] > threshold) for one in values]
        assert [probe["active"] for probe in row["kept"]["probes"]] == active
    scores = rows(database, "SELECT predictor, headline FROM scores WHERE metric = 'prediction_brier'")
    assert {(one["predictor"], one["headline"]) for one in scores} == {("words", 0)}


@pytest.mark.slow
def test_predictions_off_asks_nothing(run: Callable[..., Any], llm_server: ProgrammableServer, tmp_path: Path) -> None:
    llm_server.mind = Wordy()
    run(**asked(llm_server), units=["mlp:1:0"], predictions="off")
    assert not rows(tmp_path / "ng.db", "SELECT 1 FROM llm_calls WHERE purpose = 'foretell'")


def test_a_model_that_writes_no_inputs_costs_a_claim_nothing_but_them(
    run: Callable[..., Any], llm_server: ProgrammableServer, tmp_path: Path
) -> None:
    llm_server.mind = Wordy("I would rather not.")
    summary, notes = run(**asked(llm_server), units=["mlp:1:0"])
    assert summary.status == "done"
    assert not notes.failed
    database = tmp_path / "ng.db"
    assert_all_ended(database, 1)
    for row in predictions(database):
        assert row["kept"]["probes"] is None
        assert row["kept"]["unwritten"].startswith("the language model wrote none")
        assert row["kept"]["sealed"]["density"], "the rest is foretold"


@pytest.mark.slow
def test_a_model_that_is_gone_stops_the_campaign_which_then_goes_on(
    run: Callable[..., Any], llm_server: ProgrammableServer, tmp_path: Path
) -> None:
    class Gone(Wordy):
        def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
            if chat.fields == {"inputs"}:
                llm_server.dies_after = 0
            return super().__call__(chat)

    settings = asked(llm_server, timeout=3.0, retries=1)
    llm_server.mind = Gone()
    with pytest.raises(EndpointError):
        run(**settings, units=["mlp:1:0-2"])
    llm_server.stop()
    llm_server.mind, llm_server.dies_after = Wordy(), None
    llm_server.start()
    summary, notes = run(**settings, units=["mlp:1:0-2"])
    assert summary.status == "done"
    assert not notes.failed
    assert all(row["kept"]["probes"] for row in predictions(tmp_path / "ng.db"))
