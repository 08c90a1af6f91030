"""What kind of claim a description makes about the output, as a column to filter on.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A plain statement, as in the steps before, and for the same reason. Descriptions that are there already were made
# without a claim that could be tested.
COLUMN = """
ALTER TABLE descriptions ADD COLUMN output_kind TEXT CONSTRAINT ck_descriptions_output_kind
    CHECK (output_kind IN ('changes', 'varies', 'later', 'nothing', 'untested'))
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
    GROUP BY description_id
) h ON h.description_id = d.id
WHERE d.superseded_by IS NULL
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
    """Add the column, then make the views anew."""
    op.execute(COLUMN)
    op.execute("CREATE INDEX ix_descriptions_output_kind ON descriptions (output_kind)")
    for view in ("best_descriptions", "current_descriptions", "all_descriptions"):
        op.execute(f"DROP VIEW {view}")
    for statement in (ALL_DESCRIPTIONS, CURRENT_DESCRIPTIONS, BEST_DESCRIPTIONS):
        op.execute(statement)
