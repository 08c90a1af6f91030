"""Conversations: the list, and one in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from store import schema
from store.chats import no_chat
from store.database import Database
from store.rows import moment

Json = dict[str, Any]


@dataclass(frozen=True)
class MessageRow:
    """One message of a conversation."""

    message_id: int
    position: int
    """Counted from 1; a tool's result is cited by it, as ``[result:POSITION]``."""
    role: str
    """'user', 'assistant' or 'tool'."""
    content: str
    payload: Json
    created_at: str | None


@dataclass(frozen=True)
class ChatRow:
    """A conversation in the list."""

    chat_id: int
    title: str
    subject: str | None
    questions: int
    """Turns of the person."""
    tool_uses: int
    created_at: str | None
    last_at: str | None
    """Of the last message."""


def list_chats(db: Database, limit: int | None = 50) -> list[ChatRow]:
    """Conversations, the one that was last spoken in first."""
    chat, message, subject = schema.Chat, schema.ChatMessage, schema.Subject
    last = sa.func.max(message.created_at)

    def number(role: str) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((message.role == role, 1), else_=0)), 0)

    query = (
        sa.select(chat.id, chat.title, subject.name, chat.created_at, number("user"), number("tool"), last)
        .outerjoin(message, message.chat_id == chat.id)
        .outerjoin(subject, subject.id == chat.subject_id)
        .group_by(chat.id, chat.title, subject.name, chat.created_at)
        .order_by(sa.func.coalesce(last, chat.created_at).desc(), chat.id.desc())
        .limit(limit)
    )
    with db.session() as session:
        return [
            ChatRow(key, title, name, int(asked), int(used), moment(begun), moment(ended))
            for key, title, name, begun, asked, used, ended in session.execute(query)
        ]


def chat_messages(db: Database, chat_id: int, *, after: int = 0) -> list[MessageRow]:
    """The messages of a conversation, in their order.

    Args:
        db: the database.
        chat_id: the conversation.
        after: only those behind this position.

    Raises:
        StoreError: there is no such conversation.
    """
    message = schema.ChatMessage
    with db.session() as session:
        if session.get(schema.Chat, chat_id) is None:
            raise no_chat(db, chat_id)
        rows = session.scalars(
            sa.select(message).where(message.chat_id == chat_id, message.position > after).order_by(message.position)
        )
        return [
            MessageRow(row.id, row.position, row.role, row.content, row.payload, moment(row.created_at)) for row in rows
        ]
