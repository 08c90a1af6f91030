"""What was found and what people add: hypotheses, tests, descriptions, scores, calls, annotations, chats.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "hypotheses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("investigation_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("polarity", sa.Text(), nullable=False),
        sa.Column("explainer", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("input_half", sa.Text(), nullable=False),
        sa.Column("output_half", sa.Text()),
        sa.Column("exceptions", sa.Text()),
        sa.Column("rule", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.CheckConstraint("polarity IN ('+', '-')", name="ck_hypotheses_polarity"),
        sa.ForeignKeyConstraint(
            ["investigation_id"], ["investigations.id"], name="fk_hypotheses_investigation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_hypotheses"),
        sa.UniqueConstraint("investigation_id", "key", name="uq_hypotheses_investigation_id_key"),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("investigation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("status IN ('done', 'failed')", name="ck_experiments_status"),
        sa.ForeignKeyConstraint(
            ["investigation_id"], ["investigations.id"], name="fk_experiments_investigation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("investigation_id", "position", name="uq_experiments_investigation_id_position"),
    )
    op.create_index("ix_experiments_kind", "experiments", ["kind"])
    op.create_table(
        "observations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("hypothesis_id", sa.Integer()),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('supported', 'refuted', 'inconclusive', 'untested')", name="ck_observations_outcome"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name="fk_observations_experiment_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["hypothesis_id"], ["hypotheses.id"], name="fk_observations_hypothesis_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_observations"),
        sa.UniqueConstraint("experiment_id", "position", name="uq_observations_experiment_id_position"),
    )
    op.create_index("ix_observations_hypothesis_id", "observations", ["hypothesis_id"])
    op.create_table(
        "descriptions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("unit_id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("investigation_id", sa.Integer(), nullable=False),
        sa.Column("hypothesis_id", sa.Integer()),
        sa.Column("polarity", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("superseded_by", sa.Integer()),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("input_half", sa.Text(), nullable=False),
        sa.Column("output_half", sa.Text()),
        sa.Column("exceptions", sa.Text()),
        sa.Column("rule", sa.Text()),
        sa.Column("explainer", sa.Text(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("verdict_input", sa.Text(), nullable=False),
        sa.Column("verdict_output", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("polarity IN ('+', '-')", name="ck_descriptions_polarity"),
        sa.CheckConstraint(
            "verdict_input IN ('supported', 'refuted', 'inconclusive', 'untested')",
            name="ck_descriptions_verdict_input",
        ),
        sa.CheckConstraint(
            "verdict_output IN ('supported', 'refuted', 'inconclusive', 'untested')",
            name="ck_descriptions_verdict_output",
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_descriptions_campaign_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["hypothesis_id"], ["hypotheses.id"], name="fk_descriptions_hypothesis_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["investigation_id"], ["investigations.id"], name="fk_descriptions_investigation_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"], ["descriptions.id"], name="fk_descriptions_superseded_by", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["unit_id"], ["units.id"], name="fk_descriptions_unit_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_descriptions"),
        sa.UniqueConstraint(
            "investigation_id",
            "polarity",
            "rank",
            "version",
            name="uq_descriptions_investigation_id_polarity_rank_version",
        ),
    )
    op.create_index("ix_descriptions_campaign_id", "descriptions", ["campaign_id"])
    op.create_index("ix_descriptions_explainer", "descriptions", ["explainer"])
    op.create_index("ix_descriptions_unit_id", "descriptions", ["unit_id"])
    op.create_index("ix_descriptions_verdict_input", "descriptions", ["verdict_input"])
    op.create_index("ix_descriptions_verdict_output", "descriptions", ["verdict_output"])
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("description_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("predictor", sa.Text(), nullable=False),
        sa.Column("protocol_hash", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("low", sa.Double()),
        sa.Column("high", sa.Double()),
        sa.Column("n_examples", sa.Integer(), nullable=False),
        sa.Column("n_documents", sa.Integer(), nullable=False),
        sa.Column("null_mean", sa.Double()),
        sa.Column("p_value", sa.Double()),
        sa.Column("e_value", sa.Double()),
        sa.Column("q_value", sa.Double()),
        sa.Column("unparseable", sa.Double(), nullable=False),
        sa.Column("headline", sa.Boolean(), nullable=False),
        sa.Column("cost", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["description_id"], ["descriptions.id"], name="fk_scores_description_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_scores"),
        sa.UniqueConstraint(
            "description_id",
            "metric",
            "split",
            "predictor",
            "protocol_hash",
            name="uq_scores_description_id_metric_split_predictor_protocol_hash",
        ),
    )
    op.create_index(
        "ix_scores_headline",
        "scores",
        ["description_id", "metric", "split"],
        unique=True,
        sqlite_where=sa.text("headline"),
        postgresql_where=sa.text("headline"),
    )
    op.create_index("ix_scores_value", "scores", ["metric", "value"])
    op.create_table(
        "openings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("investigation_id", sa.Integer(), nullable=False),
        sa.Column("description_id", sa.Integer()),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("polarity", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("polarity IN ('+', '-')", name="ck_openings_polarity"),
        sa.ForeignKeyConstraint(
            ["description_id"], ["descriptions.id"], name="fk_openings_description_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["investigation_id"], ["investigations.id"], name="fk_openings_investigation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_openings"),
        sa.UniqueConstraint(
            "investigation_id", "polarity", "claim", "split", name="uq_openings_investigation_id_polarity_claim_split"
        ),
    )
    op.create_index("ix_openings_description_id", "openings", ["description_id"])
    op.create_table(
        "llm_calls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("investigation_id", sa.Integer()),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("response", sa.JSON(none_as_null=True)),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('done', 'failed')", name="ck_llm_calls_status"),
        sa.ForeignKeyConstraint(
            ["investigation_id"], ["investigations.id"], name="fk_llm_calls_investigation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_llm_calls"),
    )
    op.create_index("ix_llm_calls_investigation_id", "llm_calls", ["investigation_id"])
    op.create_index("ix_llm_calls_request_hash", "llm_calls", ["request_hash"])
    op.create_table(
        "annotations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("unit_id", sa.Integer(), nullable=False),
        sa.Column("description_id", sa.Integer()),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("text", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["description_id"], ["descriptions.id"], name="fk_annotations_description_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["unit_id"], ["units.id"], name="fk_annotations_unit_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_annotations"),
    )
    op.create_index("ix_annotations_description_id", "annotations", ["description_id"])
    op.create_index("ix_annotations_unit_id", "annotations", ["unit_id"])
    op.create_table(
        "chats",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["subject_id"], ["subjects.id"], name="fk_chats_subject_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_chats"),
    )
    op.create_table(
        "chat_messages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_chat_messages_chat_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_chat_messages"),
        sa.UniqueConstraint("chat_id", "position", name="uq_chat_messages_chat_id_position"),
    )
