"""Which units need no investigation: dead, dense and duplicate ones. Reads the index only; costs no tool calls.

All of it rests on the explore split. Rules, in the order in which they are asked:

- *dead*: no activation other than zero (up to `DEAD`) on any token;
- *constant*, which counts as dense: the same activation on every token;
- *duplicate*: correlation of at least `DUPLICATE` over the panel with a unit of the same group and campaign that has a
  lower number. Not for heads, which may write equally much at a token from quite different sources, nor for generated
  functions, of which two may differ in nothing but a corrupted part;
- *tails*: which signs of the activation are described, see `polarities`;
- *dense*: every tail that exists is active on more than `DENSE` of the tokens. Not for heads, whose activation is a
  norm and never silent, nor for generated functions, which have a value everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tools.types import FloatArray, Sample, UnitId, UnitStatistics

DEAD = 1e-9
"""Largest magnitude of an activation that still counts as none."""
DENSE = 0.25
"""Share of tokens above the threshold beyond which a tail is not described."""
DUPLICATE = 0.98
"""Correlation over the panel's tokens."""
MINOR_TAIL = 0.25
"""A negative tail is real when its threshold is at least this share of the positive one's."""
NEVER_SILENT = ("head", "fn")
"""Kinds of units of which nobody expects silence on most tokens."""
_ENOUGH = 16
"""Tokens of the panel on which a unit must stand out before a correlation says anything."""
_SKETCH = 512
_CHUNK = 512


@dataclass(frozen=True)
class Tail:
    """One sign of a unit's activation."""

    polarity: str
    threshold: float
    """Magnitude above which the unit counts as active."""
    density: float
    """Share of the split's tokens above it."""


@dataclass(frozen=True)
class Triage:
    """What is known of a unit before anything is spent on it."""

    state: str
    """'alive', 'dead', 'dense' or 'duplicate'."""
    reason: str | None
    """Why there is nothing to investigate, in words; None when there is."""
    tails: tuple[Tail, ...]
    """The tails to describe; for a unit that is not investigated, those it has."""
    duplicate_of: str | None = None


def threshold(statistics: UnitStatistics, polarity: str) -> float:
    """Magnitude above which a unit counts as active on one tail; 0 when the tail is empty.

    Half of the 99.95th percentile of the tail. A unit that is silent on more than 99.95 % of the tokens (many latents
    of wide dictionaries are) has a percentile of zero; there it is half of the strongest activation.
    """
    cut = statistics.threshold(polarity)
    if cut > DEAD:
        return float(cut)
    extreme = statistics.maximum if polarity == "+" else -statistics.minimum
    # A unit that is never zero has no such gap: a tail whose percentile is on the wrong side of zero is empty.
    rare = extreme > DEAD and statistics.nonzero < 0.0005
    return 0.5 * float(extreme) if rare else 0.0


def polarities(statistics: UnitStatistics, wanted: str) -> list[str]:
    """Tails of a unit that are described.

    The positive tail whenever it exists. The negative one when it is a real tail: its threshold is at least
    `MINOR_TAIL` of the positive tail's, or there is no positive tail. (The small dip of a GELU below zero is none;
    gated units often have two.)

    Args:
        statistics: Over the explore split.
        wanted: '+', '-' or 'both'; a single sign keeps that tail if it exists, however small.
    """
    plus, minus = threshold(statistics, "+"), threshold(statistics, "-")
    real = {"+": plus > 0, "-": minus > 0 and (wanted == "-" or minus >= MINOR_TAIL * plus)}
    return [sign for sign in ("+", "-") if real[sign] and wanted in (sign, "both")]


def density(sample: Sample, cut: float, polarity: str) -> float:
    """Share of the split's tokens whose activation is above `cut` on one tail, estimated from the weighted sample."""
    sign = 1.0 if polarity == "+" else -1.0
    total = float(sample.weights.sum(dtype=np.float64))
    return float(sample.weights[sign * sample.values > cut].sum(dtype=np.float64)) / total if total else 0.0


