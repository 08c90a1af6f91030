"""Values that travel out of this room: a score with its interval and nulls, and what a scorer must be given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tools.types import FloatArray, IntArray, Sample, Split, UnitId

#: Statistics are computed in double precision whatever the activations were stored in.
DoubleArray: TypeAlias = npt.NDArray[np.float64]


class View(Protocol):
    """What a scorer reads of `tools.index.SplitView`: one split's text and activations."""

    @property
    def split(self) -> Split: ...

    @property
    def texts(self) -> Any: ...

    @property
    def window(self) -> int:
        """Positions in a block, the unit of sampling: block b of a context begins at position b * window."""
        ...

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        """Context and position of each position of the random panel, [n_panel_positions] each."""
        ...

    def sample(self, unit: UnitId) -> Sample: ...

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        """[n_units, n_panel_positions], in the order of `panel_index`."""
        ...


@dataclass(frozen=True)
class Null:
    """What a metric's value would be if the description had nothing to do with the unit.

    `observed` is the statistic that the null is compared with. It can differ from the score's value: the pairing null
    looks at the random panel alone, where other units' activations are known at the same positions.
    """

    name: str
    """'rotation', 'pairing', 'heads' or 'uniform'."""
    observed: float
    mean: float
    q95: float
    """95th percentile of the draws."""
    p_value: float
    """(1 + number of draws at least as large as `observed`) / (1 + number of draws)."""
    draws: int
    values: tuple[float, ...] = ()
    """The draws, where there are few enough to keep; a campaign pools them (`permutation.pooled_p_values`)."""

    @classmethod
    def of(cls, name: str, observed: float, draws: DoubleArray, *, keep: bool = False) -> Null:
        """Summarise draws [k]; those that are undefined (NaN) count as reaching `observed`, which is conservative."""
        known = draws[np.isfinite(draws)]
        # Rounding of the fast Fourier transform must not break ties in the description's favour.
        reached = int((known >= observed - 1e-9).sum()) + (len(draws) - len(known))
        return cls(
            name=name,
            observed=observed,
            mean=float(known.mean()) if len(known) else observed,
            q95=float(np.quantile(known, 0.95)) if len(known) else observed,
            p_value=(1 + reached) / (1 + len(draws)),
            draws=len(draws),
            values=tuple(round(float(value), 5) for value in known) if keep else (),
        )


@dataclass(frozen=True)
class Score:
    """A metric's value and everything without which it should not be quoted."""

    scorer: str
    metric: str
    value: float | None
    """None where the metric is undefined on the sample; `reason` says why."""
    low: float | None
    """Lower end of the 95 % interval, bootstrap clustered by document."""
    high: float | None
    n_examples: int
    """Token positions in the sample."""
    n_documents: int
    n_active: int
    """Sampled positions at which the unit is truly active."""
    null_mean: float | None
    p_value: float | None
    split: str
    predictor: str
    protocol_hash: str
    headline: bool
    """False: kept as a diagnostic only, because the metric hardly falls for a description that is far too broad or
    too narrow (see `scorers.sanity`)."""
    unparseable: float = 0.0
    """Share of answers that could not be parsed; each of them counts as wrong."""
    e_value: float | None = None
    q_value: float | None = None
    """Set once a campaign closes."""
    reason: str | None = None
    nulls: tuple[Null, ...] = ()
    """The null behind `p_value` first."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """'seconds' spent on the whole score set and 'positions' predicted for it."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored; `from_json` reverses it."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**row, "cost": dict(self.cost), "nulls": [{**null.__dict__} for null in self.nulls]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Score:
        nulls = tuple(Null(**{**null, "values": tuple(null["values"])}) for null in row["nulls"])
        return cls(**{**row, "nulls": nulls})


ScoreSet: TypeAlias = tuple[Score, ...]


def protocol_hash(scorer: str, version: int, settings: Mapping[str, Any], metric: str) -> str:
    """SHA-256 (hex) of what makes two scores comparable: scorer, its version, its settings and the metric.

    The seed, the unit and the data are no part of it: they are recorded beside it.
    """
    text = json.dumps([scorer, version, dict(settings), metric], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
