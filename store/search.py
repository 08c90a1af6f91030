"""Full-text search over descriptions: FTS5 on SQLite, tsvector on Postgres, plain substrings for what has no words.

What people type is never taken as a query language: its words are picked out and quoted, so that quotes, operators
and wildcards in it mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store.database import Database
from store.queries.descriptions import descending, described
from store.rows import SearchHit
from store.schema.views import current_descriptions

FIELDS = ("label", "input_half", "output_half", "exceptions", "rule")
_V = current_descriptions.c
#: A word in the label says more about a unit than one in its rule (arguments of bm25, in the order of FIELDS).
_WEIGHTS = (8.0, 4.0, 4.0, 2.0, 1.0)
_WORDS = re.compile(r"\w+")
#: Words looked for at most; no useful query has more, and each costs time.
_MAX_WORDS = 32
_SNIPPET = 100
#: The document of Postgres' index; must read as in the migration for the index to be used.
_DOCUMENT = (
    "to_tsvector('english', label || ' ' || input_half || ' ' || coalesce(output_half, '') || ' '"
    " || coalesce(exceptions, '') || ' ' || coalesce(rule, ''))"
)


def search_text(db: Database, text: str, limit: int = 20, *, subject: str | None = None) -> list[SearchHit]:
    """Current descriptions that match `text`, best first.

    All words must occur, in any form of theirs ('articles' finds 'article'), the last one may be the beginning of a
    word; where nothing has them all, any of them will do. Text without words ('==') is looked for as it stands.
    An empty text finds nothing.

    Args:
        db: the database.
        text: what to look for; anything goes.
        limit: how many.
        subject: name or fingerprint of a subject.
    """
    words = _WORDS.findall(text.replace("\x00", " "))[:_MAX_WORDS]
    # Lone surrogates (from a terminal that is not UTF-8) cannot be sent to a database.
    needle = text.strip().replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if not needle or limit <= 0:
        return []
    with db.session() as session:
        scores: dict[int, float] = {}
        if words:
            look = _sqlite_matches if db.is_sqlite else _postgres_matches
            scores = look(session, words, " & ", limit, subject) or look(session, words, " | ", limit, subject)
        if not scores:
            scores = _substring_matches(session, needle, limit, subject)
        rows = session.execute(sa.select(current_descriptions).where(_V.description_id.in_(scores))).mappings().all()
    hits = [_hit(row, words, needle, scores[row["description_id"]]) for row in rows]
    return sorted(hits, key=lambda hit: (-hit.score, hit.description.description_id))


def _of_subject(subject: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if subject is None else sa.or_(_V.subject == subject, _V.fingerprint == subject)


def _sqlite_matches(
    session: Session, words: Sequence[str], join: str, limit: int, subject: str | None
) -> dict[int, float]:
    quoted = [f'"{word}"' for word in words]
    quoted[-1] += "*"
    query = (" AND " if join == " & " else " OR ").join(quoted)
    fts = sa.table("descriptions_fts", sa.column("rowid", sa.Integer))
    rank: sa.ColumnElement[float] = sa.func.bm25(sa.literal_column("descriptions_fts"), *_WEIGHTS)
    found = session.execute(
        sa.select(fts.c.rowid, rank.label("rank"))
        .join(current_descriptions, _V.description_id == fts.c.rowid)
        .where(sa.literal_column("descriptions_fts").op("MATCH")(query), _of_subject(subject))
        .order_by("rank", fts.c.rowid)
        .limit(limit)
    )
    # bm25 is smaller for better matches.
    return {key: -value for key, value in found}


def _postgres_matches(
    session: Session, words: Sequence[str], join: str, limit: int, subject: str | None
) -> dict[int, float]:
    query = sa.func.to_tsquery("english", join.join([*(f"'{word}'" for word in words[:-1]), f"'{words[-1]}':*"]))
    document: sa.ColumnElement[Any] = sa.literal_column(_DOCUMENT)
    own = (
        sa.select(sa.column("id", sa.Integer), sa.func.ts_rank(document, query).label("rank"))
        .select_from(sa.table("descriptions"))
        .where(document.op("@@")(query))
        .subquery()
    )
    found = session.execute(
        sa.select(own.c.id, own.c.rank)
        .join(current_descriptions, _V.description_id == own.c.id)
        .where(_of_subject(subject))
        .order_by(own.c.rank.desc(), own.c.id)
        .limit(limit)
    )
    return {key: float(value) for key, value in found}


def _substring_matches(session: Session, needle: str, limit: int, subject: str | None) -> dict[int, float]:
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", needle) + "%"
    fields = [_V[name].ilike(pattern, escape="\\") for name in FIELDS]
    place: sa.ColumnElement[float] = sa.case(
        *((field, weight) for field, weight in zip(fields, _WEIGHTS, strict=True)), else_=0.0
    )
    found = session.execute(
        sa.select(_V.description_id, place)
        .where(sa.or_(*fields), _of_subject(subject))
        .order_by(place.desc(), *descending(_V.f1), _V.description_id)
        .limit(limit)
    )
    return {key: float(value) for key, value in found}


def _hit(row: Mapping[Any, Any], words: Sequence[str], needle: str, score: float) -> SearchHit:
    # Marked here rather than by the database, so that both mark alike. A word is matched by its first letters, since
    # the database matches stems ('articles' and 'article').
    stems = [re.escape(word[: max(3, len(word) - 3)]) for word in words]
    wanted = re.compile(rf"\b(?:{'|'.join(stems)})\w*" if stems else re.escape(needle), re.IGNORECASE)
    found = {name: [match.span() for match in wanted.finditer(row[name] or "")] for name in FIELDS}
    literal = re.compile(re.escape(needle), re.IGNORECASE)
    if not any(found.values()):
        found = {name: [match.span() for match in literal.finditer(row[name] or "")] for name in FIELDS}
    field = next((name for name in FIELDS if found[name]), "label")
    text: str = row[field]
    first = found[field][0][0] if found[field] else 0
    start = max(0, min(first - _SNIPPET // 3, len(text) - _SNIPPET))
    end = min(len(text), start + _SNIPPET)
    head, tail = "…" if start else "", "…" if end < len(text) else ""
    spans = [
        (low - start + len(head), min(high, end) - start + len(head))
        for low, high in found[field]
        if start <= low < end
    ]
    return SearchHit(described(row), field, head + text[start:end] + tail, spans, score)
