"""Runners-up stay out of the views and counts, and an opening tells what was predicted before it.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Digest of the predictions that were on record when the seal was opened; openings before had none.
COLUMN = "ALTER TABLE openings ADD COLUMN predictions TEXT"

# What is asserted of each tail alone: a runner-up was not tested, and would stand before what was refuted.
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

# As it was, but for the runners-up.
CAMPAIGN_SUMMARY = """
CREATE VIEW campaign_summary AS
SELECT
    c.id AS campaign_id, c.name AS campaign, s.name AS subject, c.status, c.created_at, c.finished_at,
    sum(CASE WHEN i.id IS NOT NULL AND i.control IS NULL THEN 1 ELSE 0 END) AS investigations,
    sum(CASE WHEN i.control IS NULL AND i.status = 'pending' THEN 1 ELSE 0 END) AS pending,
    sum(CASE WHEN i.control IS NULL AND i.status = 'leased' THEN 1 ELSE 0 END) AS leased,
    sum(CASE WHEN i.control IS NULL AND i.status = 'done' THEN 1 ELSE 0 END) AS done,
    sum(CASE WHEN i.control IS NULL AND i.status = 'failed' THEN 1 ELSE 0 END) AS failed,
    sum(CASE WHEN i.control IS NULL AND i.status = 'skipped' THEN 1 ELSE 0 END) AS skipped,
    sum(CASE WHEN i.control IS NOT NULL THEN 1 ELSE 0 END) AS controls,
    coalesce(sum(i.seconds), 0) AS seconds, coalesce(sum(i.tool_calls), 0) AS tool_calls,
    coalesce(sum(i.tokens), 0) AS tokens, coalesce(sum(i.llm_calls), 0) AS llm_calls, sum(i.dollars) AS dollars,
    (SELECT count(*) FROM descriptions d JOIN investigations j ON j.id = d.investigation_id
        WHERE d.campaign_id = c.id AND d.superseded_by IS NULL AND d.rank = 1 AND j.control IS NULL) AS descriptions,
    (SELECT count(*) FROM descriptions d JOIN investigations j ON j.id = d.investigation_id
        WHERE d.campaign_id = c.id AND d.superseded_by IS NULL AND d.rank = 1 AND j.control IS NULL
        AND d.verdict_input = 'supported') AS supported
FROM campaigns c
LEFT JOIN investigations i ON i.campaign_id = c.id
LEFT JOIN subjects s ON s.id = c.subject_id
GROUP BY c.id, c.name, s.name, c.status, c.created_at, c.finished_at
"""


def upgrade() -> None:
    """Add the column, then make the views anew."""
    op.execute(COLUMN)
    for view in ("best_descriptions", "current_descriptions", "all_descriptions", "campaign_summary"):
        op.execute(f"DROP VIEW {view}")
    for statement in (ALL_DESCRIPTIONS, CURRENT_DESCRIPTIONS, BEST_DESCRIPTIONS, CAMPAIGN_SUMMARY):
        op.execute(statement)
