"""What people add: annotations (never overwriting anything) and conversations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.schema.base import Base, Created, Key


class Annotation(Base):
    """A person's note, vote or better wording for a unit or one of its descriptions."""

    __tablename__ = "annotations"

    id: Mapped[Key]
    unit_id: Mapped[int] = mapped_column(sa.ForeignKey("units.id", ondelete="CASCADE"), index=True)
    description_id: Mapped[int | None] = mapped_column(sa.ForeignKey("descriptions.id", ondelete="CASCADE"), index=True)
    author: Mapped[str]
    kind: Mapped[str]
    value: Mapped[float | None]
    text: Mapped[str | None]
    created_at: Mapped[Created]


class Chat(Base):
    """A conversation."""

    __tablename__ = "chats"

    id: Mapped[Key]
    title: Mapped[str]
    subject_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subjects.id", ondelete="SET NULL"))
    created_at: Mapped[Created]


class ChatMessage(Base):
    """One turn of a conversation; `payload` holds tool calls and the rows it cites."""

    __tablename__ = "chat_messages"
    __table_args__ = (sa.UniqueConstraint("chat_id", "position"),)

    id: Mapped[Key]
    chat_id: Mapped[int] = mapped_column(sa.ForeignKey("chats.id", ondelete="CASCADE"))
    position: Mapped[int]
    role: Mapped[str]
    content: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[Created]
