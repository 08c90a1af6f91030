"""A rule in the making: clauses over feature families, measured on the rows of a split.

Between the search (which works with one problem's literal numbers) and the finished rule stands a `Plan`: the same
clauses with their members as text, so that they can be measured on any split's table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from explainers.rules.ast import Clause, Rule
from explainers.rules.features import FAMILIES, Codes, FeatureTable
from tools.types import BoolArray, FloatArray, IntArray, Sample

Floats = npt.NDArray[np.float64]

PRIOR_ROWS = 3.0
"""Sample rows' worth of a clause's mean that a member's mean is shrunk with."""


@dataclass(frozen=True)
class Part:
    """One literal: members of a family (none for a flag), perhaps negated."""

    family: int
    members: tuple[str, ...]
    negated: bool = False

    @property
    def size(self) -> int:
        """Elementary tests."""
        return len(self.members)


@dataclass(frozen=True)
class PlanClause:
    """A conjunction of parts."""

    parts: tuple[Part, ...]
    firing: bool
    """Whether it claims that the unit is active: its strength is then at least the threshold."""

    @property
    def size(self) -> int:
        """Elementary tests."""
        return sum(part.size for part in self.parts)


Plan = tuple[PlanClause, ...]


def size(plan: Plan) -> int:
    """Elementary tests of a plan."""
    return sum(clause.size for clause in plan)


class Rows:
    """One unit's sample of one split, with the table's literals at its positions."""

    def __init__(self, table: FeatureTable, sample: Sample, sign: float, threshold: float):
        self.table, self.sample, self.threshold = table, sample, threshold
        self.codes: Codes = table.rows(sample.contexts, sample.positions)
        self.weights: Floats = sample.weights.astype(np.float64)
        self.magnitude: Floats = np.maximum(sign * sample.values.astype(np.float64), 0)
        self.active: BoolArray = self.magnitude > threshold
        self.documents: IntArray = sample.documents
        self._masks: dict[tuple[int, str], BoolArray] = {}
        self._counts: dict[Part, npt.NDArray[np.int16]] = {}
        self._clauses: dict[PlanClause, BoolArray] = {}

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def active_weight(self) -> float:
        """Weighted number of active positions."""
        return float(self.weights[self.active].sum())

    @property
    def spread(self) -> float:
        """Weighted sum of squared deviations of the magnitude from its mean."""
        total = self.weights.sum()
        mean = (self.weights * self.magnitude).sum() / total if total > 0 else 0.0
        return float((self.weights * (self.magnitude - mean) ** 2).sum())

    def mask(self, family: int, member: str) -> BoolArray:
        """Rows where one member of a family holds."""
        key = (family, member)
        if key not in self._masks:
            self._masks[key] = (
                self._derived(family, member) if FAMILIES[family].derived else self._coded(family, member)
            )
        return self._masks[key]

    def _coded(self, family: int, member: str) -> BoolArray:
        code, columns = self.table.code(family, member), FAMILIES[family].columns
        if code is None:
            return np.zeros(len(self), bool)
        return np.asarray((self.codes[:, columns[0] : columns[-1] + 1] == code).any(1))

    def _derived(self, family: int, member: str) -> BoolArray:
        place = FAMILIES[family].place
        if place is None:
            value = int(member[1:])
            return self.sample.positions < value if member[0] == "<" else self.sample.positions > value
        # The first families are those of the single tokens, in order of their distance.
        return np.asarray(np.any([self.mask(back, member) for back in range(place.offset)], 0))

    def counts(self, part: Part) -> npt.NDArray[np.int16]:
        """For each row how many of the part's members hold."""
        if part not in self._counts:
            found = np.zeros(len(self), np.int16)
            for member in part.members:
                found += self.mask(part.family, member)
            self._counts[part] = found
        return self._counts[part]

    def part(self, part: Part) -> BoolArray:
        """Rows where the part holds."""
        return (self.counts(part) > 0) ^ part.negated

    def clause(self, clause: PlanClause) -> BoolArray:
        """Rows where all parts hold."""
        if clause not in self._clauses:
            held = np.ones(len(self), bool)
            for part in clause.parts:
                held &= self.part(part)
            held.setflags(write=False)
            self._clauses[clause] = held
        return self._clauses[clause]

    def mean(self, rows: BoolArray | IntArray) -> float:
        """Weighted mean magnitude over rows; 0 over none."""
        total = self.weights[rows].sum()
        return float((self.weights[rows] * self.magnitude[rows]).sum() / total) if total > 0 else 0.0

    def predictions(self, rule: Rule, plan: Plan) -> FloatArray:
        """What the rule made from the plan predicts at each row."""
        out = np.full(len(self), rule.default, np.float32)
        left = np.ones(len(self), bool)
        for clause, planned in zip(rule.clauses, plan, strict=True):
            held = left & self.clause(planned)
            out[held] = clause.strength
            left &= ~held
        return out


