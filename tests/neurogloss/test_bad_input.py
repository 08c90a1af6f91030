"""What people get wrong: one clear message each on standard error, status 2, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import store

Run = Callable[..., Any]


def check(answer: Any, *words: str) -> None:
    """Status 2, and a message of one to three lines with these words in it."""
    lines = [line for line in answer.err.splitlines() if line.strip() and not line.endswith("…")]
    assert answer.code == 2, answer.err
    assert 1 <= len(lines) <= 3, answer.err
    assert answer.out == ""
    for word in words:
        assert word in answer.err, answer.err


@pytest.fixture
def plan(tiny_gpt2_folder: Path, tiny_corpus_file: Path) -> dict[str, str]:
    return {"--subject": str(tiny_gpt2_folder), "--corpus": str(tiny_corpus_file), "--units": "mlp:1:0-3"}


def flat(plan: dict[str, str], **changes: str) -> list[str]:
    merged = {**plan, **{f"--{name}": value for name, value in changes.items()}}
    return [part for pair in merged.items() for part in pair]


VERBS = [("index", "build"), ("campaign", "run")]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"units": "mlp:one:2"}, ["one"]),
        ({"units": "cat:1:2"}, ["cat:1:2", "mlp:"]),
        ({"units": "mlp:7:*"}, ["mlp:7:*", "0-2"]),
        ({"units": "mlp:1:64"}, ["mlp:1:64", "0-63"]),
        ({"units": "sae:none:*"}, ["none"]),
        ({"subject": "./no-such-folder"}, ["no-such-folder"]),
        ({"corpus": "./no-such-file.jsonl"}, ["no-such-file.jsonl"]),
        ({"dictionary": "res=./no-such-dictionary"}, ["no-such-dictionary"]),
        ({"dictionary": "res"}, ["NAME=FOLDER", "'res'"]),
        ({"device": "gpu7"}, ["gpu7"]),
    ],
    ids=str,
)
def test_what_is_not_there_is_named(
    run: Run, plan: dict[str, str], verb: tuple[str, str], changes: dict[str, str], words: list[str]
) -> None:
    check(run(*verb, *flat(plan, **changes)), *words)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_corpus_of_three_sentences_is_refused(
    run: Run, plan: dict[str, str], verb: tuple[str, str], tmp_path: Path
) -> None:
    small = tmp_path / "three.jsonl"
    small.write_text("".join(json.dumps({"text": f"Sentence {i}."}) + "\n" for i in range(3)))
    check(run(*verb, *flat(plan, corpus=str(small))), "three.jsonl", "too small", "3 documents")


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_pickle_where_safetensors_is_expected_is_refused(
    run: Run, plan: dict[str, str], verb: tuple[str, str], tiny_gpt2_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_gpt2_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"wte.weight": torch.zeros(2, 2)}, folder / "pytorch_model.bin")
    check(run(*verb, *flat(plan, subject=str(folder))), "pickled", "safetensors")


def test_a_corrupt_index_file_is_named(run: Run, plan: dict[str, str], tmp_path: Path) -> None:
    built = run("index", "build", *flat(plan), "--json")
    assert built.code == 0, built.err
    told = json.loads(built.out)
    victim = max((p for p in Path(told["path"]).rglob("*.npy")), key=lambda p: p.stat().st_size)
    with open(victim, "r+b") as file:
        file.truncate(victim.stat().st_size // 2)
    check(run("index", "info", told["key"]), victim.name, "damaged", "Delete")
    listed = run("index", "info")
    assert listed.code == 0
    assert victim.name in listed.out
    assert json.loads(run("index", "info", "--json").out)["damaged"][0]["path"] == told["path"]
    # With controls, the index of a campaign is another: it also holds their directions.
    check(run("campaign", "run", *flat(plan), "--controls", "0"), victim.name, "damaged", "Delete")


def test_an_index_that_is_not_there_is_named(run: Run) -> None:
    check(run("index", "info", "beef"), "beef")


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE neurogloss_schema SET version_num = '9999'")
    connection.commit()
    connection.close()


DATABASE_VERBS = [
    ("campaign", "list"), ("campaign", "show", "first"), ("campaign", "resume", "first"), ("units",),
    ("show", "mlp:2:17"), ("search", "the"),
]  # fmt: skip


@pytest.mark.parametrize("verb", DATABASE_VERBS, ids=" ".join)
def test_a_database_of_a_newer_version_is_left_alone(
    run: Run, example_db: Path, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    path = tmp_path / "newer.db"
    shutil.copy(example_db, path)
    newer(path)
    before = path.read_bytes()
    check(run(*verb, "--db", path), "newer", "9999")
    assert path.read_bytes() == before


def test_a_campaign_does_not_touch_a_database_of_a_newer_version(
    run: Run, example_db: Path, tmp_path: Path, plan: dict[str, str]
) -> None:
    path = tmp_path / "newer.db"
    shutil.copy(example_db, path)
    newer(path)
    check(run("campaign", "run", *flat(plan), "--db", path), "newer", "9999")


@pytest.mark.parametrize("verb", DATABASE_VERBS, ids=" ".join)
def test_reading_a_database_that_is_not_there_makes_none(run: Run, tmp_path: Path, verb: tuple[str, ...]) -> None:
    path = tmp_path / "folder" / "none.db"
    check(run(*verb, "--db", path), "none.db", "campaign run")
    assert not path.parent.exists()


def test_what_is_no_database_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("Dear diary, " * 500)
    check(run("units", "--db", path), "notes.db", "not a database")
    check(run("units", "--db", tmp_path), "folder")
    check(run("units", "--db", "oracle://scott:tiger@host/x"), "oracle")
    assert "tiger" not in run("units", "--db", "oracle://scott:tiger@host/x").err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "mlp:9:9"], ["mlp:9:9", "neurogloss units"]),
        (["show", "mlp:2:17", "--subject", "other"], ["other"]),
        (["show", "mlp:2:17", "--campaign", "other"], ["other"]),
        (["units", "mlp:x:*"], ["mlp:x:*"]),
        (["units", "--campaign", "other"], ["other", "first"]),
        (["units", "--state", "dead", "--campaign", "first"], ["--state"]),
        (["campaign", "show", "other"], ["other"]),
        (["campaign", "resume", "other"], ["other", "first"]),
        (["show", "mlp:\x1b[2J:9"], ["␛[2J"]),
    ],
    ids=str,
)
def test_a_unit_or_campaign_that_the_database_lacks_is_named(
    run: Run, example_db: Path, args: list[str], words: list[str]
) -> None:
    answer = run(*args, "--db", example_db)
    check(answer, *words)
    assert "\x1b" not in answer.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject: x\ncorpus: y\nunits: mlp:*:*\nspeed: 9\n", ["speed"]),
        ("subject: [", ["YAML"]),
        ("just words", ["mapping"]),
        ("subject: x\nunits: mlp:*:*\n", ["corpus", "missing"]),
        ("subject: x\ncorpus: y\nunits: mlp:*:*\nworkers: many\n", ["workers", "many"]),
    ],
    ids=["unknown setting", "not yaml", "no mapping", "no corpus", "no number"],
)
def test_a_campaign_file_that_makes_no_sense_is_explained(
    run: Run, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    check(run("campaign", "run", path), "plan.yaml", *words)


def test_a_campaign_needs_to_be_told_what_to_do(run: Run) -> None:
    check(run("campaign", "run"), "demo", "--subject")
    check(run("campaign", "run", "no-such-plan"), "no-such-plan", "demo")


def test_activate_names_what_is_wrong(run: Run, tiny_gpt2_folder: Path) -> None:
    check(run("activate", "mlp:1:999", "text", "--subject", tiny_gpt2_folder), "mlp:1:999", "0-63")
    check(run("activate", "mlp:5:0", "text", "--subject", tiny_gpt2_folder), "mlp:5:0")
    check(run("activate", "what", "text", "--subject", tiny_gpt2_folder), "what")
    check(run("activate", "mlp:1:0", "", "--subject", tiny_gpt2_folder), "no text")
    check(run("activate", "mlp:1:0", "text", "--subject", "./nowhere"), "nowhere")


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """As on a full disk: no file can grow beyond `size` bytes (Python ignores the signal that goes with it)."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_while_indexing_is_said_and_the_same_command_goes_on(
    run: Run, plan: dict[str, str]
) -> None:
    with file_limit(20_000):
        full = run("index", "build", *flat(plan))
    assert full.code == 2, full.err
    assert "disk" in full.err
    assert "run the same command again" in full.err
    assert "Traceback" not in full.err
    assert run("index", "build", *flat(plan)).code == 0


