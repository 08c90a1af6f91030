"""Alembic's entry: runs the migrations on the connection, and inside the transaction, that `open_database` hands in."""

from __future__ import annotations

from alembic import context

from store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=context.config.attributes["version_table"],
    # Altering a table on SQLite means copying it; batch mode does so.
    render_as_batch=True,
    # Both SQLite and Postgres undo table definitions; the caller's transaction makes all steps one.
    transactional_ddl=True,
)
context.run_migrations()
