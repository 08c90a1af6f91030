"""What is in a database, for `neurogloss doctor`."""

from __future__ import annotations

import sqlalchemy as sa

from store import Database
from store.schema import Base


def table_counts(database: Database) -> tuple[dict[str, int], str]:
    """Rows of each table, and the revision of the schema."""
    from store.migrate import current

    with database.session() as session:
        revision = current(session.connection())
        counts = {
            name: session.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
        }
    return counts, revision or "none"
