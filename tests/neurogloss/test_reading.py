"""The verbs that read the database: campaign list and show, units, show, search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

Run = Callable[..., Any]


def is_safe(text: str) -> bool:
    """Whether nothing in it would act on a terminal."""
    return all(c == "\n" or c.isprintable() for c in text)


READING = [
    ["campaign", "list"],
    ["campaign", "show", "first"],
    ["units"],
    ["units", "mlp:*:*", "--sort", "f1"],
    ["units", "--state", "dead"],
    ["show", "mlp:2:17"],
    ["show", "mlp:2:20"],
    ["show", "mlp:2:19"],
    ["show", "mlp:1:5"],
    ["show", "head:0:3", "--campaign", "first", "--subject", "tiny"],
    ["show", "sae:res:1234", "--examples", "1"],
    ["search", "article nouns"],
    ["search", "[red]"],
    ["search", "nothing like it xyzzy"],
]


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_pages_fit_80_columns_and_send_nothing_to_the_terminal(run: Run, example_db: Path, args: list[str]) -> None:
    answer = run(*args, "--db", example_db)
    assert answer.code == 0, answer.err
    assert answer.out.strip()
    assert answer.err == ""
    too_long = [line for line in answer.out.splitlines() if cell_len(line) > 80]
    assert not too_long
    assert is_safe(answer.out)


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_json_is_all_that_is_printed(run: Run, example_db: Path, args: list[str]) -> None:
    answer = run(*args, "--json", "--db", example_db)
    assert answer.code == 0, answer.err
    json.loads(answer.out)
    assert answer.out.isascii()
    assert is_safe(answer.out)


def test_shared_options_are_taken_before_and_after_the_verb(run: Run, example_db: Path, tmp_path: Path) -> None:
    after = run("campaign", "list", "--json", "--db", example_db)
    before = run("--json", "--db", example_db, "campaign", "list")
    assert before == after
    assert json.loads(before.out)[0]["campaign"] == "first"
    later_wins = run("--db", tmp_path / "none.db", "campaign", "list", "--db", example_db, "--json")
    assert later_wins == after


def test_the_database_comes_from_the_environment_too(
    run: Run, example_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROGLOSS_DB", str(example_db))
    assert json.loads(run("units", "--json").out)


def test_show_holds_all_that_a_reader_needs(run: Run, example_db: Path) -> None:
    page = run("show", "mlp:2:17", "--db", example_db).out
    for part in (
        "mlp:2:17", "neuron 17 of layer 2", "tiny", "0.42 %", "✔ supported", "✘ refuted", "~ inconclusive",
        "0.81 [0.73, 0.87]", "0.41 [0.33, 0.47]", "F1", "average precision", "Pearson", "█", "▲1.5", "«·the»",
        "[red]", "␛[2J", "Strongest examples, negative side", "campaign 'first'", "pattern", "2 rivals",
        "2 experiments", "12,500", "90", "tiny.jsonl", "cat",
    ):  # fmt: skip
        assert part in page, part
    assert "previous 0.80 (uniform 0.10)" in run("show", "head:0:3", "--db", example_db).out


def test_show_says_why_there_is_no_description(run: Run, example_db: Path) -> None:
    assert "never active on 10 000 tokens" in run("show", "mlp:2:20", "--db", example_db).out
    failed = run("show", "mlp:2:19", "--db", example_db).out
    assert "failed" in failed
    assert "no [bold]tail[/bold] ␛[31m here" in " ".join(failed.split())
    assert "pending" in run("show", "mlp:1:5", "--db", example_db).out


def test_show_in_json_has_every_row(run: Run, example_db: Path) -> None:
    page = json.loads(run("show", "mlp:2:17", "--db", example_db, "--json").out)
    assert set(page) == {
        "unit", "statistics", "profile", "corpus", "descriptions", "investigations", "shown", "hypotheses",
        "experiments", "examples", "openings",
    }  # fmt: skip
    assert page["unit"]["unit"] == "mlp:2:17"
    assert [d["polarity"] for d in page["descriptions"]] == ["+", "-"]
    assert page["examples"][0]["tokens"][1] == "\x1b[2J"


def test_colour_is_used_where_it_is_wanted_and_nowhere_else(
    run: Run, example_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = run("show", "mlp:2:17", "--db", example_db).out
    assert "\x1b[" in coloured
    assert "\x1b[2J" not in coloured
    assert "«" not in coloured
    for plain in (run("show", "mlp:2:17", "--db", example_db, "--no-color").out,):
        assert "«·the»" in plain
        assert "\x1b[38" not in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "«·the»" in run("show", "mlp:2:17", "--db", example_db).out


def test_units_are_filtered_and_sorted(run: Run, example_db: Path) -> None:
    def listed(*args: str) -> list[str]:
        rows = json.loads(run("units", *args, "--json", "--db", example_db).out)
        return [f"{row['unit']}{row['polarity']}" for row in rows]

    assert listed() == ["sae:res:1234+", "mlp:2:17+", "head:0:3+", "mlp:2:17-", "mlp:2:18+"]
    assert listed("mlp:*:*") == ["mlp:2:17+", "mlp:2:17-", "mlp:2:18+"]
    assert listed("head:*:*;sae:res:*", "--sort", "unit") == ["head:0:3+", "sae:res:1234+"]
    assert listed("--min-f1", "0.6") == ["sae:res:1234+", "mlp:2:17+"]
    assert listed("--verdict", "refuted") == ["mlp:2:17-", "mlp:2:18+"]
    assert listed("--kind", "head") == ["head:0:3+"]
    assert listed("--limit", "1") == ["sae:res:1234+"]
    assert listed("mlp:*:*", "--limit", "1") == ["mlp:2:17+"]
    assert listed("--campaign", "first", "--layer", "2")[0] == "sae:res:1234+"


def test_campaign_show_counts_verdicts_failures_and_budget(run: Run, example_db: Path) -> None:
    page = run("campaign", "show", "first", "--db", example_db).out
    for part in (
        "campaign first, open", "5 units of 50", "neurons", "heads", "latents", "all", "Failed: 1", "mlp:2:19",
        "ValueError in step 'propose'", "Skipped by triage: 1 dead", "Best-supported descriptions", "0.93 [0.85, 0.99]",
    ):  # fmt: skip
        assert part in page, part
    assert f"--db {example_db} campaign resume first" in " ".join(page.split())  # a long path wraps
    told = json.loads(run("campaign", "show", "first", "--db", example_db, "--json").out)
    assert told["summary"]["campaign"]["failed"] == 1
    assert told["best"][0]["unit"] == "sae:res:1234"


def test_search_finds_words_and_says_where(run: Run, example_db: Path) -> None:
    hits = json.loads(run("search", "animals", "--db", example_db, "--json").out)
    assert {hit["field"] for hit in hits} == {"output_half"}
    assert "animals" in run("search", "animals", "--db", example_db).out
    nothing = run("search", "xyzzy", "--db", example_db)
    assert (nothing.code, "No description matches" in nothing.out) == (0, True)
    assert json.loads(run("search", "xyzzy", "--json", "--db", example_db).out) == []
