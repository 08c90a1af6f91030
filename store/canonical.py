"""What a campaign found, free of how it came about: to tell whether two databases say the same.

Left out: row ids, moments, costs, attempts, owners, paths, and the order in which investigations ended. Of calls to
language models only those of the last attempt count, without what a server puts into an answer to tell it from others.
A campaign that was killed and resumed, or replayed elsewhere, has the same content as one that ran through, and the
same hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.campaigns import get_campaign
from store.database import Database

_UNIT = (
    "unit", "kind", "layer", "dictionary", "unit_index", "state", "duplicate_of", "density", "minimum", "maximum",
    "mean", "variance", "n_tokens", "statistics", "profile",
)  # fmt: skip
_EXAMPLE = (
    "split", "source", "polarity", "rank", "document", "context", "start", "peak", "activation", "weight", "tokens",
    "activations",
)  # fmt: skip
_HYPOTHESIS = (
    "key", "position", "polarity", "explainer", "label", "input_half", "output_half", "exceptions", "rule", "status",
    "details",
)  # fmt: skip
_EXPERIMENT = ("position", "kind", "arguments", "seed", "status", "error", "digest")
_OBSERVATION = ("position", "summary", "outcome", "data")
_DESCRIPTION = (
    "polarity", "rank", "version", "label", "input_half", "output_half", "exceptions", "rule", "explainer", "claim",
    "verdict_input", "verdict_output", "details",
)  # fmt: skip
_SCORE = (
    "metric", "split", "predictor", "protocol_hash", "value", "low", "high", "n_examples", "n_documents", "null_mean",
    "p_value", "e_value", "q_value", "unparseable", "headline",
)  # fmt: skip
_OPENING = ("claim", "polarity", "version", "split", "predictions")
_CALL = ("purpose", "asker", "polarity", "model", "request_hash", "status", "error")
#: Parts of a response that differ from answer to answer though the answers say the same.
_PASSING = ("id", "created", "usage", "system_fingerprint", "service_tier")


def campaign_content(db: Database, name: str) -> dict[str, Any]:
    """All that the campaign found, in one order: ready for JSON, equal for equal findings."""
    campaign = get_campaign(db, name)
    job, unit, subject = schema.Investigation, schema.Unit, schema.Subject
    with db.session() as session:
        rows = session.execute(
            sa.select(job, unit, subject.fingerprint)
            .join(unit, unit.id == job.unit_id)
            .join(subject, subject.id == unit.subject_id)
            .where(job.campaign_id == campaign.id)
        )
        found = {f"{fingerprint} {row.unit}": _investigation(session, work, row) for work, row, fingerprint in rows}
    return {
        "name": campaign.name,
        "spec": campaign.spec,
        "seed": campaign.seed,
        "status": campaign.status,
        "outcome": campaign.outcome,
        "investigations": dict(sorted(found.items())),
    }


def content_hash(db: Database, name: str) -> str:
    """SHA-256, in hexadecimal, of `campaign_content`."""
    text = json.dumps(campaign_content(db, name), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(left: Any, right: Any, limit: int = 20) -> list[str]:
    """Where two contents differ, as ``path: left ≠ right``; the first `limit` of them."""
    found: list[str] = []
    for line in _walk(left, right, ""):
        if len(found) == limit:
            break
        found.append(line)
    return found


def _walk(left: Any, right: Any, path: str) -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}, key=str):
            if key not in left or key not in right:
                yield f"{path}/{key}: only in the {'second' if key in right else 'first'}"
            else:
                yield from _walk(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            yield f"{path}: {len(left)} items ≠ {len(right)} items"
        for place, (one, other) in enumerate(zip(left, right, strict=False)):
            yield from _walk(one, other, f"{path}/{place}")
    elif left != right:
        yield f"{path}: {left!r} ≠ {right!r}"


def _investigation(session: Session, work: schema.Investigation, unit: schema.Unit) -> dict[str, Any]:
    def belonging(table: Any) -> Any:
        return session.scalars(sa.select(table).where(table.investigation_id == work.id))

    hypotheses = {row.id: row.key for row in belonging(schema.Hypothesis)}
    descriptions = []
    for row in belonging(schema.Description):
        scores = session.scalars(sa.select(schema.Score).where(schema.Score.description_id == row.id))
        descriptions.append(
            {
                **_picked(row, _DESCRIPTION),
                "superseded": row.superseded_by is not None,
                "hypothesis": hypotheses.get(row.hypothesis_id),
                "scores": _sorted(_picked(score, _SCORE) for score in scores),
            }
        )
    experiments = []
    for row in belonging(schema.Experiment):
        seen = session.scalars(sa.select(schema.Observation).where(schema.Observation.experiment_id == row.id))
        experiments.append(
            {
                **_picked(row, _EXPERIMENT),
                "observations": _sorted(
                    {**_picked(one, _OBSERVATION), "hypothesis": hypotheses.get(one.hypothesis_id or 0)} for one in seen
                ),
            }
        )
    # A failed attempt is followed by one with another salt, or by none.
    last = work.failures - (work.status == "failed")
    calls = [call for call in belonging(schema.LlmCall) if call.salt == last]
    return {
        "status": work.status,
        "reason": work.reason,
        "control": work.control,
        "control_of": work.control_of,
        "unit": _picked(unit, _UNIT),
        "examples": _sorted(_picked(row, _EXAMPLE) for row in belonging(schema.Example)),
        "hypotheses": _sorted(_picked(row, _HYPOTHESIS) for row in belonging(schema.Hypothesis)),
        "experiments": _sorted(experiments),
        "descriptions": _sorted(descriptions),
        "openings": _sorted(_picked(row, _OPENING) for row in belonging(schema.Opening)),
        "llm_calls": _sorted({**_picked(call, _CALL), "response": _said(call.response)} for call in calls),
    }


def _said(response: Any) -> Any:
    """A response without what passes."""
    if isinstance(response, dict):
        return {key: _said(value) for key, value in response.items() if key not in _PASSING}
    if isinstance(response, list):
        return [_said(value) for value in response]
    return response


def _picked(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _sorted(rows: Any) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
