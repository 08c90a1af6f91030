"""Rows of evidence that were withdrawn, and put back: nothing is deleted, what counts is the last word on each."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.records import INVALIDATION_ACTIONS
from store.schema.base import Base, Created, Key, one_of

#: Exactly one of the columns is set, in words that all databases know.
ONE_ROW = (
    " + ".join(
        f"(CASE WHEN {column} IS NULL THEN 0 ELSE 1 END)" for column in ("score_id", "experiment_id", "observation_id")
    )
    + " = 1"
)


class Invalidation(Base):
    """A score, an experiment or an observation does not count any more, or counts again."""

    __tablename__ = "invalidations"
    __table_args__ = (
        one_of("action", INVALIDATION_ACTIONS),
        sa.CheckConstraint(ONE_ROW, name="one_row"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[int] = mapped_column(sa.ForeignKey("campaigns.id", ondelete="CASCADE"), index=True)
    score_id: Mapped[int | None] = mapped_column(sa.ForeignKey("scores.id", ondelete="CASCADE"), index=True)
    experiment_id: Mapped[int | None] = mapped_column(sa.ForeignKey("experiments.id", ondelete="CASCADE"), index=True)
    observation_id: Mapped[int | None] = mapped_column(sa.ForeignKey("observations.id", ondelete="CASCADE"), index=True)
    action: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[Created]