def test_a_disk_that_is_full_while_describing_is_said_and_the_same_command_goes_on(
    run: Run, plan: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "full.db"
    with store.open_database(path):
        pass
    assert run("index", "build", *flat(plan)).code == 0
    args = ["campaign", "run", *flat(plan, name="full", units="mlp:1:0"), "--db", path]
    # Room for the queue, but not for what is found.
    with file_limit(path.stat().st_size + 4096):
        full = run(*args)
    assert full.code == 2, full.err
    assert "full.db" in full.err
    assert "Traceback" not in full.err
    monkeypatch.setattr("agent.campaign.is_alive", lambda owner: False)  # as the next process will find it
    after = run(*args, "--json")
    assert after.code == 0, after.err
    assert json.loads(after.out)["run"]["status"] == "done"


def test_an_unexpected_error_is_one_line_and_a_hint(
    run: Run, example_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import store.queries

    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a fault\nwith \x1b[31m two lines")

    monkeypatch.setattr(store.queries, "list_campaigns", broken)
    short = run("campaign", "list", "--db", example_db)
    assert short.code == 1
    assert short.err.splitlines() == [
        "Unexpected ZeroDivisionError: a fault", "Run the same command with --debug to see where."
    ]  # fmt: skip
    long = run("campaign", "list", "--db", example_db, "--debug")
    assert long.code == 1
    assert "Traceback" in long.err
    assert "in broken" in long.err


def test_the_system_s_refusals_are_explained(run: Run, monkeypatch: pytest.MonkeyPatch, example_db: Path) -> None:
    import errno

    import store.queries

    def refused(number: int) -> Callable[..., None]:
        def fail(*args: object, **options: object) -> None:
            raise OSError(number, os.strerror(number), "/data/file")

        return fail

    for number, word in ((errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.ENOENT, "No such file")):
        monkeypatch.setattr(store.queries, "list_campaigns", refused(number))
        check(run("campaign", "list", "--db", example_db), word, "/data/file")
