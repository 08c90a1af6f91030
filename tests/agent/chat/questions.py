"""Two hundred questions about a database, with what their answers must have in them, and a look at every number.

What is known of an answer is found by SQL of its own, and numbers are looked up in the cited rows by a reading of its
own: neither goes through the code that is tested.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.chat import events

_NAMES = re.compile(
    r"\[[a-z]+:\d+\]|\b(?:mlp|head|sae):[\w:*.-]+[+-]?|\b[A-Za-z_]+\d[\w]*|\d{4}-\d\d-\d\dT[\d:]+Z|“[^”]*”"
)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: ?%)?")
_WORDS = ("bracket", "colon", "return", "number", "quote", "indent", "comma", "import", "string", "name")


@dataclass(frozen=True)
class Question:
    """A question, and what its answer must have in it."""

    text: str
    has: tuple[str, ...]


def described(file: Path) -> list[dict[str, Any]]:
    """Units with their current descriptions and F1, by unit."""
    query = """
        SELECT u.unit, u.id AS unit_id, u.density, u.maximum, d.id AS description_id, d.verdict_input, d.label,
               s.id AS score_id, s.value, s.low, s.high, s.n_documents, d.details, d.exceptions
        FROM descriptions d JOIN units u ON u.id = d.unit_id JOIN investigations i ON i.id = d.investigation_id
        JOIN scores s ON s.description_id = d.id AND s.metric = 'weighted_f1' AND s.headline AND s.split = 'score'
        WHERE i.control IS NULL AND d.superseded_by IS NULL AND s.value IS NOT NULL AND s.low IS NOT NULL
        GROUP BY u.id HAVING count(DISTINCT d.polarity) = 1 ORDER BY u.unit
    """
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def counted(file: Path, where: str = "1") -> int:
    """Current descriptions of units, by a condition."""
    query = f"""
        SELECT count(*) FROM descriptions d JOIN investigations i ON i.id = d.investigation_id
        JOIN units u ON u.id = d.unit_id WHERE i.control IS NULL AND d.superseded_by IS NULL AND d.rank = 1 AND {where}
    """
    with sqlite3.connect(file) as connection:
        return int(connection.execute(query).fetchone()[0])


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.2g} %"


def _reliance(row: dict[str, Any]) -> tuple[str, ...]:
    """What a description says of itself, as far as it does."""
    details = json.loads(row["details"])
    told = [row["exceptions"], details.get("confidence"), details.get("scope")]
    return tuple(" ".join(text.split()) for text in told if text)


def _foretold(row: dict[str, Any]) -> tuple[str, ...]:
    """What it foretold of F1, with what came."""
    one = ((json.loads(row["details"]).get("predictions") or {}).get("sealed") or {}).get("f1")
    if one is None:
        return ()
    ends = "" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
    return (f"foretold F1 {one['foretold']:.2f}{ends}; came F1 {one['value']:.2f}",)


def _said(row: dict[str, Any]) -> tuple[str, ...]:
    one = json.loads(row["details"])["predictions"]["sealed"]["f1"]
    return (f"Foretold was an F1 of {one['foretold']:.2f}", f"the F1 that came is {one['value']:.2f}")


def by_hand(file: Path, how_many: int = 200) -> list[Question]:
    """Slash commands."""
    rows, asked = described(file), []
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        f1, interval = f"{row['value']:.2f}", f"[{row['low']:.2f}, {row['high']:.2f}]"
        reliance = _reliance(row)
        asked += [
            Question(
                f"/unit {row['unit']}",
                (f"F1 {f1} {interval}", f"[score:{row['score_id']}]", _share(row["density"]), *reliance),
            ),
            Question(
                f"/why {row['unit']}",
                (f"fires on: {row['verdict_input']}", f"F1 {f1}", *reliance, *_foretold(row)),
            ),
            Question(f"/compare {row['unit']} {other['unit']}", (f"F1 {f1}", f"F1 {other['value']:.2f}")),
            Question(f"/evidence {row['unit']}", ("rivals and", "[experiment:")),
            Question(f"/examples {row['unit']} limit=2", ("[example:",)),
        ]
    lists = [
        Question(f"/units verdict={verdict}", (f"{counted(file, f'd.verdict_input = {verdict!r}')} descriptions fit",))
        for verdict in ("supported", "refuted", "inconclusive")
    ]
    lists += [
        Question(f"/units kind={kind}", (f"{counted(file, f'u.kind = {kind!r}')} descriptions fit",))
        for kind in ("mlp", "head", "sae")
    ]
    lists += [
        Question(f"/units layer={layer}", (f"{counted(file, f'u.layer = {layer}')} descriptions fit",))
        for layer in range(3)
    ]
    lists += [Question(f"/search {word}", ("match",)) for word in _WORDS]
    lists += [Question(f"which units fire on {word}?", ("No language model",)) for word in _WORDS]
    lists += [Question("/campaign", ("descriptions",)), Question("/units state=dead", ("units",))]
    return [*lists, *asked][:how_many]


def in_words(file: Path, how_many: int = 200) -> list[Question]:
    """Questions for a language model that uses the tools as it should."""
    rows, asked = described(file), []
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        f1 = f"{row['value']:.2f}"
        asked += [
            Question(f"What does {row['unit']} do?", (f"F1 is {f1}", f"{row['n_documents']} documents")),
            Question(f"Why {row['unit']}?", (f"is {row['verdict_input']}", f"F1 is {f1}")),
            Question(f"Why rely on {row['unit']}?", (*_reliance(row)[1:2], *_said(row))),
            Question(f"Is {row['unit']} better than {other['unit']}?", (f"F1 {f1}", f"F1 {other['value']:.2f}")),
            Question(f"How often is {row['unit']} on?", (f"{100 * row['density']:.2g} %",)),
        ]
    lists = [
        Question(f"Which are {verdict}?", (f"{counted(file, f'd.verdict_input = {verdict!r}')} descriptions fit",))
        for verdict in ("supported", "refuted", "inconclusive")
    ]
    lists += [Question(f"{word}", ("match",)) for word in _WORDS]
    lists.append(Question("How did the campaign go?", ("are done",)))
    return [*lists, *asked][:how_many]


def unresolved(answer: events.Answer, file: Path) -> Iterator[str]:
    """Numbers of an answer that are in none of the rows that it cites, as the tables have them."""
    values = [*_values(answer, file)]
    text = re.sub(r"(?m)^\s*\d{1,2}[.)]\s", " ", _NAMES.sub(" ", answer.text))
    for match in _NUMBER.finditer(text):
        printed = match[0].replace(",", "").replace("−", "-").replace(" ", "")
        scale = 100.0 if printed.endswith("%") else 1.0
        number = printed.rstrip("%")
        mantissa, _, exponent = number.partition("e")
        step = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        near = [
            v for v in values if abs(v * scale - float(number)) <= 0.5 * step * (1 + 1e-6) + 1e-6 * abs(float(number))
        ]
        if not near:
            yield match[0]


def _values(answer: events.Answer, file: Path) -> Iterator[float]:
    """All numbers of the cited rows, those in their texts, and those of the headline scores of cited descriptions."""
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        for cite in answer.cites:
            own = connection.execute(f"SELECT * FROM {cite['table']} WHERE id = ?", (cite["id"],)).fetchone()
            assert own is not None, cite
            rows = [dict(own)]
            more = {
                "descriptions": "SELECT * FROM scores WHERE description_id = ?",
                "experiments": "SELECT * FROM observations WHERE experiment_id = ?",
                "campaigns": "SELECT * FROM campaign_summary WHERE campaign_id = ?",
            }.get(cite["table"])
            if more is not None:
                rows += [dict(row) for row in connection.execute(more, (cite["id"],))]
            if cite["table"] == "campaigns":
                yield from _of_campaign(connection, cite["id"])
            for row in rows:
                yield from _walk({name: value for name, value in row.items() if not name.endswith("id")})


def _of_campaign(connection: sqlite3.Connection, campaign: int) -> Iterator[float]:
    """What is told of a campaign and stands in no row: medians of F1 by kind, and well described units by kind."""
    claims = """
        FROM scores s JOIN descriptions d ON d.id = s.description_id JOIN units u ON u.id = d.unit_id
        JOIN investigations i ON i.id = d.investigation_id
        WHERE s.headline AND s.metric = 'weighted_f1' AND i.control IS NULL AND d.campaign_id = ?
    """
    kinds: dict[str, list[float]] = {}
    for kind, value in connection.execute(f"SELECT u.kind, s.value {claims}", (campaign,)):
        kinds.setdefault(kind, []).append(value)
    yield from (statistics.median(v for v in found if v is not None) for found in kinds.values())
    good = f"SELECT count(DISTINCT u.id) {claims} AND s.value >= 0.5 AND d.verdict_input = 'supported' GROUP BY u.kind"
    yield from (float(count) for (count,) in connection.execute(good, (campaign,)))


def _walk(value: Any) -> Iterator[float]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield float(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)
    else:
        text = str(value)
        if text[:1] in "[{":
            try:
                yield from _walk(json.loads(text))
            except ValueError:
                pass
            else:
                return
        for match in re.finditer(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)( ?%)?", text):
            yield float(match[1]) / (100 if match[2] else 1)
