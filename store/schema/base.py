"""The declarative base, and column types that mean the same on SQLite and Postgres."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, mapped_column

#: Every constraint has a name, so that later migrations can alter it on SQLite too.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """A moment in UTC: naive text on SQLite (which has no time zones), `timestamptz` on Postgres, aware in Python."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(dt.UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class SafeText(sa.types.TypeDecorator[str]):
    """Text from models and corpora, of which nothing is lost and nothing stops a transaction: the NUL character, which
    Postgres refuses, and lone surrogates, which no database can encode, are spelled out (``\\x00``, ``\\ud800``)."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None or (value.isascii() and "\x00" not in value):
            return value
        return value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def utc_now() -> dt.datetime:
    """The present moment, aware of its zone."""
    return dt.datetime.now(dt.UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = sa.MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a plain class attribute)
        dict[str, Any]: sa.JSON,
        list[str]: sa.JSON,
        list[float]: sa.JSON,
        dt.datetime: UtcDateTime,
        str: SafeText,
        float: sa.Double,
    }


Key = Annotated[int, mapped_column(primary_key=True)]
Created = Annotated[dt.datetime, mapped_column(default=utc_now)]
Big = Annotated[int, mapped_column(sa.BigInteger)]


def one_of(column: str, values: Sequence[str]) -> sa.CheckConstraint:
    """The constraint that `column` holds one of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)
