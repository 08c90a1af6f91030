"""A campaign's descriptions tested again on other versions of its subject.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables."""
    op.create_table(
        "rechecks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("openings", sa.JSON(), nullable=False),
        sa.Column("distance", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rechecks"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_rechecks_campaign_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["subject_id"], ["subjects.id"], name="fk_rechecks_subject_id", ondelete="CASCADE"),
    )
    op.create_index("ix_rechecks_campaign_id", "rechecks", ["campaign_id"])
    op.create_table(
        "rechecked",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recheck_id", sa.Integer(), nullable=False),
        sa.Column("description_id", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("unit", "polarity", "status", "why")),
        sa.Column("moved_to", sa.Text()),
        sa.Column("also", sa.JSON(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("similarity", "slope")),
        *(
            sa.Column(name, sa.Double())
            for name in ("write_cosine", "f1_old", "f1_new", "difference", "low", "high")
        ),
        sa.Column("n_active", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rechecked"),
        sa.UniqueConstraint("recheck_id", "description_id", name="uq_rechecked_recheck_id_description_id"),
        sa.ForeignKeyConstraint(
            ["recheck_id"], ["rechecks.id"], name="fk_rechecked_recheck_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["description_id"], ["descriptions.id"], name="fk_rechecked_description_id",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("polarity IN ('+', '-')", name="ck_rechecked_polarity"),
        sa.CheckConstraint("status IN ('stable', 'weakened', 'moved', 'gone')", name="ck_rechecked_status"),
    )  # fmt: skip
    op.create_index("ix_rechecked_description_id", "rechecked", ["description_id"])
