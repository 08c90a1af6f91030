"""Induction: from one unit's activations on explore to an ordered list of clauses.

Separate and conquer (Fürnkranz 1999, 'Separate-and-Conquer Rule Learning'): a beam search finds the conjunction of up
to `max_literals` literals with the greatest gain on positions not yet covered, its sets are grown by further members
(each set in turn given the others, the best choice exactly, for members of one family exclude one another), its
positions are taken away, and so on until nothing gains.
"""

from __future__ import annotations

import numpy as np

from explainers.pattern.grow import NEGATION, Draft, Grower, Settings, Test
from explainers.pattern.plan import Part, PlanClause
from explainers.pattern.problem import Problem, Tally
from tools.types import BoolArray, IntArray


def to_clause(problem: Problem, draft: Draft, firing: bool) -> PlanClause:
    """The draft with its members as text, which means the same on any split."""
    parts = [
        Part(
            problem.family_of(test.literals[0]),
            tuple(problem.member_of(literal) for literal in test.literals),
            test.negated,
        )
        for test in draft.parts
    ]
    return PlanClause(tuple(parts), firing)


def induce(problem: Problem, settings: Settings, uncovered: BoolArray) -> list[Draft]:
    """Clauses on the uncovered rows, in the order in which they were found; empty when nothing beats the default."""
    uncovered = uncovered.copy()
    best_possible = (2 - settings.f_target) * float(problem.weights[uncovered & problem.active].sum())
    if best_possible <= 0 or problem.n_literals == 0:
        return []
    search = _Search(problem, settings, best_possible)
    overall = problem.tally(np.flatnonzero(uncovered))
    drafts: list[Draft] = []
    left = settings.max_members
    while len(drafts) < settings.max_clauses and left > 0:
        draft = search.clause(uncovered, overall, left)
        if draft is None:
            break
        drafts.append(draft)
        left -= draft.size
        uncovered[draft.rows] = False
        overall = overall.minus(problem.tally(draft.rows))
    return drafts


class _Search:
    def __init__(self, problem: Problem, settings: Settings, best_possible: float):
        self.problem, self.settings = problem, settings
        self.grower = Grower(problem, settings, best_possible)
        self.cost = self.grower.literal_cost

    def clause(self, uncovered: BoolArray, overall: Tally, left: int) -> Draft | None:
        """The best clause on the uncovered rows, or None when none gains."""
        rows = np.flatnonzero(uncovered)
        if not self.problem.active[rows].any():
            return None
        depth = min(self.settings.max_literals, left)
        beam = self._seeds(rows, overall)
        met = list(beam)
        for _ in range(1, depth):
            beam = self._extend(beam)
            met += beam
        grown = [self.grower.grow(draft, rows, left) for draft in self._promising(met)]
        grown.append(self.grower.tuned(Draft([], rows), rows))
        grown = [draft for draft in grown if draft.parts and draft.score > 0 and self._supported(draft)]
        return max(grown, key=lambda draft: draft.score, default=None)

    def _promising(self, drafts: list[Draft]) -> list[Draft]:
        """The best drafts of different shapes: sets of one shape grow into the same clause."""
        found: dict[frozenset[tuple[int, bool]], Draft] = {}
        for draft in sorted(drafts, key=lambda draft: -draft.score):
            if draft.score > 0 and self._supported(draft):
                shape = frozenset((self.problem.family_of(test.literals[0]), test.negated) for test in draft.parts)
                found.setdefault(shape, draft)
        return list(found.values())[: self.settings.grown]

    def _supported(self, draft: Draft) -> bool:
        return self.problem.distinct_documents(draft.rows) >= self.problem.min_documents

    def _seeds(self, rows: IntArray, overall: Tally) -> list[Draft]:
        total = self.problem.total(rows)
        chosen = self._choose(overall, total, self.settings.beam * 2)
        drafts = []
        for literal in chosen:
            inside = rows[self.problem.holds([literal], rows)]
            score = float(overall.bound(self.settings.f_target, self.settings.z)[literal] - self.cost[literal])
            drafts.append(Draft([Test([literal])], inside, score))
        return drafts

    def _choose(self, tally: Tally, total: Tally, n: int) -> list[int]:
        """Half by the gain's lower bound, half by FOIL's gain (Quinlan 1990), which sees promise before precision."""
        bound = tally.bound(self.settings.f_target, self.settings.z)
        base = float(total.active[0] / total.total[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            foil = tally.active * np.log2(np.maximum(tally.active / tally.total / base, 1e-9))
        foil = np.where(tally.active > 0, foil, -np.inf)
        by_bound = np.argsort(-bound, kind="stable")[: n // 2].tolist()
        by_foil = np.argsort(-foil, kind="stable")[:n].tolist()
        chosen = list(dict.fromkeys([*by_bound, *by_foil]))[:n]
        return [literal for literal in chosen if tally.active[literal] > 0]

    def _extend(self, beam: list[Draft]) -> list[Draft]:
        problem, settings = self.problem, self.settings
        seen: set[frozenset[int]] = set()
        found: list[tuple[float, Draft, Test]] = []
        for draft in beam:
            if not len(draft.rows):
                continue
            tally, total = problem.tally(draft.rows), problem.total(draft.rows)
            bound = tally.bound(settings.f_target, settings.z)
            used = {part.literals[0] for part in draft.parts}
            spent = self.grower.cost(draft.parts)
            for literal in self._choose(tally, total, settings.beam):
                key = frozenset(used | {literal})
                if literal in used or key in seen or tally.total[literal] >= total.total[0] - 1e-9:
                    continue
                seen.add(key)
                found.append((float(bound[literal] - self.cost[literal]) - spent, draft, Test([literal])))
            negative = tally.complement(total).bound(settings.f_target, settings.z)
            net = negative - NEGATION * self.cost
            literal = int(np.argmax(net))
            if literal not in used and negative[literal] > bound[literal]:
                found.append((float(net[literal]) - spent, draft, Test([literal], True)))
        found.sort(key=lambda candidate: -candidate[0])
        return [
            Draft([*draft.parts, part], draft.rows[problem.holds(part.literals, draft.rows) ^ part.negated], score)
            for score, draft, part in found[: settings.beam]
        ]