def triage(statistics: UnitStatistics, sample: Sample, duplicate_of: UnitId | None, wanted: str = "both") -> Triage:
    """Decides whether a unit is investigated, and which of its tails.

    Args:
        statistics: Over the explore split.
        sample: Of the explore split.
        duplicate_of: From `duplicates`.
        wanted: '+', '-' or 'both', from the campaign.
    """
    unit = statistics.unit
    if max(abs(statistics.maximum), abs(statistics.minimum)) <= DEAD:
        return Triage("dead", f"never active on {statistics.tokens:,} tokens", ())
    tails = tuple(
        Tail(sign, cut, density(sample, cut, sign))
        for sign in polarities(statistics, wanted)
        for cut in (threshold(statistics, sign),)
    )
    if statistics.maximum - statistics.minimum <= DEAD:
        return Triage("dense", f"equally active on all of {statistics.tokens:,} tokens", tails)
    if duplicate_of is not None:
        return Triage("duplicate", f"a copy of {duplicate_of}", tails, str(duplicate_of))
    if not tails:
        return Triage("alive", f"has no tail of polarity {wanted}", ())
    sparse = tuple(tail for tail in tails if tail.density <= DENSE or unit.kind in NEVER_SILENT)
    if not sparse:
        share = max(tail.density for tail in tails)
        return Triage("dense", f"active on {share:.0%} of tokens", tails)
    return Triage("alive", None, sparse)


def duplicates(
    units: Sequence[UnitId], rows: Callable[[Sequence[UnitId]], FloatArray], seed: int
) -> dict[UnitId, UnitId]:
    """The units of one group that copy one with a lower number: unit -> the lowest-numbered unit it copies.

    Candidates are found by correlating random projections of the standardised activations (their inner products keep
    correlations to about 1/sqrt(512); Johnson and Lindenstrauss 1984), then correlated over all positions, so the cost
    is units² x 512 and not units² x positions.

    Args:
        units: All of one group.
        rows: Reads activations: units -> [unit, position].
        seed: Of the projection; it cannot change which pairs pass the exact test, save near its margin.
    """
    ordered = sorted(units, key=lambda unit: unit.index)
    if len(ordered) < 2 or ordered[0].kind in NEVER_SILENT:
        return {}
    sketches, usable = [], []
    projection: FloatArray | None = None
    for start in range(0, len(ordered), _CHUNK):
        block = _standardised(rows(ordered[start : start + _CHUNK]))
        if projection is None:
            generator = np.random.default_rng(seed)
            projection = generator.standard_normal((block.shape[1], _SKETCH), dtype=np.float32)
            projection /= np.float32(np.sqrt(_SKETCH))
        sketches.append(block @ projection)
        usable.append(block.any(axis=1))
    sketch, usable_rows = np.concatenate(sketches), np.concatenate(usable)
    candidates = [
        (start + int(row), int(column))
        for start in range(0, len(ordered), _CHUNK)
        for row, column in np.argwhere(sketch[start : start + _CHUNK] @ sketch.T > DUPLICATE - 0.2)
        if int(column) < start + int(row) and usable_rows[column] and usable_rows[start + row]
    ]
    found: dict[UnitId, UnitId] = {}
    for later, earlier in candidates:  # ascending in both, so the first that passes is the lowest
        unit, other = ordered[later], ordered[earlier]
        # A copy of a copy points to the original, which is described.
        if unit in found or other in found:
            continue
        pair = _standardised(rows([unit, other]))
        if float(pair[0] @ pair[1]) >= DUPLICATE:
            found[unit] = other
    return found


def _standardised(values: FloatArray) -> FloatArray:
    """Rows with mean 0 and norm 1; rows that stand out on too few positions become 0. Shape [unit, position]."""
    values = np.asarray(values, dtype=np.float32)
    centred = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    magnitude = np.abs(centred)
    enough = (magnitude > 0.1 * magnitude.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True) >= _ENOUGH
    keep = enough & (norms > 0)
    return np.where(keep, centred / np.where(norms > 0, norms, 1), 0).astype(np.float32)
