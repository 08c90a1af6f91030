"""Full-text search over descriptions, and the views that people ask most.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The index keeps no copy of the text (content=descriptions); triggers keep it in step whoever writes.
SQLITE_SEARCH = (
    """
    CREATE VIRTUAL TABLE descriptions_fts USING fts5(
        label, input_half, output_half, exceptions, rule,
        content='descriptions', content_rowid='id', tokenize="porter unicode61 remove_diacritics 2 tokenchars '_'"
    )
    """,
    """
    CREATE TRIGGER descriptions_fts_insert AFTER INSERT ON descriptions BEGIN
        INSERT INTO descriptions_fts (rowid, label, input_half, output_half, exceptions, rule)
        VALUES (new.id, new.label, new.input_half, new.output_half, new.exceptions, new.rule);
    END
    """,
    """
    CREATE TRIGGER descriptions_fts_delete AFTER DELETE ON descriptions BEGIN
        INSERT INTO descriptions_fts (descriptions_fts, rowid, label, input_half, output_half, exceptions, rule)
        VALUES ('delete', old.id, old.label, old.input_half, old.output_half, old.exceptions, old.rule);
    END
    """,
    """
    CREATE TRIGGER descriptions_fts_update
    AFTER UPDATE OF label, input_half, output_half, exceptions, rule ON descriptions BEGIN
        INSERT INTO descriptions_fts (descriptions_fts, rowid, label, input_half, output_half, exceptions, rule)
        VALUES ('delete', old.id, old.label, old.input_half, old.output_half, old.exceptions, old.rule);
        INSERT INTO descriptions_fts (rowid, label, input_half, output_half, exceptions, rule)
        VALUES (new.id, new.label, new.input_half, new.output_half, new.exceptions, new.rule);
    END
    """,
)

POSTGRES_SEARCH = (
    """
    CREATE INDEX descriptions_fts ON descriptions USING gin (to_tsvector('english',
        label || ' ' || input_half || ' ' || coalesce(output_half, '') || ' ' || coalesce(exceptions, '') || ' '
        || coalesce(rule, '')))
    """,
)

# A description has at most one headline row for each metric and split (a unique index says so), so max() below only
# turns rows into columns: it never chooses the best of several.
CURRENT_DESCRIPTIONS = """
CREATE VIEW current_descriptions AS
SELECT
    d.id AS description_id, s.id AS subject_id, s.name AS subject, s.fingerprint, c.id AS campaign_id,
    c.name AS campaign, d.investigation_id, u.id AS unit_id, u.unit, u.kind, u.layer, u.dictionary, u.unit_index,
    u.state, u.density, u.maximum, d.polarity, d.rank, d.version, d.label, d.input_half, d.output_half, d.exceptions,
    d.rule, d.explainer, d.verdict_input, d.verdict_output, h.f1, h.f1_low, h.f1_high, h.f1_null, h.f1_p, h.f1_q,
    h.average_precision, h.pearson, d.created_at
FROM descriptions d
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

# Of each unit's tail: a supported description before an inconclusive or untested before a refuted one, then by F1.
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

CAMPAIGN_SUMMARY = """
CREATE VIEW campaign_summary AS
SELECT
    c.id AS campaign_id, c.name AS campaign, s.name AS subject, c.status, c.created_at, c.finished_at,
    count(i.id) AS investigations,
    sum(CASE WHEN i.status = 'pending' THEN 1 ELSE 0 END) AS pending,
    sum(CASE WHEN i.status = 'leased' THEN 1 ELSE 0 END) AS leased,
    sum(CASE WHEN i.status = 'done' THEN 1 ELSE 0 END) AS done,
    sum(CASE WHEN i.status = 'failed' THEN 1 ELSE 0 END) AS failed,
    sum(CASE WHEN i.status = 'skipped' THEN 1 ELSE 0 END) AS skipped,
    coalesce(sum(i.seconds), 0) AS seconds, coalesce(sum(i.tool_calls), 0) AS tool_calls,
    coalesce(sum(i.tokens), 0) AS tokens,
    (SELECT count(*) FROM descriptions d WHERE d.campaign_id = c.id AND d.superseded_by IS NULL) AS descriptions,
    (SELECT count(*) FROM descriptions d WHERE d.campaign_id = c.id AND d.superseded_by IS NULL
        AND d.verdict_input = 'supported') AS supported
FROM campaigns c
LEFT JOIN investigations i ON i.campaign_id = c.id
LEFT JOIN subjects s ON s.id = c.subject_id
GROUP BY c.id, c.name, s.name, c.status, c.created_at, c.finished_at
"""


def upgrade() -> None:
    """Make the search index of this database's kind, then the views."""
    search = SQLITE_SEARCH if op.get_bind().dialect.name == "sqlite" else POSTGRES_SEARCH
    for statement in (*search, CURRENT_DESCRIPTIONS, BEST_DESCRIPTIONS, CAMPAIGN_SUMMARY):
        op.execute(statement)
