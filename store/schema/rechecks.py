"""A campaign's frozen tests on another version of its subject."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.records import POLARITIES, RECHECK_STATUSES
from store.schema.base import Base, Created, Key, one_of


class Recheck(Base):
    """One run of a campaign's tests on another subject."""

    __tablename__ = "rechecks"

    id: Mapped[Key]
    campaign_id: Mapped[int] = mapped_column(sa.ForeignKey("campaigns.id", ondelete="CASCADE"), index=True)
    subject_id: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id", ondelete="CASCADE"))
    dtype: Mapped[str]
    openings: Mapped[list[Any]] = mapped_column(sa.JSON)
    distance: Mapped[dict[str, Any]]
    seconds: Mapped[float | None]
    created_at: Mapped[Created]


class Rechecked(Base):
    """What became of one description."""

    __tablename__ = "rechecked"
    __table_args__ = (
        sa.UniqueConstraint("recheck_id", "description_id"),
        one_of("polarity", POLARITIES),
        one_of("status", RECHECK_STATUSES),
    )

    id: Mapped[Key]
    recheck_id: Mapped[int] = mapped_column(sa.ForeignKey("rechecks.id", ondelete="CASCADE"))
    description_id: Mapped[int] = mapped_column(sa.ForeignKey("descriptions.id", ondelete="CASCADE"), index=True)
    unit: Mapped[str]
    polarity: Mapped[str]
    status: Mapped[str]
    why: Mapped[str]
    moved_to: Mapped[str | None]
    also: Mapped[list[str]]
    similarity: Mapped[float]
    slope: Mapped[float]
    write_cosine: Mapped[float | None]
    f1_old: Mapped[float | None]
    f1_new: Mapped[float | None]
    difference: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n_active: Mapped[int]
