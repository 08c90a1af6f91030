"""What earlier campaigns say of a unit's neighbours, and which descriptions those are.

A neighbour is the unit itself, a unit that writes in nearly the same direction, or one that is active in the same
places. What finished campaigns on the same subject hold of it is read; which descriptions there are is fixed when a
campaign begins (`Shelf`), so that what comes of a unit does not depend on what ends meanwhile.

Verdicts and scores take no part: they come from sealed text, and who chose by them would choose by what must not be
seen. A description itself was written before its sealed text was opened, and campaigns on the same corpus seal the same
documents.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import store
from agent.spec import CampaignSpec
from store.queries.earlier import EarlierRow, Shelf, earlier_descriptions, finished_shelf
from store.work import Campaign
from tools.errors import NeuroglossError
from tools.index import SplitView
from tools.subject import Subject
from tools.types import UnitId
from tools.units import write_direction

#: Cosine of write directions, and correlation of activations, from which on two units are neighbours.
CLOSE, TOGETHER = 0.4, 0.5
#: Under what name a campaign's shelf is kept with its estimates.
EARLIER = "earlier"
#: Units whose activity is compared at once.
AT_ONCE = 256

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neighbour:
    """A description of a neighbour."""

    row: EarlierRow
    by: str
    """'itself', 'direction' or 'activity'."""
    likeness: float
    """Cosine or correlation, with its sign; 1 of the unit itself."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self.row), "by": self.by, "likeness": self.likeness}


class Earlier:
    """The descriptions of a shelf, and the directions of their units."""

    def __init__(self, rows: Sequence[EarlierRow]) -> None:
        self.rows = tuple(rows)
        self._lock = threading.Lock()
        self._known: tuple[list[str], Floats] | None = None

    @classmethod
    def read(cls, db: store.Database, shelf: Shelf) -> Earlier:
        """What a database has on a shelf."""
        return cls(earlier_descriptions(db, shelf))

    @classmethod
    def on_record(cls, db: store.Database, estimates: Mapping[str, Any]) -> Earlier | None:
        """Those that a campaign may look at, by what `shelf_of` kept; None where it may not."""
        return cls.read(db, Shelf(**estimates[EARLIER])) if EARLIER in estimates else None

    def neighbours(
        self, subject: Subject, view: SplitView | None, unit: UnitId, polarity: str, n: int
    ) -> list[Neighbour]:
        """Descriptions of neighbours, the likest first; each rule once, and at most one of each unit's tails.

        Args:
            subject: The model.
            view: Of an open split, for activity: of units that its index holds. None: by direction alone.
            unit: Whose neighbours.
            polarity: Of its tail. A neighbour whose direction or activity is opposite counts with its other tail.
            n: How many at most.
        """
        best: dict[str, Neighbour] = {}
        for one in sorted(self._all(subject, view, unit, polarity), key=lambda one: -abs(one.likeness)):
            # Of what several campaigns say of a tail, the newest comes last.
            known = best.get(one.row.rule)
            if known is None or (known.row.unit == one.row.unit and known.row.description_id < one.row.description_id):
                best[one.row.rule] = one
        ordered = sorted(best.values(), key=lambda one: (-abs(one.likeness), -one.row.description_id))
        found: list[Neighbour] = []
        for one in ordered:
            if all((one.row.unit, one.row.polarity) != (other.row.unit, other.row.polarity) for other in found):
                found.append(one)
        return found[:n]

    def _all(self, subject: Subject, view: SplitView | None, unit: UnitId, polarity: str) -> Iterator[Neighbour]:
        others = list(dict.fromkeys(row.unit for row in self.rows if row.unit != str(unit)))
        alike = self._by_direction(subject, unit)
        together = {} if view is None else _by_activity(view, unit, others)
        for row in self.rows:
            if row.unit == str(unit):
                if row.polarity == polarity:
                    yield Neighbour(row, "itself", 1.0)
                continue
            for by, found in (("direction", alike), ("activity", together)):
                likeness = found.get(row.unit)
                if likeness is not None and (row.polarity == polarity) == (likeness > 0):
                    yield Neighbour(row, by, float(f"{likeness:.6g}"))

    def _by_direction(self, subject: Subject, unit: UnitId) -> dict[str, float]:
        own = _unit_vector(subject, str(unit))
        names, directions = self._directions(subject)
        if own is None or not names:
            return {}
        cosines = directions @ own
        close = np.flatnonzero(np.abs(cosines) >= CLOSE)
        return {names[i]: float(cosines[i]) for i in close.tolist()}

    def _directions(self, subject: Subject) -> tuple[list[str], Floats]:
        """Units that write one vector into the residual stream, and these at length 1, [n, d_model]."""
        with self._lock:
            if self._known is None:
                found = {name: _unit_vector(subject, name) for name in dict.fromkeys(row.unit for row in self.rows)}
                kept = {name: vector for name, vector in found.items() if vector is not None}
                self._known = list(kept), np.stack([*kept.values()]) if kept else np.zeros((0, subject.d_model))
            return self._known


def _unit_vector(subject: Subject, name: str) -> Floats | None:
    """What a unit writes, at length 1; None where that is not one vector, or there is no such unit here."""
    try:
        vector = write_direction(subject, UnitId.parse(name))
    except NeuroglossError:  # a dictionary or direction that is not attached this time
        return None
    if vector is None or len(vector) != subject.d_model:
        return None
    values = vector.detach().double().cpu().numpy()
    length = float(np.linalg.norm(values))
    return np.asarray(values / length, np.float64) if length else None


def _by_activity(view: SplitView, unit: UnitId, others: Sequence[str]) -> dict[str, float]:
    """Correlation with the others that the view's index holds, where it is high."""
    here = [other for other in map(UnitId.parse, others) if view.holds(other)]
    own = _centred(view, [unit])
    found: dict[str, float] = {}
    for start in range(0, len(here), AT_ONCE):
        units = here[start : start + AT_ONCE]
        correlations = (_centred(view, units) @ own.T)[:, 0]
        found |= {str(other): float(r) for other, r in zip(units, correlations, strict=True) if abs(r) >= TOGETHER}
    return found


def _centred(view: SplitView, units: Sequence[UnitId]) -> Floats:
    """Activations on the panel less their mean, at length 1; zeros where they are constant."""
    matrix = view.panel_matrix(units).astype(np.float64)
    matrix -= matrix.mean(axis=1, keepdims=True)
    lengths = np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    return np.asarray(matrix / np.where(lengths > 0, lengths, 1.0))


def shelf_of(
    spec: CampaignSpec, db: store.Database, fingerprint: str, corpus: str, known: Campaign | None
) -> dict[str, Any]:
    """What is kept of the descriptions that a campaign may look at, beside its estimates: which there are.

    Args:
        spec: The campaign.
        db: Where earlier campaigns are.
        fingerprint: Of its subject.
        corpus: Digest of its corpus.
        known: The campaign where it was begun before: then they are what they were.
    """
    if "database" not in spec.rivals_from:
        return {}
    if known is not None and EARLIER in known.estimates:
        return {EARLIER: known.estimates[EARLIER]}
    return {EARLIER: asdict(finished_shelf(db, fingerprint, corpus=corpus, but=spec.title))}
