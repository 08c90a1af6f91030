"""Opening a database: what is made, what is refused, and what a full disk does."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import store
from store import migrate, schema
from store.records import InvestigationResult

ROOT = Path(__file__).resolve().parents[2]


def test_opening_makes_the_schema_and_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.db"
    with store.open_database(path) as db, db.session() as session:
        assert migrate.current(session.connection()) == migrate.head()
        pragmas = {name: session.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")}
        assert pragmas == {"journal_mode": "wal", "foreign_keys": 1}
    before = path.read_bytes()
    store.open_database(f"sqlite:///{path}").close()
    assert path.read_bytes() == before


def test_migrations_make_exactly_what_the_models_say(tmp_path: Path) -> None:
    def ours(kind_of: Any, name: str | None, kind: str, *_: Any) -> bool:
        return kind != "table" or not (name or "").startswith(("descriptions_fts", migrate.VERSION_TABLE))

    with store.open_database(tmp_path / "x.db") as db, db.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"include_object": ours, "compare_type": True})
        assert compare_metadata(context, schema.Base.metadata) == []
        made = session.scalars(sa.text("SELECT sql FROM sqlite_master WHERE sql LIKE '%CHECK%'")).all()
    wanted = [
        str(constraint.sqltext)
        for table in schema.Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    ]
    assert wanted
    assert sum(sql.count("CHECK (") for sql in made) == len(wanted)
    assert all(any(text in sql for sql in made) for text in wanted)


def test_migrations_are_one_ordered_line() -> None:
    folder = Path(migrate.__file__).parent / "migrations" / "versions"
    numbers = sorted(path.name.partition("_")[0] for path in folder.glob("0*.py"))
    assert numbers == [f"{place:04}" for place in range(1, len(numbers) + 1)]
    assert migrate.head() == numbers[-1]


def test_several_processes_may_make_the_same_database_at_once(tmp_path: Path) -> None:
    code = "import sys, store; store.open_database(sys.argv[1]).close()"
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.db")], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [(worker.communicate()[1], worker.returncode) for worker in workers] == [(b"", 0)] * 2


def test_a_database_of_a_newer_release_is_refused_and_left_alone(bench: Any, tmp_path: Path) -> None:
    with bench.db.transaction() as session:
        session.execute(sa.text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'"))
    bench.db.close()
    for options in ({}, {"read_only": True}):
        with pytest.raises(store.StoreError) as error:
            store.open_database(tmp_path / "test.db", **options)
        message = str(error.value)
        assert f"written by a newer neurogloss (revision 9999, this one knows up to {migrate.head()})" in message
        assert "Upgrade neurogloss or choose another --db" in message


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("Dear diary, " * 1000)
    with pytest.raises(store.StoreError, match=r"notes.db is not a database"):
        store.open_database(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    before = other.read_bytes()
    with pytest.raises(store.StoreError, match=r"other.db is the database of another program"):
        store.open_database(other)
    assert other.read_bytes() == before
    with pytest.raises(store.StoreError, match="is a folder"):
        store.open_database(tmp_path)
    with pytest.raises(store.StoreError, match="not a database that neurogloss can use"):
        store.open_database("mysql://me:secret@host/db")


def test_passwords_are_never_shown() -> None:
    with pytest.raises(store.StoreError) as error:
        store.open_database("mysql://me:secret@host/db")
    assert "secret" not in str(error.value)


def test_a_damaged_database_is_told_so(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    bench.db.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(store.StoreError, match="damaged"), store.open_database(path) as db:
        store.list_campaigns(db)


def test_a_missing_database_is_only_made_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.db"
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(store.StoreError, match=r"no database at .*x\.db\.\n.*makes one"):
            store.open_database(path, **options)
    assert not path.parent.exists()


def test_reading_only_writes_nothing(bench: Any, tmp_path: Path) -> None:
    with store.open_database(tmp_path / "test.db", read_only=True) as db:
        assert [row.campaign for row in store.list_campaigns(db)] == ["first"]
        with pytest.raises(store.StoreError, match="open for reading only"):
            store.retry_failed(db, 1)
        with pytest.raises(store.StoreError, match="cannot be written"), db.session() as session:
            session.execute(sa.text("DELETE FROM campaigns"))
    assert len(store.list_campaigns(bench.db)) == 1


def test_reads_from_a_folder_that_cannot_be_written(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.db.close()
    # Permissions do not bind the superuser, as whom tests often run; so the folder only claims to be closed.
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    with store.open_database(tmp_path / "test.db", read_only=True) as db:
        assert len(store.list_campaigns(db)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["test.db"]


def test_a_full_disk_loses_nothing(
    make: Callable[..., Any], tmp_path: Path, result: Callable[..., InvestigationResult]
) -> None:
    bench = make(tmp_path / "full.db", ["mlp:0:1", "mlp:0:2"])
    first, second = (store.lease_next(bench.db, bench.campaign_id, "me", 60) for _ in range(2))
    assert first is not None
    assert second is not None
    store.finish(bench.db, first, result(first.unit))

    @sa.event.listens_for(bench.db.engine, "checkout")
    def limit(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    huge = result(second.unit, label="x" * 200_000)
    with pytest.raises(store.StoreError, match=r"No space left for .*full\.db.*free some space and resume"):
        store.finish(bench.db, second, huge)
    progress = store.progress(bench.db, bench.campaign_id)
    assert (progress.done, progress.leased) == (1, 1)
    assert [row.unit for row in store.best_descriptions(bench.db)] == [first.unit]
    sa.event.remove(bench.db.engine, "checkout", limit)
    bench.db.close()
    with store.open_database(tmp_path / "full.db") as db:
        store.finish(db, second, huge)
        assert store.progress(db, bench.campaign_id).done == 2
        with db.session() as session:
            assert session.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def test_readers_see_one_state_while_others_write(bench: Any, result: Callable[..., InvestigationResult]) -> None:
    with bench.db.session() as session:
        query = (
            sa.select(sa.func.count()).select_from(schema.Investigation).where(schema.Investigation.status == "leased")
        )
        assert session.scalar(query) == 0
        assert store.lease_next(bench.db, bench.campaign_id, "me", 60)
        assert session.scalar(query) == 0


def test_rows_need_what_they_refer_to(bench: Any) -> None:
    with pytest.raises(sa.exc.IntegrityError), bench.db.transaction() as session:
        session.add(schema.Investigation(campaign_id=bench.campaign_id, unit_id=999))
    with pytest.raises(sa.exc.IntegrityError), bench.db.transaction() as session:
        session.execute(sa.update(schema.Investigation).values(status="lost"))


def test_every_table_keeps_what_it_is_given(bench: Any) -> None:
    with bench.db.transaction() as session:
        unit = session.scalars(sa.select(schema.Unit)).first()
        chat = schema.Chat(title="first")
        session.add_all([chat, schema.Annotation(unit_id=unit.id, author="me", kind="vote", value=1.0)])
        session.flush()
        session.add(schema.ChatMessage(chat_id=chat.id, position=0, role="user", content="¿por qué?", payload={}))
    with bench.db.session() as session:
        message = session.scalars(sa.select(schema.ChatMessage)).one()
        assert (message.content, message.payload) == ("¿por qué?", {})
        assert message.created_at.utcoffset() is not None
        assert session.scalars(sa.select(schema.Annotation)).one().value == 1.0
