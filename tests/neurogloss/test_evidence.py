"""``neurogloss evidence``: the notebook, rows withdrawn and put back, verdicts checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.cells import cell_len

import store
from agent.judging import judge
from store import schema
from store.records import (
    DescriptionRecord,
    HypothesisRecord,
    InvestigationResult,
    ScoreRecord,
    SubjectRecord,
    UnitRecord,
)

Run = Callable[..., Any]


@pytest.fixture
def judged_db(tmp_path: Path) -> Path:
    """A campaign with one claim that its F1 supports."""
    path = tmp_path / "judged.db"
    with store.open_database(path) as db:
        subject = store.register_subject(db, SubjectRecord("tiny", "f00d"))
        campaign = store.create_campaign(
            db, "first", {"subject": "tiny", "units": ["mlp:0:1"]}, "hash", subject_id=subject
        )
        store.add_investigations(db, campaign.id, subject, ["mlp:0:1"])
        job = store.lease_next(db, campaign.id, "test", 60)
        assert job is not None
        score = ScoreRecord(
            "weighted_f1", "score", "rule", "p1", 0.8, low=0.7, high=0.9, n_examples=500, n_documents=90,
            null_mean=0.05, p_value=0.001, headline=True,
        )  # fmt: skip
        details = {
            "explainer": {}, "scores": [{"metric": "weighted_f1", "scorer": "simulation", "n_active": 9, "reason": None,
                                         "nulls": []}],
            "verdict": {"input": "supported", "output": "untested", "reasons": ["it reaches 0.5"],
                        "output_reasons": ["it claims nothing about the output"]},
        }  # fmt: skip
        store.finish(
            db,
            job,
            InvestigationResult(
                UnitRecord("mlp:0:1"),
                hypotheses=[HypothesisRecord("+1", "+", "pattern", "x", "y", status="supported")],
                descriptions=[
                    DescriptionRecord(
                        "+", "x", "y", "pattern", "c1", verdict_input="supported", hypothesis="+1", scores=[score],
                        details=details,
                    )
                ],
            ),
        )  # fmt: skip
    return path


@pytest.mark.parametrize("options", [(), ("--full",), ("--polarity", "-")])
def test_the_notebook_fits_80_columns_and_sends_nothing_untrusted(
    run: Run, example_db: Path, options: tuple[str, ...]
) -> None:
    answer = run("evidence", "mlp:2:17", "--db", example_db, *options)
    assert answer.code == 0
    assert max(cell_len(line) for line in answer.out.splitlines()) <= 80
    assert "\x1b" not in answer.out
    assert "␛[2J" in answer.out


def test_the_notebook_tells_rows_by_their_names_in_the_order_in_which_they_came(run: Run, example_db: Path) -> None:
    out = run("evidence", "mlp:2:17", "--polarity", "+", "--db", example_db).out
    places = [out.index(word) for word in ("H1 ", "H2 ", "E1 ", "O1 ", "failed: the text is empty", "D1 ", "S1 ")]
    assert places == sorted(places)
    assert "0.81 [0.73, 0.87], null 0.05, p 0.0005" in out
    assert "D2 " not in out  # of the other side


def test_the_notebook_as_json_has_the_rows_whole(run: Run, example_db: Path) -> None:
    told = json.loads(run("evidence", "mlp:2:17", "--db", example_db, "--json").out)
    [work] = told["work"]
    assert [len(row["observations"]) for row in work["experiments"]] == [1, 0]
    assert work["descriptions"][0]["scores"][0]["value"] == 0.81


def test_what_was_never_investigated_says_so(run: Run, example_db: Path) -> None:
    failed = run("evidence", "mlp:2:19", "--db", example_db)
    assert failed.code == 0
    assert "failed: ValueError in step 'propose'" in failed.out
    unknown = run("evidence", "mlp:9:9", "--db", example_db)
    assert (unknown.code, unknown.out) == (2, "")
    assert "There is no unit mlp:9:9" in unknown.err
    side = run("evidence", "mlp:2:17", "--polarity", "x", "--db", example_db)
    assert (side.code, side.err.strip()) == (2, "--polarity is + or -, not 'x'.")


def test_the_verdict_flips_wherever_it_is_shown_and_back(run: Run, judged_db: Path) -> None:
    done = run("evidence", "invalidate", "S1", "--reason", "wrong [red] corpus \x1b[2J", "--db", judged_db)
    assert done.code == 0
    assert "mlp:0:1+ fires on: supported → untested" in done.out
    assert "\x1b" not in done.out
    for command in (("show", "mlp:0:1"), ("units", "--json"), ("campaign", "show", "first"), ("evidence", "mlp:0:1")):
        shown = run(*command, "--db", judged_db)
        assert shown.code == 0
        counted = re.search(r"neurons +1 +1 +0 +0 +0 +0 +1", shown.out)  # a claim, untested
        assert "untested" in shown.out or counted, command
        assert "✔ supported" not in shown.out.partition("✔ supported,")[0]  # which is the legend
    notebook = " ".join(run("evidence", "mlp:0:1", "--db", judged_db).out.split())
    assert "withdrawn: wrong [red] corpus ␛[2J" in notebook
    assert "weighted_f1 was withdrawn (score:1)" in " ".join(run("show", "mlp:0:1", "--db", judged_db).out.split())
    hits = json.loads(run("search", "x", "--db", judged_db, "--json").out)
    assert [hit["description"]["verdict_input"] for hit in hits] == ["untested"]
    page = json.loads(run("units", "--db", judged_db, "--json").out)
    assert [(row["verdict_input"], row["f1"]) for row in page] == [("untested", None)]
    again = run("evidence", "invalidate", "score:1", "--reason", "twice", "--db", judged_db)
    assert (again.code, "is withdrawn already" in again.err) == (2, True)
    back = run("evidence", "reinstate", "S1", "--reason", "it was right", "--db", judged_db, "--json")
    assert [change["after"] for change in json.loads(back.out)["changes"]] == ["supported"]
    assert "✔ supported" in run("show", "mlp:0:1", "--db", judged_db).out


def test_a_row_is_named_or_the_names_are_told(run: Run, judged_db: Path) -> None:
    answer = run("evidence", "invalidate", "seven", "--reason", "x", "--db", judged_db)
    assert answer.code == 2
    assert "'seven' names no row" in answer.err
    other = run("evidence", "invalidate", "D1", "--reason", "x", "--db", judged_db)
    assert other.code == 2
    assert "description:1 is no evidence" in other.err


def test_checking_ends_with_1_where_something_does_not_follow(run: Run, judged_db: Path) -> None:
    same = run("evidence", "check", "first", "--db", judged_db)
    assert (same.code, "Everything follows from the rows: 1 claims" in same.out) == (0, True)
    with store.open_database(judged_db) as db, db.transaction() as session:
        session.execute(sa.delete(schema.Score))
    found = run("evidence", "check", "first", "--db", judged_db)
    assert found.code == 1
    assert "mlp:0:1+ description:1 verdict_input: stored supported, follows" in " ".join(found.out.split())
    assert json.loads(run("evidence", "check", "first", "--db", judged_db, "--json").out)["same"] is False
    assert run("evidence", "check", "first", "--write", "--db", judged_db).code == 1
    assert run("evidence", "check", "first", "--db", judged_db).code == 0
    assert run("evidence", "check", "nonesuch", "--db", judged_db).code == 2


def test_help_teaches_both_ways(run: Run) -> None:
    shown = run("evidence", "--help")
    assert shown.code == 0
    for words in ("neurogloss evidence mlp:2:17", "evidence invalidate S7", "evidence check demo"):
        assert words in shown.out
    assert "--full" in run("evidence", "of", "--help").out


def test_the_chat_and_the_report_tell_the_verdict_as_it_is_now(run: Run, judged_db: Path) -> None:
    with store.open_database(judged_db) as db:
        store.close_campaign(db, 1, partial(judge, closing=True))
    assert "fires on: supported" in run("chat", "/why mlp:0:1", "--db", judged_db).out
    assert run("evidence", "invalidate", "S1", "--reason", "wrong corpus", "--db", judged_db).code == 0
    why = run("chat", "/why mlp:0:1", "--db", judged_db).out
    assert "fires on: untested" in why
    assert "was withdrawn: wrong corpus" in " ".join(why.split())
    assert "[score:1]" not in why  # it is shown nowhere as a result
    report = json.loads(run("campaign", "report", "first", "--format", "json", "--db", judged_db).out)
    assert (report["errors"]["tested"], report["errors"]["accepted"]) == (1, 0)
