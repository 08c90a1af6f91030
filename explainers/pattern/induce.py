"""Induction: from one unit's activations on explore to an ordered list of clauses.

Separate and conquer (Fürnkranz 1999, 'Separate-and-Conquer Rule Learning'): a beam search finds the conjunction of up
to `max_literals` literals with the greatest gain on positions not yet covered, its sets are grown by further members
(each set in turn given the others, the best choice exactly, for members of one family exclude one another), its
positions are taken away, and so on until nothing gains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from explainers.pattern.plan import Part, PlanClause
from explainers.pattern.problem import Problem, Tally
from explainers.rules.ast import Compare
from explainers.rules.features import FAMILIES, Family
from tools.types import BoolArray, IntArray


@dataclass(frozen=True)
class Settings:
    """How the search trades fit against length; defaults were chosen on units that no benchmark reports."""

    f_target: float = 0.6
    """The F1 that is hoped for; a clause pays when its precision exceeds half of it."""
    z: float = 1.0
    """Standard errors that a literal's gain must exceed."""
    literal_cost: float = 0.004
    """Cost of a literal and of a set's member, as a share of the greatest possible gain."""
    member_cost: float = 0.001
    beam: int = 6
    max_literals: int = 3
    max_clauses: int = 24
    max_members: int = 160


@dataclass
class Test:
    """A literal under construction: the problem's numbers of members of one family, or of one flag."""

    literals: list[int]
    negated: bool = False


@dataclass
class Draft:
    """A clause under construction, and the rows it covers."""

    parts: list[Test]
    rows: IntArray = field(repr=False)
    score: float = 0.0

    @property
    def size(self) -> int:
        """Elementary tests."""
        return sum(len(part.literals) for part in self.parts)