def with_strengths(plan: Plan, explore: Rows) -> tuple[Plan, Rule]:
    """The rule: each clause predicts the mean magnitude over the explore rows where it is the first to match.

    A clause that claims activity predicts at least a hair above the threshold, for that is what it says. Clauses that
    match nothing first are left out; firing clauses stand before weaker ones, the strongest first.
    """
    plan = tuple(sorted(plan, key=lambda c: (not c.firing, -explore.mean(explore.clause(c)))))
    left = np.ones(len(explore), bool)
    clauses: list[Clause] = []
    kept: list[PlanClause] = []
    for clause in plan:
        held = left & explore.clause(clause)
        if not held.any():
            continue
        left &= ~held
        value = explore.mean(held)
        if clause.firing:
            value = max(value, explore.threshold * 1.001, 1e-6)
        kept.append(clause)
        literals = tuple(FAMILIES[part.family].literal(part.members, part.negated) for part in clause.parts)
        clauses.append(Clause(_rounded(value), literals))
    return tuple(kept), Rule(tuple(clauses), _rounded(explore.mean(left)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def tiers(clause: PlanClause, rows: Rows, free: BoolArray, minimum_gain: float, depth: int = 2) -> list[PlanClause]:
    """Splits a clause's longest set where members differ in strength, strongest first; the members stay the same.

    Args:
        clause: the clause.
        rows: explore rows.
        free: rows that no earlier clause covers.
        minimum_gain: least reduction of the weighted squared error that is worth a further clause.
        depth: how often a part may be split again.
    """
    sets = [i for i, part in enumerate(clause.parts) if part.size > 1 and not part.negated]
    if not sets or depth == 0:
        return [clause]
    index = max(sets, key=lambda i: (clause.parts[i].size, -i))
    part = clause.parts[index]
    left = free & rows.clause(clause)
    weights, sums = np.zeros(part.size), np.zeros(part.size)
    for i, member in enumerate(part.members):
        held = left & rows.mask(part.family, member)
        left &= ~held
        weights[i] = rows.weights[held].sum()
        sums[i] = (rows.weights[held] * rows.magnitude[held]).sum()
    if weights.sum() <= 0:
        return [clause]
    order, cut, gain = _best_split(weights, sums)
    if gain <= minimum_gain:
        return [clause]
    found: list[PlanClause] = []
    for chosen in (order[:cut], order[cut:]):
        parts = list(clause.parts)
        parts[index] = replace(part, members=tuple(part.members[i] for i in chosen))
        half = replace(clause, parts=tuple(parts))
        found += tiers(half, rows, free, minimum_gain, depth - 1)
        free = free & ~rows.clause(half)
    return found


def _best_split(weights: Floats, sums: Floats) -> tuple[list[int], int, float]:
    """Order of members by shrunken mean (strongest first), the best cut, and the squared error that it saves."""
    overall = sums.sum() / weights.sum()
    prior = PRIOR_ROWS * weights[weights > 0].min()
    means = (sums + prior * overall) / (weights + prior)
    order = np.argsort(-means, kind="stable")
    w, s = np.cumsum(weights[order]), np.cumsum(sums[order])
    rest_w, rest_s = w[-1] - w, s[-1] - s
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = s**2 / w + np.where(rest_w > 0, rest_s**2 / rest_w, 0.0) - s[-1] ** 2 / w[-1]
    saved = np.nan_to_num(saved[:-1], nan=0.0, posinf=0.0, neginf=0.0)
    cut = int(np.argmax(saved)) + 1
    return order.tolist(), cut, float(saved[cut - 1])
