"""What came of the steps of investigations, kept so that they can be played back."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.schema.base import Base, Created, Key


class Recording(Base):
    """What one step of an investigation came to, given all that was known before it."""

    __tablename__ = "recordings"
    __table_args__ = (sa.UniqueConstraint("investigation_id", "key"),)

    id: Mapped[Key]
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    step: Mapped[str]
    key: Mapped[str]
    """Digest of what was known before it."""
    digest: Mapped[str]
    """Of what came of it."""
    data: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """JSON, compressed."""
    created_at: Mapped[Created]