def to_clause(problem: Problem, draft: Draft, firing: bool) -> PlanClause:
    """The draft with its members as text, which means the same on any split."""
    parts = [
        Part(
            int(problem.family[test.literals[0]]),
            tuple(problem.member[literal] for literal in test.literals),
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


def _oddity(family: Family) -> float:
    """How many times the usual cost a literal must repay: far tokens and vicinities are many, and odd to read."""
    if family.place is None:
        return 2.0 if isinstance(family.flag, Compare) else 1.0
    if family.place.kind.startswith("near"):
        return 3.0
    return 1.0 + 0.5 * max(family.place.offset - 1, 0)


def _negation(negated: bool) -> float:
    """The same for a negation."""
    return 2.0 if negated else 1.0


class _Search:
    def __init__(self, problem: Problem, settings: Settings, best_possible: float):
        self.problem, self.settings = problem, settings
        oddity = np.array([_oddity(FAMILIES[family]) for family in problem.family])
        self.literal_cost = settings.literal_cost * best_possible * oddity
        self.member_cost = settings.member_cost * best_possible

    def clause(self, uncovered: BoolArray, overall: Tally, left: int) -> Draft | None:
        """The best clause on the uncovered rows, or None when none gains."""
        rows = np.flatnonzero(uncovered)
        if not self.problem.active[rows].any():
            return None
        best: Draft | None = None
        beam = self._seeds(rows, overall)
        for depth in range(min(self.settings.max_literals, left)):
            for draft in beam:
                if (best is None or draft.score > best.score) and self._supported(draft):
                    best = draft
            if depth + 1 < min(self.settings.max_literals, left):
                beam = self._extend(beam)
        if best is None or best.score <= 0:
            return None
        return self._grow(best, uncovered, left)

    def _supported(self, draft: Draft) -> bool:
        return self.problem.distinct_documents(draft.rows) >= self.problem.min_documents

    def _seeds(self, rows: IntArray, overall: Tally) -> list[Draft]:
        total = self.problem.total(rows)
        chosen = self._choose(overall, total, self.settings.beam * 2)
        drafts = []
        for literal in chosen:
            inside = rows[self.problem.holds([literal], rows)]
            score = float(overall.bound(self.settings.f_target, self.settings.z)[literal] - self.literal_cost[literal])
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
            tally, total = problem.tally(draft.rows), problem.total(draft.rows)
            bound = tally.bound(settings.f_target, settings.z)
            used = {part.literals[0] for part in draft.parts}
            spent = sum(float(self.literal_cost[part.literals[0]]) * _negation(part.negated) for part in draft.parts)
            for literal in self._choose(tally, total, settings.beam):
                key = frozenset(used | {literal})
                if literal in used or key in seen or tally.total[literal] >= total.total[0] - 1e-9:
                    continue
                seen.add(key)
                found.append((float(bound[literal] - self.literal_cost[literal]) - spent, draft, Test([literal])))
            negative = tally.complement(total).bound(settings.f_target, settings.z)
            net = negative - _negation(True) * self.literal_cost
            literal = int(np.argmax(net))
            if literal not in used and negative[literal] > bound[literal]:
                found.append((float(net[literal]) - spent, draft, Test([literal], True)))
        found.sort(key=lambda candidate: -candidate[0])
        return [
            Draft([*draft.parts, part], draft.rows[problem.holds(part.literals, draft.rows) ^ part.negated], score)
            for score, draft, part in found[: settings.beam]
        ]

    # --- growing sets -------------------------------------------------------------------------------------------------

    def _grow(self, draft: Draft, uncovered: BoolArray, left: int) -> Draft:
        rows = np.flatnonzero(uncovered)
        parts = [Test(list(part.literals), part.negated) for part in draft.parts]
        for _ in range(2):
            for index, part in enumerate(parts):
                if self.problem.is_flag[part.literals[0]]:
                    continue
                inside = self._satisfying(parts, rows, index)
                budget = left - sum(len(p.literals) for p in parts) + len(part.literals)
                if part.negated:
                    part.literals = self._negated_members(part, inside, budget)
                else:
                    part.literals = self._members(part, inside, budget)
        return Draft(parts, self._satisfying(parts, rows, None), draft.score)

    def _satisfying(self, parts: list[Test], rows: IntArray, but: int | None) -> IntArray:
        for index, part in enumerate(parts):
            if index != but:
                rows = rows[self.problem.holds(part.literals, rows) ^ part.negated]
        return rows

    def _members(self, part: Test, rows: IntArray, budget: int) -> list[int]:
        """Members of the part's family that gain on rows where the other parts hold, strongest first."""
        problem, settings = self.problem, self.settings
        family = int(problem.family[part.literals[0]])
        nested = len(FAMILIES[family].columns) > 1
        in_family = np.flatnonzero(problem.family == family)
        free = np.zeros(len(problem), bool)
        free[rows] = True
        tally = problem.family_tally(family, rows)
        chosen: list[int] = []
        refused: set[int] = set()
        while len(chosen) < budget:
            bound = (tally.bound(settings.f_target, settings.z) - self.member_cost)[in_family]
            order = np.argsort(-bound, kind="stable")
            good = [g for g in in_family[order[bound[order] > 0]].tolist() if g not in refused and g not in chosen]
            if not nested:
                return [g for g in good if self._member_supported(g, free)][:budget] or part.literals
            best = next((g for g in good if self._member_supported(g, free)), None)
            if best is None:
                break
            refused.update(good[: good.index(best)])
            chosen.append(best)
            # Members of a family with several slots overlap: what one covers is no gain for the next.
            held = problem.rows_of(best)
            held = held[free[held]]
            free[held] = False
            tally = tally.minus(problem.family_tally(family, held))
        return chosen or part.literals

    def _negated_members(self, part: Test, rows: IntArray, budget: int) -> list[int]:
        """Members whose exclusion gains."""
        problem, settings = self.problem, self.settings
        in_family = np.flatnonzero(problem.family == problem.family[part.literals[0]])
        tally = problem.family_tally(int(problem.family[part.literals[0]]), rows)
        flipped = Tally(
            tally.total, tally.total - tally.active, tally.total_squares, tally.total_squares - tally.active_squares
        )
        # Excluding a position gains f - 2 active: the gain of covering it, with its sign turned.
        loss = -tally.gain(settings.f_target) - settings.z * np.sqrt(
            (2 - settings.f_target) ** 2 * tally.active_squares
            + settings.f_target**2 * (flipped.total_squares - tally.active_squares)
        )
        bound = (loss - self.member_cost)[in_family]
        order = np.argsort(-bound, kind="stable")
        good = [int(in_family[i]) for i in order if bound[i] > 0][:budget]
        return good or part.literals

    def _member_supported(self, literal: int, free: BoolArray) -> bool:
        held = self.problem.rows_of(literal)
        return self.problem.distinct_documents(held[free[held]]) >= self.problem.min_documents
