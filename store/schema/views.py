"""The views, as tables to select from. Their definitions are in the migrations."""

from __future__ import annotations

import sqlalchemy as sa

from store.schema.base import UtcDateTime

_METADATA = sa.MetaData()


def _described(name: str, *more: sa.Column[int]) -> sa.Table:
    texts = (
        "subject", "fingerprint", "campaign", "unit", "kind", "dictionary", "state", "polarity", "label", "input_half",
        "output_half", "exceptions", "rule", "explainer", "verdict_input", "verdict_output", "output_kind", "control",
        "control_of",
    )  # fmt: skip
    numbers = (
        "description_id", "subject_id", "campaign_id", "investigation_id", "unit_id", "layer", "unit_index", "rank",
        "version",
    )  # fmt: skip
    floats = (
        "density", "maximum", "f1", "f1_low", "f1_high", "f1_null", "f1_p", "f1_q", "average_precision", "pearson",
    )  # fmt: skip
    return sa.Table(
        name,
        _METADATA,
        *(sa.Column(column, sa.Text) for column in texts),
        *(sa.Column(column, sa.Integer) for column in numbers),
        *(sa.Column(column, sa.Double) for column in floats),
        sa.Column("created_at", UtcDateTime),
        *more,
    )


#: With the blind controls among them, which the others leave out.
all_descriptions = _described("all_descriptions")
current_descriptions = _described("current_descriptions")
best_descriptions = _described("best_descriptions", sa.Column("place", sa.Integer))
#: What is withdrawn from the evidence, and was not put back since.
invalid_rows = sa.Table(
    "invalid_rows",
    _METADATA,
    *(
        sa.Column(column, sa.Integer)
        for column in ("invalidation_id", "campaign_id", "score_id", "experiment_id", "observation_id")
    ),
    sa.Column("reason", sa.Text),
    sa.Column("created_at", UtcDateTime),
)
_COUNTS = (
    "campaign_id", "investigations", "pending", "leased", "done", "failed", "skipped", "controls", "tool_calls",
    "tokens", "llm_calls", "descriptions", "supported",
)  # fmt: skip
campaign_summary = sa.Table(
    "campaign_summary",
    _METADATA,
    *(sa.Column(column, sa.Text) for column in ("campaign", "subject", "status")),
    *(sa.Column(column, sa.BigInteger) for column in _COUNTS),
    *(sa.Column(column, UtcDateTime) for column in ("created_at", "finished_at")),
    *(sa.Column(column, sa.Double) for column in ("seconds", "dollars")),
)
