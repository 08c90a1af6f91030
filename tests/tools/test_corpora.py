"""Reading corpora from every kind of source: ids, options, limits and what is refused."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.corpora import Corpus, Document, load_corpus, require_enough
from tools.corpora.stdlib import python_files
from tools.errors import CorpusError
from tools.types import Split


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ids(corpus: Corpus) -> list[str]:
    return [document.id for document in corpus.documents]


def test_jsonl_takes_its_own_ids_and_hashes_texts_without(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "text": "one"},
        {"id": 7, "text": "two"},
        {"text": "three"},
        {"id": "blank", "text": " \n"},
    ]
    corpus = load_corpus(jsonl(tmp_path / "x.jsonl", rows))
    assert [d.text for d in corpus.documents] == ["one", "two", "three"]
    assert ids(corpus)[:2] == ["a", "7"]
    assert len(ids(corpus)[2]) == 16
    moved = load_corpus(jsonl(tmp_path / "y.jsonl", rows[::-1]))
    assert ids(moved)[0] == ids(corpus)[2], "a hashed id depends on the text alone"


def test_options_name_the_fields(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"body": "one", "key": "k1", "text": "no"}])
    assert load_corpus(f"{path}?field=body&id=key").documents == (Document("k1", "one"),)


def test_identical_texts_without_ids_are_told_apart(tmp_path: Path) -> None:
    corpus = load_corpus(jsonl(tmp_path / "x.jsonl", [{"text": "same"}, {"text": "same"}, {"text": "same"}]))
    first = ids(corpus)[0]
    assert ids(corpus) == [first, f"{first}-2", f"{first}-3"]


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="more than one document with the id 'a'"):
        load_corpus(jsonl(tmp_path / "x.jsonl", [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}]))


def test_text_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffFirst line\r\nstill first\r\n \t\r\n\r\n\r\n  Second\n\nThird é\n".encode())
    assert [d.text for d in load_corpus(str(path)).documents] == ["First line\nstill first", "  Second", "Third é"]


def test_parquet_is_read_with_its_options(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a b", "c d"], "id": [1, 2], "body": ["x", "y"]}), path)
    assert load_corpus(str(path)).documents == (Document("1", "a b"), Document("2", "c d"))
    assert load_corpus(f"{path}?field=body&id=text").documents == (Document("a b", "x"), Document("c d", "y"))
    with pytest.raises(CorpusError, match="no column 'story', only 'text', 'id', 'body'"):
        load_corpus(f"{path}?field=story")
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        load_corpus(str(path))


def test_folder_gives_a_document_for_a_text_and_many_for_records(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("one\n\nstill one\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / ".hidden" / "c.txt").write_text("no")
    jsonl(tmp_path / "r.jsonl", [{"id": "k", "text": "two"}, {"id": "l", "text": "three"}])
    assert ids(load_corpus(str(tmp_path))) == ["b.py", "r.jsonl#k", "r.jsonl#l", "sub/a.txt"]


def test_stdlib_leaves_out_packages_tests_and_other_encodings(tmp_path: Path) -> None:
    for name in ("os.py", "json/decoder.py", "test/test_os.py", "site-packages/numpy.py", "idlelib/run.py",
                 "__pycache__/x.py", "json/tests/t.py"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import sys\n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    (tmp_path / "empty.py").write_text("")
    assert [d.id for d in python_files(tmp_path)] == ["json/decoder.py", "os.py"]
    with pytest.raises(CorpusError, match="no source"):
        list(python_files(tmp_path / "nowhere"))


def test_stdlib_of_this_machine_can_be_split() -> None:
    corpus = load_corpus("stdlib:")
    assert len(corpus) > 300
    require_enough(corpus)
    assert "json/decoder.py" in ids(corpus)
    with pytest.raises(CorpusError, match="write 'stdlib:' alone"):
        load_corpus("stdlib:json")


def test_limit_is_a_growing_subset_in_source_order(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"id": f"d{i:03}", "text": f"text {i}"} for i in range(200)])
    small, large = ids(load_corpus(path, limit=20)), ids(load_corpus(path, limit=80))
    assert (len(small), len(large)) == (20, 80)
    assert set(small) < set(large)
    assert large == sorted(large)
    assert small != [f"d{i:03}" for i in range(20)], "not the first ones"
    assert set(small) != set(ids(load_corpus(path, limit=20, seed=1)))
    assert ids(load_corpus(path, limit=1000)) == ids(load_corpus(path))


def test_corpus_id_is_that_of_its_documents(tmp_path: Path) -> None:
    rows = [{"id": f"{i}", "text": f"t{i}"} for i in range(5)]
    one = load_corpus(jsonl(tmp_path / "x.jsonl", rows))
    assert one.id == load_corpus(jsonl(tmp_path / "y.jsonl", rows)).id
    changed = load_corpus(jsonl(tmp_path / "z.jsonl", [*rows[:4], {"id": "4", "text": "other"}]))
    assert one.id != changed.id


def test_hub_without_datasets_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"neurogloss\[hub\]"):
        load_corpus("hf:roneneldan/TinyStories")


def test_hub_sets_are_streamed_with_split_field_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    read = 0

    def rows() -> Any:
        nonlocal read
        for i in range(10**9):
            read += 1
            yield {"story": f"story {i}", "id": i}

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        calls.append((name, config, split, streaming))
        return rows()

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    corpus = load_corpus("hf:owner/set:validation:story?config=en", limit=5)
    assert calls == [("owner/set", "en", "validation", True)]
    assert len(corpus) == 5
    assert read <= 51, "an endless set is not read whole"
    with pytest.raises(CorpusError, match="no field 'text', only 'story', 'id'"):
        load_corpus("hf:owner/set", limit=5)


def test_hub_failures_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> Any:
        raise ConnectionError("hub not reachable\nlong traceback")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(CorpusError, match=r"cannot be opened: hub not reachable$"):
        load_corpus("hf:owner/set")
    with pytest.raises(CorpusError, match="is not a hub data set"):
        load_corpus("hf:a:b:c:d")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "ok"}\n\n{"text": oops}\n', "line 3: this is not valid JSON"),
        ("a.jsonl", b'{"text": "ok"}\n["no"]\n', "line 2: expected an object, found list"),
        ("a.jsonl", b'{"story": "ok"}\n', r"line 1: there is no field 'text', only 'story'.*\?field="),
        ("a.jsonl", b'{"text": 3}\n', "line 1: the field 'text' holds int"),
        ("a.jsonl", b'{"text": "ok", "id": [1]}\n', "line 1: the id 'id' is neither"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "\xff"}\n', "not UTF-8 text .see byte 25"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.jsonl", b"", "is empty"),
        ("a.txt", b"text\0more", "not UTF-8 text .see byte 4"),
        ("a.txt", b"caf\xe9", "not UTF-8 text"),
        ("a.png", b"x", "files of kind '.png' cannot be read"),
    ],
)
def test_unreadable_files_are_reported_with_their_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        load_corpus(str(path))


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="There is no corpus"):
        load_corpus(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(CorpusError, match="holds no file of a known kind"):
        load_corpus(str(tmp_path))
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    with pytest.raises(CorpusError, match="unknown option 'column'"):
        load_corpus(f"{path}?column=a")
    with pytest.raises(CorpusError, match="no id in the field 'key'"):
        load_corpus(f"{path}?id=key")
    with pytest.raises(CorpusError, match="positive"):
        load_corpus(path, limit=0)


def test_broken_surrogates_do_not_reach_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": "\\ud800", "text": "a \\udfff b"}\n')
    corpus = load_corpus(str(tmp_path / "x.jsonl"))
    assert corpus.documents == (Document("\ufffd", "a \ufffd b"),)
    assert corpus.split_of(0) in Split


def test_three_sentences_are_too_small_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("One sentence.\n\nAnother sentence.\n\nA third sentence.\n")
    with pytest.raises(CorpusError, match=r"has 3 documents, .*at least 5\.\n.*about 100 documents"):
        require_enough(load_corpus(str(path)))
    with pytest.raises(CorpusError, match="has 0 documents"):
        require_enough(Corpus("nothing", ()))


def test_copies_of_one_text_are_not_enough() -> None:
    corpus = Corpus("copies", tuple(Document(f"d{i}", "the same text again and again") for i in range(500)))
    with pytest.raises(CorpusError, match="499 of them near-duplicates"):
        require_enough(corpus)
