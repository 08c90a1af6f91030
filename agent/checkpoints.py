"""Durable checkpoints of investigations in progress, one thread each, gone once the investigation is committed.

With SQLite they are tables in the campaign's own database file, beside ours. With another database they are in a
SQLite file of the data folder: another machine that takes over an investigation then begins it anew, and comes to the
same result, since everything random is seeded by the unit.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from store import Database

#: Seconds to wait while another process writes to the same file.
_BUSY_SECONDS = 60.0


def thread_id(campaign_id: int, investigation_id: int) -> str:
    """The checkpoint thread of an investigation."""
    return f"campaign-{campaign_id}/investigation-{investigation_id}"


def checkpoint_file(db: Database, home: Path) -> Path:
    """Where the checkpoints of a database's campaigns are kept."""
    if db.is_sqlite:
        return Path(db.url)
    folder = home / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(db.url.encode()).hexdigest()[:16]}.sqlite"


@contextmanager
def open_checkpoints(path: Path) -> Iterator[SqliteSaver]:
    """A checkpointer over a SQLite file, shared by the threads of this process."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        # In WAL mode this survives a kill of the process; a power cut may cost the last step, never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        # State is plain values; nothing else may be brought to life from a file.
        saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        saver.setup()
        yield saver
    finally:
        connection.close()


def sweep(saver: SqliteSaver, campaign_id: int) -> None:
    """Delete what is left of a finished campaign's checkpoints.

    Usually nothing is: a kill between an investigation's commit and the deletion of its thread leaves one behind.
    """
    pattern = f"campaign-{campaign_id}/%"
    with saver.cursor() as cursor:
        cursor.execute("DELETE FROM checkpoints WHERE thread_id LIKE ?", (pattern,))
        cursor.execute("DELETE FROM writes WHERE thread_id LIKE ?", (pattern,))
