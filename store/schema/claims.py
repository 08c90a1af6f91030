"""What was supposed, tested and asserted: hypotheses, experiments, observations, descriptions and scores."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from store.records import EXPERIMENT_STATUSES, OUTPUT_KINDS, POLARITIES, VERDICTS
from store.schema.base import Base, Created, Key, one_of


class Hypothesis(Base):
    """One of the rivals that an investigation considered."""

    __tablename__ = "hypotheses"
    __table_args__ = (sa.UniqueConstraint("investigation_id", "key"), one_of("polarity", POLARITIES))

    id: Mapped[Key]
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    key: Mapped[str]
    position: Mapped[int]
    polarity: Mapped[str]
    explainer: Mapped[str]
    label: Mapped[str]
    input_half: Mapped[str]
    output_half: Mapped[str | None]
    exceptions: Mapped[str | None]
    rule: Mapped[str | None]
    status: Mapped[str]
    details: Mapped[dict[str, Any]]


class Experiment(Base):
    """A test that was run on the subject."""

    __tablename__ = "experiments"
    __table_args__ = (sa.UniqueConstraint("investigation_id", "position"), one_of("status", EXPERIMENT_STATUSES))

    id: Mapped[Key]
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(index=True)
    arguments: Mapped[dict[str, Any]]
    seed: Mapped[int | None] = mapped_column(sa.BigInteger)
    status: Mapped[str]
    error: Mapped[str | None]
    digest: Mapped[str | None]
    seconds: Mapped[float]


class Observation(Base):
    """What an experiment brought back, as it bears on one hypothesis or on none."""

    __tablename__ = "observations"
    __table_args__ = (sa.UniqueConstraint("experiment_id", "position"), one_of("outcome", VERDICTS))

    id: Mapped[Key]
    experiment_id: Mapped[int] = mapped_column(sa.ForeignKey("experiments.id", ondelete="CASCADE"))
    position: Mapped[int]
    hypothesis_id: Mapped[int | None] = mapped_column(sa.ForeignKey("hypotheses.id", ondelete="CASCADE"), index=True)
    summary: Mapped[str]
    outcome: Mapped[str | None]
    data: Mapped[dict[str, Any]]


class Description(Base):
    """What is asserted about one tail of a unit."""

    __tablename__ = "descriptions"
    __table_args__ = (
        sa.UniqueConstraint("investigation_id", "polarity", "rank", "version"),
        one_of("polarity", POLARITIES),
        one_of("verdict_input", VERDICTS),
        one_of("verdict_output", VERDICTS),
        one_of("output_kind", OUTPUT_KINDS),
    )

    id: Mapped[Key]
    unit_id: Mapped[int] = mapped_column(sa.ForeignKey("units.id", ondelete="CASCADE"), index=True)
    campaign_id: Mapped[int] = mapped_column(sa.ForeignKey("campaigns.id", ondelete="CASCADE"), index=True)
    investigation_id: Mapped[int] = mapped_column(sa.ForeignKey("investigations.id", ondelete="CASCADE"))
    hypothesis_id: Mapped[int | None] = mapped_column(sa.ForeignKey("hypotheses.id", ondelete="SET NULL"))
    polarity: Mapped[str]
    rank: Mapped[int]
    version: Mapped[int]
    superseded_by: Mapped[int | None] = mapped_column(sa.ForeignKey("descriptions.id", ondelete="SET NULL"))
    label: Mapped[str]
    input_half: Mapped[str]
    output_half: Mapped[str | None]
    exceptions: Mapped[str | None]
    rule: Mapped[str | None]
    explainer: Mapped[str] = mapped_column(index=True)
    claim: Mapped[str]
    verdict_input: Mapped[str] = mapped_column(index=True)
    verdict_output: Mapped[str] = mapped_column(index=True)
    output_kind: Mapped[str | None] = mapped_column(index=True)
    details: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class Score(Base):
    """One metric of a description, with its uncertainty and its null. One headline row a metric and split."""

    __tablename__ = "scores"
    __table_args__ = (
        sa.UniqueConstraint("description_id", "metric", "split", "predictor", "protocol_hash"),
        sa.Index(
            "ix_scores_headline", "description_id", "metric", "split", unique=True,
            sqlite_where=sa.text("headline"), postgresql_where=sa.text("headline"),
        ),
        sa.Index("ix_scores_value", "metric", "value"),
    )  # fmt: skip

    id: Mapped[Key]
    description_id: Mapped[int] = mapped_column(sa.ForeignKey("descriptions.id", ondelete="CASCADE"))
    metric: Mapped[str]
    split: Mapped[str]
    predictor: Mapped[str]
    protocol_hash: Mapped[str]
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n_examples: Mapped[int]
    n_documents: Mapped[int]
    null_mean: Mapped[float | None]
    p_value: Mapped[float | None]
    e_value: Mapped[float | None]
    q_value: Mapped[float | None]
    unparseable: Mapped[float]
    headline: Mapped[bool]
    cost: Mapped[dict[str, Any]]
    created_at: Mapped[Created]
