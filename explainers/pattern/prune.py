"""Pruning on refine: what does not help on documents that the search never saw is taken out of the plan.

The value of a member, literal or clause is what would be lost without it: for clauses that claim activity the F1 gain
(see `explainers.pattern.problem`) over the rows that only it covers, for weaker clauses the squared error it saves.
Explore's values count for less than refine's, since the search chose the member for its value there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from explainers.pattern.plan import Floats, Part, Plan, Rows, size, with_strengths
from explainers.rules.ast import Rule
from tools.types import BoolArray, FloatArray

EXPLORE_DISCOUNT = 0.5


@dataclass(frozen=True)
class Candidate:
    """One plan of the path from long to short, with how well it does."""

    plan: Plan
    rule: Rule
    size: int
    f1_explore: float
    f1_refine: float
    f1: float
    """Both together, refine counting most."""
    objective: float
    """Blend of F1 and correlation, refine counting most."""


class Pruner:
    """Measures and shortens plans.

    Args:
        explore: rows that the search saw.
        refine: rows that it did not see.
        f_target: the F1 hoped for; what a covered position gains is 2 active - f_target.
    """

    def __init__(self, explore: Rows, refine: Rows, f_target: float):
        self.splits = (explore, refine)
        self.f_target = f_target
        n_explore, n_refine = max(int(explore.active.sum()), 1), int(refine.active.sum())
        trust = (EXPLORE_DISCOUNT * n_explore, float(n_refine))
        self._trust = tuple(t / sum(trust) for t in trust)

    def candidate(self, plan: Plan) -> Candidate:
        """The rule of a plan and its figures."""
        plan, rule = with_strengths(plan, self.splits[0])
        f1s, blends = [], []
        for rows in self.splits:
            predicted = rows.predictions(rule, plan)
            f1 = weighted_f1(predicted, rows)
            f1s.append(f1)
            blends.append(2 * f1 / 3 + correlation(predicted, rows) / 3)
        objective = sum(t * b for t, b in zip(self._trust, blends, strict=True))
        overall = sum(t * f1 for t, f1 in zip(self._trust, f1s, strict=True))
        return Candidate(plan, rule, size(plan), f1s[0], f1s[1], overall, objective)

    def prune(self, plan: Plan, cost: float = 0.0) -> Plan:
        """Removes literals, members and clauses whose value is at most `cost` (a share of the greatest gain)."""
        for _ in range(2):
            plan = self._drop_literals(plan, cost)
            before = size(plan)
            values = self._member_values(plan)
            plan = _without(plan, lambda key, values=values: values[key] <= cost)  # type: ignore[misc]
            if size(plan) == before:
                break
        return plan

    def path(self, plan: Plan, step: float = 0.75) -> list[Candidate]:
        """The pruned plan and ever shorter ones, down to a single test; each about `step` of the last."""
        plan = self.prune(plan)
        found = []
        while size(plan):
            found.append(self.candidate(plan))
            goal = int(size(plan) * step) if size(plan) > 1 else 0
            plan = self.shorten(plan, goal)
        return found

    def shorten(self, plan: Plan, goal: int) -> Plan:
        """Takes the least valuable members out until at most `goal` tests are left."""
        while size(plan) > goal:
            values = self._member_values(plan)
            excess = size(plan) - goal
            ranked = sorted(values, key=lambda key: (values[key], key))
            # A few at a time: what remains becomes more valuable when what overlaps with it is gone.
            doomed = set(ranked[: max(1, min(excess, size(plan) // 8))])
            shorter = _without(plan, doomed.__contains__)
            plan = shorter if size(shorter) < size(plan) else shorter[:-1]
        return plan

    # --- values -------------------------------------------------------------------------------------------------------

    def _row_values(self, rows: Rows, plan: Plan) -> list[Floats]:
        """Per clause: what covering each row is worth, as a share of what could be had."""
        greatest = max(rows.active_weight * (2 - self.f_target), 1e-9)
        firing = rows.weights * (2.0 * rows.active - self.f_target) / greatest
        explore = self.splits[0]
        held = [explore.clause(clause) for clause in plan]
        default = explore.mean(~np.any(held, 0)) if held else explore.mean(np.ones(len(explore), bool))
        strengths = [explore.mean(rows_held) for rows_held in held]
        spread = max(rows.spread, 1e-9)
        values = []
        for clause, strength in zip(plan, strengths, strict=True):
            if clause.firing:
                values.append(firing)
            else:
                error = (rows.magnitude - default) ** 2 - (rows.magnitude - strength) ** 2
                values.append(rows.weights * error / spread)
        return values

    def _member_values(self, plan: Plan) -> dict[tuple[int, int, int], float]:
        """Value of each (clause, part, member): summed over rows that are covered only thanks to it."""
        out: dict[tuple[int, int, int], float] = {}
        for rows, trust in zip(self.splits, self._trust, strict=True):
            held = [rows.clause(clause) for clause in plan]
            firing = np.sum([h for h, c in zip(held, plan, strict=True) if c.firing], 0, dtype=np.int64)
            overall = np.sum(held, 0, dtype=np.int64)
            worth = self._row_values(rows, plan)
            for c, clause in enumerate(plan):
                # Firing clauses stand first: a weaker clause on the same row does not make one of them superfluous.
                alone = held[c] & ((firing if clause.firing else overall) == 1)
                for p, part in enumerate(clause.parts):
                    for key, lost in self._lost(rows, part, alone, (c, p)):
                        out[key] = out.get(key, 0.0) + trust * float(worth[c][lost].sum())
        return out

    def _lost(
        self, rows: Rows, part: Part, alone: BoolArray, at: tuple[int, int]
    ) -> list[tuple[tuple[int, int, int], BoolArray]]:
        if part.negated or part.size == 1:
            # Without its only member a literal says nothing, so the whole clause goes; a negated member guards it.
            return [((*at, m), alone) for m in range(part.size)]
        once = alone & (rows.counts(part) == 1)
        return [((*at, m), once & rows.mask(part.family, member)) for m, member in enumerate(part.members)]

    def _drop_literals(self, plan: Plan, cost: float) -> Plan:
        """Takes a literal out of a conjunction when the rows let in by that are worth having."""
        clauses = list(plan)
        for c in range(len(clauses)):
            for p in reversed(range(len(clauses[c].parts))):
                clause = clauses[c]
                if len(clause.parts) == 1 or p >= len(clause.parts):
                    continue
                shorter = replace(clause, parts=clause.parts[:p] + clause.parts[p + 1 :])
                gained = 0.0
                for rows, trust in zip(self.splits, self._trust, strict=True):
                    others = np.zeros(len(rows), bool)
                    for other in clauses:
                        if other.firing or not clause.firing:
                            others |= rows.clause(other)
                    let_in = rows.clause(shorter) & ~others
                    gained += trust * float(self._row_values(rows, tuple(clauses))[c][let_in].sum())
                if gained > -cost:
                    clauses[c] = shorter
        return tuple(clauses)


def _without(plan: Plan, doomed: Callable[[tuple[int, int, int]], bool]) -> Plan:
    kept = []
    for c, clause in enumerate(plan):
        parts = [
            replace(part, members=tuple(member for m, member in enumerate(part.members) if not doomed((c, p, m))))
            for p, part in enumerate(clause.parts)
        ]
        if all(part.members or part.negated for part in parts):
            parts = [part for part in parts if part.members]
            if parts:
                kept.append(replace(clause, parts=tuple(parts)))
    return tuple(kept)


def weighted_f1(predicted: FloatArray, rows: Rows) -> float:
    """F1 of 'predicted above threshold' against 'active', importance-weighted; 0 when neither ever happens."""
    called = predicted > rows.threshold
    w = rows.weights
    both = float(w[called & rows.active].sum())
    either = float(w[called].sum() + w[rows.active].sum())
    return 2 * both / either if either > 0 else 0.0


def correlation(predicted: FloatArray, rows: Rows) -> float:
    """Weighted Pearson correlation of prediction and magnitude; 0 when either is constant."""
    w = rows.weights / max(rows.weights.sum(), 1e-12)
    p = predicted.astype(np.float64)
    p = p - (w * p).sum()
    y = rows.magnitude - (w * rows.magnitude).sum()
    scale = np.sqrt((w * p**2).sum() * (w * y**2).sum())
    return float((w * p * y).sum() / scale) if scale > 1e-12 else 0.0


def precision_recall(predicted: FloatArray, rows: Rows) -> tuple[float | None, float | None]:
    """Weighted precision and recall of 'predicted above threshold'; None where undefined."""
    called = predicted > rows.threshold
    w = rows.weights
    both, said, true = float(w[called & rows.active].sum()), float(w[called].sum()), rows.active_weight
    return (both / said if said > 0 else None), (both / true if true > 0 else None)
