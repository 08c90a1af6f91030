"""Conversations: begun, and written one message at a time; `store.queries.chats` reads them.

Nothing is ever changed or taken away: what was said, asked of a tool and answered stays as it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from store import schema
from store.database import Database
from store.errors import StoreError

#: Who speaks: the person, the explainer, a tool that was used.
ROLES = ("user", "assistant", "tool")
#: Characters of a conversation's title.
TITLE = 120


def start_chat(db: Database, title: str, *, subject_id: int | None = None) -> int:
    """Begins a conversation and returns its id.

    Args:
        db: the database.
        title: what it is listed as; cut to `TITLE` characters.
        subject_id: the model that it is about, if that is known.
    """
    words = " ".join(title.split())
    shown = words if len(words) <= TITLE else words[: TITLE - 1] + "…"
    with db.transaction() as session:
        row = schema.Chat(title=shown, subject_id=subject_id)
        session.add(row)
        session.flush()
        return row.id


def add_message(
    db: Database, chat_id: int, role: str, content: str, payload: Mapping[str, Any] | None = None,
    *, now: dt.datetime | None = None,
) -> int:  # fmt: skip
    """Adds a message to the end of a conversation and returns its position there, counted from 1.

    Args:
        db: the database.
        chat_id: the conversation.
        role: one of `ROLES`.
        content: what was said; of a tool, what came of it in a sentence.
        payload: what belongs to it: a tool's arguments and result, the rows that an answer cites.
        now: the moment; None for the present one.

    Raises:
        StoreError: there is no such conversation, or no such role.
    """
    if role not in ROLES:
        raise StoreError(f"the role of a message is '{role}', but must be one of: {', '.join(ROLES)}.")
    with db.transaction() as session:
        # Locks the conversation on Postgres, so that two writers do not take the same place.
        known = session.execute(sa.select(schema.Chat.id).where(schema.Chat.id == chat_id).with_for_update()).scalar()
        if known is None:
            raise no_chat(db, chat_id)
        last = session.execute(
            sa.select(sa.func.max(schema.ChatMessage.position)).where(schema.ChatMessage.chat_id == chat_id)
        ).scalar()
        position = (last or 0) + 1
        session.add(
            schema.ChatMessage(
                chat_id=chat_id, position=position, role=role, content=content, payload=dict(payload or {}),
                created_at=now or schema.utc_now(),
            )
        )  # fmt: skip
        return position


def no_chat(db: Database, chat_id: int) -> StoreError:
    """The error of whoever asks for a conversation that is not there."""
    return StoreError(f"There is no chat {chat_id} in {db.url}. `neurogloss chat --list` shows those there are.")
