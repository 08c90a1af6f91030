"""Brings a database to the present schema, and says what is wrong when it cannot be."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from store.errors import StoreError

#: Not Alembic's default, so that other programs' databases (many use Alembic) are not taken for a newer one of ours.
VERSION_TABLE = "neurogloss_schema"
# Any number does that is not used for another advisory lock in the same Postgres database.
_MIGRATION_LOCK = 0x6E67


def _config() -> Config:
    config = Config()
    folder = Path(__file__).resolve().parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The newest revision that this release knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the package carries no migrations")
    return revision


def current(connection: sa.Connection) -> str | None:
    """The revision of the database, or None for one without our tables."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return found


def check_known(revision: str, where: str) -> None:
    """Raise `StoreError` for a revision of a later release."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision not in known:
        raise StoreError(
            f"{where} was written by a newer neurogloss (revision {revision}, this one knows up to {head()}).\n"
            "Upgrade neurogloss or choose another --db."
        )


def upgrade(connection: sa.Connection, where: str) -> None:
    """Bring the database to `head`, within the caller's (writing) transaction.

    Raises:
        StoreError: it was written by a newer release, or is the database of another program.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    revision = current(connection)
    if revision == head():
        return
    if revision is not None:
        check_known(revision, where)
    elif sa.inspect(connection).has_table("campaigns") or (
        connection.dialect.name == "sqlite" and sa.inspect(connection).get_table_names()
    ):
        # An empty file, or an empty Postgres schema beside other programs' tables, is welcome; tables of ours without
        # a revision, or a SQLite file in use by another program, are not.
        raise StoreError(f"{where} is the database of another program. Choose another --db.")
    config = _config()
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
