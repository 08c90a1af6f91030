"""The work: campaigns, investigations, and the calls to language models that they made."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.records import CONTROLS, EXPERIMENT_STATUSES, INVESTIGATION_STATUSES, POLARITIES
from store.schema.base import Base, Big, Created, Key, one_of

CAMPAIGN_STATUSES = ("open", "done")


class Campaign(Base):
    """A set of units with one plan and one budget."""

    __tablename__ = "campaigns"
    __table_args__ = (one_of("status", CAMPAIGN_STATUSES),)

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str] = mapped_column(index=True)
    seed: Mapped[Big]
    status: Mapped[str] = mapped_column(default="open")
    subject_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subjects.id", ondelete="SET NULL"), index=True)
    corpus_id: Mapped[int | None] = mapped_column(sa.ForeignKey("corpora.id", ondelete="SET NULL"))
    index_id: Mapped[int | None] = mapped_column(sa.ForeignKey("indexes.id", ondelete="SET NULL"))
    budget: Mapped[dict[str, Any]]
    estimates: Mapped[dict[str, Any]]
    outcome: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    created_at: Mapped[Created]
    finished_at: Mapped[dt.datetime | None]


class Investigation(Base):
    """The work on one unit: pending, leased by a process, then done, failed or skipped."""

    __tablename__ = "investigations"
    __table_args__ = (
        sa.UniqueConstraint("campaign_id", "unit_id"),
        sa.Index("ix_investigations_queue", "campaign_id", "status", "attempts", "id"),
        one_of("status", INVESTIGATION_STATUSES),
        one_of("control", CONTROLS),
        sa.CheckConstraint("(control IS NULL) = (control_of IS NULL)", name="control_of"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[int] = mapped_column(sa.ForeignKey("campaigns.id", ondelete="CASCADE"))
    unit_id: Mapped[int] = mapped_column(sa.ForeignKey("units.id", ondelete="CASCADE"), index=True)
    status: Mapped[str] = mapped_column(default="pending")
    stage: Mapped[str | None]
    reason: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    forgiven: Mapped[int] = mapped_column(default=0)
    """Of these, those that no longer count, since failed investigations were put back."""
    leases: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_until: Mapped[dt.datetime | None]
    seconds: Mapped[float] = mapped_column(default=0.0)
    tool_calls: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[Big] = mapped_column(default=0)
    llm_calls: Mapped[int] = mapped_column(default=0)
    dollars: Mapped[float | None]
    control: Mapped[str | None]
    """What kind of blind control it is; null for the work on a unit that was asked for."""
    control_of: Mapped[str | None]
    """Id of the unit that a control is matched to, and that it passes for."""
    created_at: Mapped[Created]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]


class Opening(Base):
    """A sealed split was opened for one version of a claim; committed before the split is looked at."""

    __tablename__ = "openings"
    __table_args__ = (
        sa.UniqueConstraint("investigation_id", "polarity", "claim", "split"),
        one_of("polarity", POLARITIES),
    )

    id: Mapped[Key]
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    description_id: Mapped[int | None] = mapped_column(sa.ForeignKey("descriptions.id", ondelete="CASCADE"), index=True)
    claim: Mapped[str]
    polarity: Mapped[str]
    version: Mapped[int]
    split: Mapped[str]
    predictions: Mapped[str | None]
    """Digest of what was predicted of the split before; null where nothing was."""
    opened_by: Mapped[str]
    lease: Mapped[int]
    created_at: Mapped[Created]


class LlmCall(Base):
    """One request to a language model, kept once for each investigation that made it; its cost is what was spent."""

    __tablename__ = "llm_calls"
    __table_args__ = (
        sa.Index("ix_llm_calls_once", "investigation_id", "request_hash", unique=True),
        one_of("status", EXPERIMENT_STATUSES),
        one_of("polarity", POLARITIES),
    )

    id: Mapped[Key]
    investigation_id: Mapped[int | None] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    purpose: Mapped[str]
    asker: Mapped[str | None]
    polarity: Mapped[str | None]
    salt: Mapped[int]
    model: Mapped[str]
    request_hash: Mapped[str] = mapped_column(index=True)
    request: Mapped[dict[str, Any]]
    response: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    status: Mapped[str]
    error: Mapped[str | None]
    cached: Mapped[bool]
    attempts: Mapped[int]
    prompt_tokens: Mapped[Big]
    completion_tokens: Mapped[Big]
    cached_tokens: Mapped[Big]
    seconds: Mapped[float]
    cost_usd: Mapped[float | None]
    created_at: Mapped[Created]
