"""Search finds what is there, and takes nothing that people type for a query language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import store
from store import schema
from store.records import InvestigationResult

LABELS = {
    "mlp:1:0": "definite articles",
    "mlp:1:1": "names of animals, such as cat",
    "mlp:1:2": "the keyword __init__ in class bodies",
    "mlp:1:3": "comparison with == or !=",
    "mlp:1:4": "100% of_it",
    "mlp:1:5": "café names",
}


UNITS = [*(f"mlp:1:{i}" for i in range(6)), "head:0:3", "sae:res:12"]


@pytest.fixture(scope="module")
def full(
    make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, result: Callable[..., InvestigationResult]
) -> Any:
    bench = make(tmp_path_factory.mktemp("full") / "full.db", UNITS)
    for job in iter(lambda: store.lease_next(bench.db, bench.campaign_id, "me", 60), None):
        if job.unit in LABELS:
            store.finish(bench.db, job, result(job.unit, label=LABELS[job.unit]))
        else:
            store.fail(bench.db, job, "not today", retry=False)
    bench.db.close()
    return bench


@pytest.fixture
def filled(full: Any, copy: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    found = copy(full, tmp_path / "filled.db")
    yield found
    found.db.close()


def found(bench: Any, text: str, **options: Any) -> list[str]:
    return [hit.description.unit for hit in store.search_text(bench.db, text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("article", ["mlp:1:0"]),
        ("ARTICLES", ["mlp:1:0"]),
        ("anim", ["mlp:1:1"]),
        ("names animal", ["mlp:1:1"]),
        ("cafe", ["mlp:1:5"]),
        ("__init__", ["mlp:1:2"]),
        ("==", ["mlp:1:3"]),
        ("%", ["mlp:1:4"]),
        ("of_it", ["mlp:1:4"]),
        ("zebra animal", ["mlp:1:1"]),
        ("zebra", []),
        ("", []),
        ("   ", []),
        ("\x00", []),
    ],
)
def test_finds(filled: Any, text: str, expected: list[str]) -> None:
    assert found(filled, text) == expected


def test_a_label_counts_more_than_a_rule(filled: Any) -> None:
    with filled.db.transaction() as session:
        session.execute(
            sa.update(schema.Description).where(schema.Description.label == "café names").values(rule="cat")
        )
    assert found(filled, "cat") == ["mlp:1:1", "mlp:1:5"]


def test_hits_show_where_they_match(filled: Any) -> None:
    hit = store.search_text(filled.db, "animal")[0]
    assert (hit.field, hit.snippet) == ("label", "names of animals, such as cat")
    assert [hit.snippet[low:high] for low, high in hit.highlights] == ["animals"]
    assert hit.score > 0
    sign = store.search_text(filled.db, "==")[0]
    assert [sign.snippet[low:high] for low, high in sign.highlights] == ["=="]


def test_long_texts_are_cut_around_the_match(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    job = store.lease_next(bench.db, bench.campaign_id, "me", 60)
    assert job is not None
    store.finish(bench.db, job, result(job.unit, label="word " * 100 + "zebra" + " word" * 100))
    hit = store.search_text(bench.db, "zebra")[0]
    assert len(hit.snippet) <= 102
    assert hit.snippet.startswith("…")
    assert [hit.snippet[low:high] for low, high in hit.highlights] == ["zebra"]


@pytest.mark.parametrize(
    "text",
    ['"', "'", '"cat', "cat AND", "NEAR(cat", "label:cat", "cat OR 1=1; DROP TABLE descriptions", "*", "-cat", "^cat",
     "(", "cat*", "\\", "a" * 5000, "cat " * 500, "{label}: cat", "cat\x00dog", "\ud800"],
)  # fmt: skip
def test_operators_and_quotes_are_only_text(filled: Any, text: str) -> None:
    store.search_text(filled.db, text)
    assert found(filled, "animals") == ["mlp:1:1"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
def test_no_text_breaks_the_search(filled: Any, text: str) -> None:
    for hit in store.search_text(filled.db, text, limit=3):
        assert all(0 <= low < high <= len(hit.snippet) for low, high in hit.highlights)


def test_the_index_follows_every_change(filled: Any) -> None:
    table = schema.Description
    with filled.db.transaction() as session:
        session.execute(sa.update(table).where(table.label == "definite articles").values(label="zebras"))
        session.execute(sa.delete(table).where(table.label == LABELS["mlp:1:1"]))
    assert found(filled, "zebra") == ["mlp:1:0"]
    assert found(filled, "animals") == []
    if filled.db.is_sqlite:
        with filled.db.transaction() as session:
            session.execute(sa.text("INSERT INTO descriptions_fts(descriptions_fts) VALUES ('integrity-check')"))


def test_limits_and_subjects(filled: Any) -> None:
    assert len(found(filled, "fires", limit=2)) == 2
    assert found(filled, "fires", limit=0) == []
    assert found(filled, "fires", subject="someone else") == []
    assert len(found(filled, "fires", subject="f00d")) == 6
