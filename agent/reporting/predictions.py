"""What a report says of predictions that were filed before the seal was opened, and of rivals that were kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.reporting.evidence import Rivals
from agent.reporting.statistics import Share, share_of
from scorers.calibration import Curve, calibration_curve

Json = Mapping[str, Any]
#: Descriptions with runners-up that are listed, the least sure first.
LISTED = 10


@dataclass(frozen=True)
class Contested:
    """A description beside which another might have been chosen."""

    name: str
    """The unit with its side."""
    label: str
    selection: float
    """Share of the resamples in which it does best."""
    other: str
    """Label of the best runner-up."""
    other_selection: float


@dataclass(frozen=True)
class PredictionUse:
    """How predictions came out over a campaign's descriptions of real units."""

    claims: int
    """That predicted anything."""
    held: Mapping[str, Share]
    """By what was predicted ('f1', 'precision', 'recall', 'density', 'effect'): intervals that held what came."""
    curve: Curve | None
    """Of the probabilities at made-up inputs, all together; None where there are none."""
    kinds: Mapping[str, Curve]
    """By kind of input."""
    right: Share
    """Inputs at which what the description says (active or not) came."""


@dataclass(frozen=True)
class Disagreement:
    """Rivals that were kept beside what is asserted."""

    descriptions: int
    """Of real units, with a selection probability."""
    contested: int
    """Of these, with a runner-up."""
    runners_up: int
    listed: list[Contested]


def prediction_use(rows: Sequence[Json]) -> PredictionUse | None:
    """Figures over descriptions' predictions (`details['predictions']`); None where nothing was predicted."""
    if not rows:
        return None
    held: dict[str, list[bool]] = defaultdict(list)
    kinds: dict[str, list[tuple[float, bool, bool]]] = defaultdict(list)
    for row in rows:
        compared = dict(row["sealed"] or {})
        if row["effect"] is not None:
            compared["effect"] = row["effect"]
        for name, one in compared.items():
            if one["held"] is not None:
                held[name].append(one["held"])
        for probe in row["probes"] or ():
            kinds[probe["kind"]].append((probe["probability"], probe["active"], probe["says"]))
    everything = [one for own in kinds.values() for one in own]
    by_kind = {kind: curve for kind, own in kinds.items() if (curve := _curve(own)) is not None}
    return PredictionUse(
        claims=len(rows),
        held={name: share_of(sum(own), len(own)) for name, own in held.items()},
        curve=_curve(everything),
        kinds=by_kind,
        right=share_of(sum(active == says for _, active, says in everything), len(everything)),
    )


def _curve(own: Sequence[tuple[float, bool, bool]]) -> Curve | None:
    return calibration_curve(np.array([p for p, _, _ in own], float), np.array([active for _, active, _ in own], bool))


def disagreement(rivals: Sequence[Rivals]) -> Disagreement | None:
    """What was kept of rivals; None where no choice is on record."""
    if not rivals:
        return None
    contested = sorted((one for one in rivals if one.others), key=lambda one: (one.selection, one.name))
    listed = [Contested(one.name, one.label, one.selection, *one.others[0]) for one in contested[:LISTED]]
    return Disagreement(len(rivals), len(contested), sum(len(one.others) for one in contested), listed)
