"""What a campaign on a planted subject foretold, and whether the rivals that it kept hold the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

import store
from agent.reporting.predictions import PredictionUse, prediction_use
from benchmarks.planted import figures
from benchmarks.planted.measure import Ground
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from store import schema
from tools.planted import UnitTruth

Json = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """The rivals that are left of one planted tail."""

    key: str
    family: str
    monosemantic: bool
    """Whether its truth is one rule without exceptions."""
    selections: tuple[float, ...]
    """Of what is asserted and of the runners-up, best first."""
    f1: tuple[float, ...]
    """Of each against the planted predicate, on fresh text."""

    @property
    def size(self) -> int:
        """Descriptions in the set."""
        return len(self.f1)

    def holds(self, first: int | None = None) -> bool:
        """Whether any of the set (or of its first) is as good as the truth."""
        return any(value >= figures.RECOVERED for value in self.f1[:first])

    def to_json(self) -> Json:
        return asdict(self)


def foretold(db: store.Database, campaign: str) -> list[tuple[str, str, Json]]:
    """(unit with its side, verdict, predictions) of each description of a real unit that predicted anything."""
    return [
        (f"{row.unit}{row.polarity}", row.verdict_input, row.details["predictions"])
        for row in store.campaign_evidence(db, campaign, controls=False)
        if row.details.get("predictions")
    ]


def use_of(rows: Sequence[tuple[str, str, Json]], verdict: str | None = None) -> PredictionUse | None:
    """Figures over descriptions, or over those with one verdict."""
    return prediction_use([said for _, own, said in rows if verdict in (None, own)])


def kept_rivals(db: store.Database, campaign: str, ground: Ground) -> list[Kept]:
    """The sets of rivals of planted tails that have a rule, judged on fresh text."""
    table, unit = schema.Description, schema.Unit
    query = (
        sa.select(unit.unit, table.polarity, table.rule, table.details)
        .join(unit, unit.id == table.unit_id)
        .join(schema.Campaign, schema.Campaign.id == table.campaign_id)
        .where(schema.Campaign.name == campaign, table.superseded_by.is_(None))
        .order_by(unit.unit, table.polarity, table.rank)
    )
    sets: dict[str, list[tuple[str, Json]]] = {}
    with db.session() as session:
        for name, polarity, rule, details in session.execute(query):
            if rule is not None and "standing" in details:
                sets.setdefault(f"{name}{polarity}", []).append((rule, details))
    return [
        _kept(ground, truth, sets[truth.key])
        for truth in ground.truths
        if truth.key in sets and truth.has_rule and truth.cases and not truth.noise
    ]


def _kept(ground: Ground, truth: UnitTruth, rivals: Sequence[tuple[str, Json]]) -> Kept:
    active = ground.active(truth)
    scores = []
    for rule, details in rivals:
        prediction = ground.fresh.predictions(RulePredictor(parse_rule(rule)))
        scores.append(figures.f1(figures.called(prediction, details["tail"]["threshold"], active), active) or 0.0)
    return Kept(
        key=truth.key,
        family=truth.family,
        monosemantic=len(truth.concepts) < 2 and truth.exception is None,
        selections=tuple(details["standing"]["selection"] for _, details in rivals),
        f1=tuple(scores),
    )
