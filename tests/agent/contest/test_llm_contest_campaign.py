"""Campaigns whose rivals are told apart by a language model, which writes the descriptions as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agent.test_llm_campaign import asked, assert_all_ended, assert_ledger_is_the_bill, rows
from tests.serving import ProgrammableServer

CONTEST = {"contest": {"policy": "llm", "rounds": 2, "options": {"opening": 0}}, "explainer_options": {"n": 2}}


def test_words_are_told_apart_by_what_the_model_files_for_them(
    run: Callable[..., Any], llm_server: ProgrammableServer, tmp_path: Path
) -> None:
    summary, notes = run(**asked(llm_server), **CONTEST, units=["mlp:1:0-3"])
    database = tmp_path / "ng.db"
    assert summary.status == "done"
    assert not notes.failed
    assert_all_ended(database, 4)
    assert_ledger_is_the_bill(database, llm_server)
    calls = rows(database, "SELECT asker, polarity, purpose FROM llm_calls WHERE purpose IN ('trials', 'revise')")
    assert calls
    assert {call["asker"] for call in calls} == {"contest:llm"}
    assert {call["polarity"] for call in calls} <= {"+", "-"}
    told = [
        json.loads(row["data"]).get("expected")
        for row in rows(
            database,
            "SELECT o.data FROM observations o JOIN experiments e ON e.id = o.experiment_id JOIN hypotheses h"
            " ON h.id = o.hypothesis_id WHERE e.kind = 'probe' AND e.status = 'done'",
        )
    ]
    # Nobody reads words again to know what they expect: it is filed with the trial.
    assert told
    assert {percent for row in told for percent in row} == {0.1, 0.9}
    assert not rows(database, "SELECT 1 FROM llm_calls WHERE purpose = 'predict' AND asker = 'contest:llm'")
