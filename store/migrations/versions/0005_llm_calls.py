"""Calls to language models: who asked and for which claim, what was sent how often, each kept once an investigation.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Plain statements, as in the step before, and for the same reason.
CALLS = (
    "ALTER TABLE llm_calls ADD COLUMN asker TEXT",
    "ALTER TABLE llm_calls ADD COLUMN polarity TEXT CONSTRAINT ck_llm_calls_polarity CHECK (polarity IN ('+', '-'))",
    "ALTER TABLE llm_calls ADD COLUMN salt INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE llm_calls ADD COLUMN attempts INTEGER DEFAULT 1 NOT NULL",
    "ALTER TABLE llm_calls ADD COLUMN cached_tokens BIGINT DEFAULT 0 NOT NULL",
    # Calls are in the order of their ids.
    "ALTER TABLE llm_calls DROP COLUMN position",
)

INVESTIGATIONS = (
    "ALTER TABLE investigations ADD COLUMN forgiven INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE investigations ADD COLUMN llm_calls INTEGER DEFAULT 0 NOT NULL",
)

# An answer that was known already costs nothing.
CACHED = """
UPDATE llm_calls SET attempts = 0, prompt_tokens = 0, completion_tokens = 0, seconds = 0, cost_usd = NULL WHERE cached
"""

# Of equal calls of one investigation the first that has an answer stays, with the cost of all of them.
KEPT = """
SELECT c.id FROM llm_calls c WHERE c.investigation_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM llm_calls o
    WHERE o.investigation_id = c.investigation_id AND o.request_hash = c.request_hash AND o.id <> c.id
    AND CASE
        WHEN (o.response IS NULL) = (c.response IS NULL) THEN o.id < c.id
        ELSE o.response IS NOT NULL
    END
)
"""
SAME = (
    "SELECT {what} FROM llm_calls o WHERE o.investigation_id = c.investigation_id AND o.request_hash = c.request_hash"
)
ADDED = ("attempts", "prompt_tokens", "completion_tokens", "seconds", "cost_usd")

SPENT = """
UPDATE investigations SET
    llm_calls = (SELECT count(*) FROM llm_calls c WHERE c.investigation_id = investigations.id AND c.attempts > 0),
    dollars = (SELECT sum(c.cost_usd) FROM llm_calls c WHERE c.investigation_id = investigations.id)
"""

INDEXES = (
    "DROP INDEX ix_llm_calls_investigation_id",
    "CREATE UNIQUE INDEX ix_llm_calls_once ON llm_calls (investigation_id, request_hash)",
)

# As it was, with calls and dollars.
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
        WHERE d.campaign_id = c.id AND d.superseded_by IS NULL AND j.control IS NULL) AS descriptions,
    (SELECT count(*) FROM descriptions d JOIN investigations j ON j.id = d.investigation_id
        WHERE d.campaign_id = c.id AND d.superseded_by IS NULL AND j.control IS NULL
        AND d.verdict_input = 'supported') AS supported
FROM campaigns c
LEFT JOIN investigations i ON i.campaign_id = c.id
LEFT JOIN subjects s ON s.id = c.subject_id
GROUP BY c.id, c.name, s.name, c.status, c.created_at, c.finished_at
"""


def upgrade() -> None:
    """Add the columns, make each call the only one of its hash, sum up, and make the view anew."""
    op.execute("DROP VIEW campaign_summary")
    for statement in (*CALLS, *INVESTIGATIONS, CACHED):
        op.execute(statement)
    op.add_column("investigations", sa.Column("dollars", sa.Double()))
    _merge_equal_calls()
    for statement in (SPENT, *INDEXES, CAMPAIGN_SUMMARY):
        op.execute(statement)


def _merge_equal_calls() -> None:
    connection = op.get_bind()
    sums = ", ".join(f"({SAME.format(what=f'sum(o.{name})')}) AS {name}" for name in ADDED)
    repeated = f"c.id IN ({KEPT}) AND ({SAME.format(what='count(*)')}) > 1"
    for row in connection.execute(sa.text(f"SELECT c.id, {sums} FROM llm_calls c WHERE {repeated}")).mappings().all():
        changed = ", ".join(f"{name} = :{name}" for name in ADDED)
        connection.execute(sa.text(f"UPDATE llm_calls SET {changed} WHERE id = :id"), dict(row))
    op.execute(f"DELETE FROM llm_calls WHERE investigation_id IS NOT NULL AND id NOT IN ({KEPT})")
