"""Opening a database, and the two ways to talk to it: `Database.session` reads, `Database.transaction` writes.

SQLite runs in WAL mode: readers never wait, and one writer at a time waits its turn (up to `BUSY_SECONDS`). Writers
begin with BEGIN IMMEDIATE, so that what they read at the start of the transaction still holds when they write: that
makes leasing atomic across processes. `synchronous` is NORMAL: a kill at any moment loses no commit, and a power cut
at worst the last few, never the database; what they held is then pending again and done again. FULL would wait for the
disk three times a unit (10 to 20 ms each, measured on a busy disk), which is most of the time that a small unit takes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import migrate
from store.errors import StoreError
from store.schema import utc_now

BUSY_SECONDS = 30
_WRITES = "neurogloss_writes"


@dataclass(frozen=True)
class Database:
    """An open database. Threads may share it; another process opens its own.

    SQLite connections must not cross a fork: open the database after forking.
    """

    engine: sa.Engine
    url: str
    """Where it is, without a password, for messages."""
    read_only: bool

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def _reader(self) -> sa.Engine:
        # On SQLite every transaction has snapshot isolation.
        return self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that reads, seeing one state of the database throughout."""
        with self._translated(), Session(self._reader) as session:
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that writes: committed when the block ends, undone when it raises.

        Raises:
            StoreError: the disk is full, the database is locked, read-only or damaged. Nothing was written.
        """
        if self.read_only:
            raise StoreError(f"{self.url} is open for reading only.")
        engine = self.engine.execution_options(**{_WRITES: True})
        with self._translated(), Session(engine) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with _translated(self.url):
            yield


def open_database(url_or_path: str | Path, *, create: bool = True, read_only: bool = False) -> Database:
    """Open a database and bring its schema up to date.

    Args:
        url_or_path: path of a SQLite file, or a URL: ``sqlite:///path`` or ``postgresql://user:password@host/name``.
        create: make the SQLite file (and its folder) if there is none.
        read_only: nothing can be written, not even a migration; a missing file is never made.

    Raises:
        StoreError: missing, not a database, another program's, damaged, from a newer release, or out of reach.
    """
    url, shown = _parse(url_or_path)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        _check_file(path, create=create and not read_only)
        engine = _sqlite_engine(path, read_only)
    else:
        engine = _postgres_engine(url, read_only)
    database = Database(engine, shown, read_only)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def database_time(session: Session) -> dt.datetime:
    """The clock that leases go by: the server's on Postgres, whose clients may disagree; ours on SQLite."""
    if session.get_bind().dialect.name == "sqlite":
        return utc_now()
    now = session.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(now, dt.datetime)
    return now.astimezone(dt.UTC)


def _parse(url_or_path: str | Path) -> tuple[sa.URL, str]:
    text = str(url_or_path)
    if "://" not in text:
        path = Path(text).expanduser()
        return sa.URL.create("sqlite", database=str(path)), str(path)
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as error:
        raise StoreError(f"'{text.partition('://')[0]}://…' is not a database URL that can be read.") from error
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database:
        return url, url.database
    if backend in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
        return url, url.render_as_string(hide_password=True)
    raise StoreError(
        f"'{url.render_as_string(hide_password=True)}' is not a database that neurogloss can use.\n"
        "Give a path of a SQLite file, or postgresql://user:password@host/name."
    )


def _check_file(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder. Give the path of a database file, for example {path / 'neurogloss.db'}.")
    if path.exists():
        return
    if not create:
        raise StoreError(
            f"There is no database at {path}.\n"
            "`neurogloss campaign run` makes one; or name another with --db or NEUROGLOSS_DB."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder of {path} cannot be made: {error.strerror}.") from error


def _sqlite_engine(path: Path, read_only: bool) -> sa.Engine:
    target, options = str(path), ""
    if read_only:
        # In a folder that we may not write to, SQLite cannot make the -shm file that WAL readers share; where there is
        # no WAL either, nobody is writing and the file can be read as it stands.
        wal = path.with_name(path.name + "-wal")
        frozen = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
        options = "?mode=ro&immutable=1" if frozen else "?mode=ro"
        target = path.resolve().as_uri() + options

    def connect() -> sqlite3.Connection:
        # isolation_level None: sqlite3 starts no transactions of its own; `_begin` does.
        connection = sqlite3.connect(
            target, timeout=BUSY_SECONDS, isolation_level=None, uri=read_only, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection

    engine = sa.create_engine("sqlite+pysqlite://", creator=connect, poolclass=sa.QueuePool, json_serializer=_to_json)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(url: sa.URL, read_only: bool) -> sa.Engine:
    options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
    try:
        return sa.create_engine(url, connect_args=options, json_serializer=_to_json, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError("Postgres needs psycopg: pip install 'neurogloss[postgres]'.") from error


def _prepare(database: Database) -> None:
    with database.session() as session:
        revision = migrate.current(session.connection())
    if revision == migrate.head():
        return
    if database.read_only:
        if revision is None:
            raise StoreError(f"{database.url} is not a neurogloss database. Choose another --db.")
        migrate.check_known(revision, database.url)
        raise StoreError(
            f"{database.url} was written by an older neurogloss (revision {revision}). Any command that writes "
            "brings it up to date, for example `neurogloss campaign resume`."
        )
    with database.transaction() as session:
        migrate.upgrade(session.connection(), database.url)
    if database.is_sqlite:
        # A lasting property of the file, set once; only possible outside a transaction.
        with database._translated(), closing(database.engine.raw_connection()) as raw:
            _write_ahead(raw.cursor())


def _write_ahead(cursor: Any) -> None:
    """Switches a SQLite file to write-ahead logging, if need be.

    The switch needs the file for itself and does not wait for it as other statements do: another process that makes the
    same database may be at just this.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _to_json(value: Any) -> str:
    # Postgres refuses NaN in JSON, and so does everything that will read an exported SQLite file.
    return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn what a user can mend into `StoreError`; let errors of the program through."""
    try:
        yield
    except sa.exc.StatementError as error:
        message = _explain(error.orig, where)
        if message is None:
            raise
        raise StoreError(message) from error
    except sqlite3.DatabaseError as error:
        message = _explain(error, where)
        if message is None:
            raise
        raise StoreError(message) from error


def _explain(error: BaseException | None, where: str) -> str | None:
    text = str(error).strip()
    if isinstance(error, ValueError) and "JSON compliant" in text:
        return "A value to be stored is NaN or infinite: the database keeps finite numbers, and null for unknown ones."
    for sign, message in (
        ("disk is full", f"No space left for {where}. Nothing of this step was written; free some space and resume."),
        ("No space left", f"No space left for {where}. Nothing of this step was written; free some space and resume."),
        ("file is not a database", f"{where} is not a database. Choose another --db, or move that file away."),
        ("malformed", f"{where} is damaged ({text}). Restore a copy, or rescue it with `sqlite3 FILE .recover`."),
        ("database is locked", f"{where} was locked by another program for {BUSY_SECONDS} s. Close it and try again."),
        ("readonly database", f"{where} cannot be written: check the permissions of the file and of its folder."),
        ("unable to open", f"{where} cannot be opened: check the permissions of the file and of its folder."),
        ("disk I/O error", f"{where} cannot be read or written ({text}): check the disk."),
        ("connection failed", f"{where} cannot be reached: {text.splitlines()[0] if text else 'no answer'}"),
    ):
        if sign in text:
            return message
    return None
