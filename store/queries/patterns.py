"""Unit patterns (``mlp:0-2:*``, ``head:*:*``, ``sae:NAME:5,7-9``, ``fn:numeric:*``, ``dir:*``) as SQL conditions."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from store.errors import StoreError
from store.schema import Unit

_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def matching(pattern: str) -> sa.ColumnElement[bool]:
    """The condition that a unit fits one of the patterns, which ';' separates.

    Raises:
        StoreError: it is not a pattern.
    """
    parts = [part.strip() for part in pattern.split(";") if part.strip()]
    if not parts:
        raise StoreError("The unit pattern is empty. Write for example mlp:3:0-99, head:*:*, sae:NAME:* or *.")
    return sa.or_(*(_one(part) for part in parts))


def _one(part: str) -> sa.ColumnElement[bool]:
    if part == "*":
        return sa.true()
    kind, _, rest = part.partition(":")
    where, _, index = rest.rpartition(":")
    if kind == "dir" and rest and ":" not in rest:
        return sa.and_(Unit.kind == "dir", _glob(Unit.unit, part))
    if not kind or not where or not index:
        raise StoreError(
            f"'{part}' is not a unit pattern. Write for example mlp:3:0-99, head:*:*, sae:NAME:*, fn:DOMAIN:*, "
            "dir:NAME or *."
        )
    if kind == "fn":
        place = _glob(Unit.unit, f"fn:{where}:*")
        return sa.and_(Unit.kind == kind, place, _numbers(Unit.unit_index, index, part))
    place = _glob(Unit.dictionary, where) if kind == "sae" else _numbers(Unit.layer, where, part)
    return sa.and_(sa.true() if kind == "*" else Unit.kind == kind, place, _numbers(Unit.unit_index, index, part))


def _numbers(column: sa.SQLColumnExpression[Any], text: str, part: str) -> sa.ColumnElement[bool]:
    if text == "*":
        return sa.true()
    if not _NUMBERS.fullmatch(text):
        raise StoreError(f"'{text}' in the pattern '{part}' is not a number, a range (0-99), a list (1,5,7-9) or *.")
    ranges = [(int(low), int(high or low)) for low, _, high in (item.partition("-") for item in text.split(","))]
    return sa.or_(*(column.between(low, high) for low, high in ranges))


def _glob(column: sa.SQLColumnExpression[Any], text: str) -> sa.ColumnElement[bool]:
    escaped = re.sub(r"([\\%_])", r"\\\1", text).replace("*", "%")
    return column.like(escaped, escape="\\")
