"""What verbs that run a model share: which model, texts and pairs, and where pictures go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurogloss.cli.model import Choice, ModelCall, only, pairs_of, picture, texts_of
from neurogloss.cli.options import Call, Shared
from neurogloss.errors import UsageError

Run = Callable[..., Any]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def chosen(**shared: Any) -> tuple[str, dict[str, str]]:
    return ModelCall(Shared(**shared), Choice(None, {"mine": "folder"}, "auto", "auto"))._which("mlp:2:17")


def test_the_model_is_that_of_the_campaign_that_studied_the_unit(example_db: Path, tmp_path: Path) -> None:
    assert chosen(db=str(example_db)) == ("tiny", {"mine": "folder"})
    assert chosen(db=str(tmp_path / "none.db")) == ("pycode", {"mine": "folder"})
    given = ModelCall(Shared(db=str(example_db)), Choice("gpt2", {}, "auto", "auto"))
    assert given._which("mlp:2:17") == ("gpt2", {})


def test_texts_come_from_options_and_files(tmp_path: Path) -> None:
    plain = tmp_path / "one.txt"
    plain.write_text("two\nlines\n")
    assert texts_of(["a", "b"], plain) == ["a", "b", "two\nlines\n"]
    assert texts_of(None, lines(tmp_path / "t.jsonl", {"text": "x", "id": 1}, "", {"text": "y"})) == ["x", "y"]
    assert texts_of(None) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"words": "x"}], ["Line 1", "text"]),
        ([{"text": "x"}, "{"], ["Line 2", "JSON"]),
        ([[1]], ["Line 1", "object"]),
        ([""], ["nothing"]),
        ([{"text": " "}], ["empty"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_texts_that_is_none_is_told_by_its_line(tmp_path: Path, rows: list[Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        texts_of(None, lines(tmp_path / "t.jsonl", *rows))
    assert all(word in str(error.value) for word in words), error.value


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        texts_of(None, path)


def test_pairs_come_from_options_or_a_task_file(tmp_path: Path) -> None:
    call = Call(Shared())
    (one,) = pairs_of(call, None, clean="a b", corrupt="c d", answer=" x")
    assert (one.clean, one.corrupt, one.answer, one.wrong) == ("a b", "c d", " x", None)
    task = lines(tmp_path / "t.jsonl", {"clean": "a", "corrupt": "b", "answer": "x", "wrong": "y"}, {"clean": "c"})
    assert [pair.clean for pair in pairs_of(call, task)] == ["a", "c"]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (None, {}, ["--clean", "--task"]),
        ([{"clean": "a"}], {"answer": "x"}, ["--task", "--answer"]),
        ([{"clean": "a"}, {"corrupt": "b"}], {}, ["Line 2", "clean"]),
        ([{"clean": "a", "clear": "b"}], {}, ["Line 1", "clear"]),
        ([{"clean": ""}], {}, ["Line 1", "clean"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_pair_is_told(tmp_path: Path, rows: Any, options: dict[str, str], words: list[str]) -> None:
    task = None if rows is None else lines(tmp_path / "t.jsonl", *rows)
    with pytest.raises(UsageError) as error:
        pairs_of(Call(Shared()), task, **options)
    assert all(word in str(error.value) for word in words), error.value


def test_a_picture_has_a_known_ending_and_a_folder(tmp_path: Path) -> None:
    assert picture(None) is None
    assert picture(tmp_path / "a.PNG") == tmp_path / "a.PNG"
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        picture(tmp_path / "a.pdf")
    with pytest.raises(UsageError, match="no folder"):
        picture(tmp_path / "none" / "a.svg")


def test_commands_are_listed_in_the_order_of_their_use(run: Run) -> None:
    told = run("--help")
    places = [told.out.index(f"│ {name} ") for name in ("campaign", "units", "doctor", "activate")]
    assert places == sorted(places)
    assert "Run the model" in told.out


def test_options_that_mean_nothing_are_refused() -> None:
    only("a --text", plot=None, middle=False, layer=[])
    with pytest.raises(UsageError, match="--top-k is for a --text"):
        only("a --text", top_k=3, plot=None)
    with pytest.raises(UsageError, match="--plot and --layer are for a --text"):
        only("a --text", plot=Path("a.png"), layer=[0])
