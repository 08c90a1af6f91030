"""Rows of evidence that were withdrawn, and views that leave them out.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# What is withdrawn and was not put back since.
INVALID_ROWS = """
CREATE VIEW invalid_rows AS
SELECT i.id AS invalidation_id, i.campaign_id, i.score_id, i.experiment_id, i.observation_id, i.reason, i.created_at
FROM invalidations i
WHERE i.action = 'invalidated' AND NOT EXISTS (
    SELECT 1 FROM invalidations later
    WHERE later.id > i.id AND (
        later.score_id = i.score_id OR later.experiment_id = i.experiment_id
        OR later.observation_id = i.observation_id
    )
)
"""

ALL_DESCRIPTIONS = """
CREATE VIEW all_descriptions AS
SELECT
    d.id AS description_id, s.id AS subject_id, s.name AS subject, s.fingerprint, c.id AS campaign_id,
    c.name AS campaign, d.investigation_id, u.id AS unit_id, u.unit, u.kind, u.layer, u.dictionary, u.unit_index,
    u.state, u.density, u.maximum, d.polarity, d.rank, d.version, d.label, d.input_half, d.output_half, d.exceptions,
    d.rule, d.explainer, d.verdict_input, d.verdict_output, d.output_kind, h.f1, h.f1_low, h.f1_high, h.f1_null,
    h.f1_p, h.f1_q, h.average_precision, h.pearson, d.created_at, i.control, i.control_of
FROM descriptions d
JOIN investigations i ON i.id = d.investigation_id
JOIN units u ON u.id = d.unit_id
JOIN subjects s ON s.id = u.subject_id
JOIN campaigns c ON c.id = d.campaign_id
LEFT JOIN (
    SELECT
        description_id,
        max(CASE WHEN metric = 'weighted_f1' THEN value END) AS f1,
        max(CASE WHEN metric = 'weighted_f1' THEN low END) AS f1_low,
        max(CASE WHEN metric = 'weighted_f1' THEN high END) AS f1_high,
        max(CASE WHEN metric = 'weighted_f1' THEN null_mean END) AS f1_null,
        max(CASE WHEN metric = 'weighted_f1' THEN p_value END) AS f1_p,
        max(CASE WHEN metric = 'weighted_f1' THEN q_value END) AS f1_q,
        max(CASE WHEN metric = 'average_precision' THEN value END) AS average_precision,
        max(CASE WHEN metric = 'pearson' THEN value END) AS pearson
    FROM scores
    WHERE headline AND split = 'score'
        AND id NOT IN (SELECT score_id FROM invalid_rows WHERE score_id IS NOT NULL)
    GROUP BY description_id
) h ON h.description_id = d.id
WHERE d.superseded_by IS NULL AND d.rank = 1
"""

# As they were; they go with the view that they select from.
CURRENT_DESCRIPTIONS = "CREATE VIEW current_descriptions AS SELECT * FROM all_descriptions WHERE control IS NULL"

BEST_DESCRIPTIONS = """
CREATE VIEW best_descriptions AS
SELECT * FROM (
    SELECT d.*, row_number() OVER (
        PARTITION BY d.unit_id, d.polarity
        ORDER BY
            CASE d.verdict_input WHEN 'supported' THEN 0 WHEN 'refuted' THEN 2 ELSE 1 END,
            CASE WHEN d.f1 IS NULL THEN 1 ELSE 0 END, d.f1 DESC, d.rank, d.description_id DESC
    ) AS place
    FROM current_descriptions d
) ranked
WHERE place = 1
"""


def upgrade() -> None:
    """A table, a view of what it comes to, then the views of descriptions anew."""
    rows = ("score", "experiment", "observation")
    op.create_table(
        "invalidations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        *(sa.Column(f"{row}_id", sa.Integer()) for row in rows),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invalidations"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_invalidations_campaign_id", ondelete="CASCADE"
        ),
        *(
            sa.ForeignKeyConstraint(
                [f"{row}_id"], [f"{row}s.id"], name=f"fk_invalidations_{row}_id", ondelete="CASCADE"
            )
            for row in rows
        ),
        sa.CheckConstraint("action IN ('invalidated', 'reinstated')", name="ck_invalidations_action"),
        sa.CheckConstraint(
            "(CASE WHEN score_id IS NULL THEN 0 ELSE 1 END) + (CASE WHEN experiment_id IS NULL THEN 0 ELSE 1 END) "
            "+ (CASE WHEN observation_id IS NULL THEN 0 ELSE 1 END) = 1",
            name="ck_invalidations_one_row",
        ),
    )
    for row in ("campaign", *rows):
        op.create_index(f"ix_invalidations_{row}_id", "invalidations", [f"{row}_id"])
    for view in ("best_descriptions", "current_descriptions", "all_descriptions"):
        op.execute(f"DROP VIEW {view}")
    for statement in (INVALID_ROWS, ALL_DESCRIPTIONS, CURRENT_DESCRIPTIONS, BEST_DESCRIPTIONS):
        op.execute(statement)
