"""Growing a drafted clause: more members for its sets, and further sets that make it more precise.

For a family whose members exclude one another (the current token, the token two back) the best set, given the other
literals, is known exactly: all members that gain. Families whose members overlap (endings of the text) are filled
greedily.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from explainers.pattern.problem import Problem
from explainers.rules.ast import Compare
from explainers.rules.features import FAMILIES, POSITION, Family
from tools.types import BoolArray, IntArray

NEGATION = 2.0
"""How many times the usual cost a negated literal must repay."""
EXCLUSIONS = 6
"""Families that are tried in full for a negated set."""


@dataclass(frozen=True)
class Settings:
    """How the search trades fit against length."""

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
    grown: int = 3
    """How many of the best drafts are grown before the best of them is taken."""


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
        return sum(len(test.literals) for test in self.parts)


def _oddity(family: Family) -> float:
    """How many times the usual cost a literal must repay: far tokens and vicinities are many, and odd to read."""
    if family.place is None:
        return 2.0 if family.quantity or isinstance(family.flag, Compare) else 1.0
    if family.place.kind.startswith("near"):
        return 3.0
    return 1.0 + 0.5 * max(family.place.offset - 1, 0)


def _excludable(family: Family) -> bool:
    """Not endings and beginnings, of which many say the same; bounds are tuned otherwise."""
    if family.place is None:
        return not isinstance(family.flag, Compare)
    return family.relation == "in"


class Grower:
    """Grows drafts of one problem.

    Args:
        problem: the rows and literals.
        settings: the search's.
        best_possible: the gain of covering all active rows and no other; costs are shares of it.
    """

    def __init__(self, problem: Problem, settings: Settings, best_possible: float):
        self.problem, self.settings = problem, settings
        self._unit_cost = settings.literal_cost * best_possible
        oddity = np.array([_oddity(FAMILIES[family]) for family in problem.family])
        self.literal_cost = self._unit_cost * oddity
        self.member_cost = settings.member_cost * best_possible

    def cost(self, parts: list[Test]) -> float:
        """What a conjunction must repay: for each literal, and for each member beyond the first."""
        return sum(
            self._unit_cost
            * _oddity(FAMILIES[self.problem.family_of(test.literals[0])])
            * (NEGATION if test.negated else 1.0)
            + self.member_cost * (len(test.literals) - 1)
            for test in parts
        )

    def score(self, parts: list[Test], rows: IntArray) -> float:
        """Lower bound of the gain over `rows`, less the cost."""
        total = self.problem.total(rows)
        return float(total.bound(self.settings.f_target, self.settings.z)[0]) - self.cost(parts)

    def grow(self, draft: Draft, rows: IntArray, left: int) -> Draft:
        """The draft with its sets filled on the uncovered `rows`, at most `left` members in all."""
        parts = [Test(list(test.literals), test.negated) for test in draft.parts]
        self._fill(parts, rows, left)
        while len(parts) < self.settings.max_literals and self._add_set(parts, rows, left):
            self._fill(parts, rows, left)
        if len(parts) < self.settings.max_literals:
            self._add_exclusion(parts, rows, left)
        covered = self._satisfying(parts, rows, None)
        return self.tuned(Draft(parts, covered, self.score(parts, covered)), rows)

    def tuned(self, draft: Draft, rows: IntArray) -> Draft:
        """The draft with the lengths of its vicinities, and bounds on the position, that suit it best."""
        for index, test in enumerate(draft.parts):
            place = FAMILIES[self.problem.family_of(test.literals[0])].place
            if place is not None and place.kind == "near token":
                draft = self._best_length(draft, index, rows)
        return self._bounded(draft, rows)

    def _best_length(self, draft: Draft, index: int, rows: IntArray) -> Draft:
        test = draft.parts[index]
        inside = self._satisfying(draft.parts, rows, index)
        members = [self.problem.member_of(literal) for literal in test.literals]
        best = draft
        for number, family in enumerate(FAMILIES):
            if family.place is None or family.place.kind != "near token" or not family.derived:
                continue
            other = Test([self.problem.derived(number, member) for member in members], test.negated)
            parts = [*draft.parts[:index], other, *draft.parts[index + 1 :]]
            covered = inside[self.problem.holds(other.literals, inside) ^ other.negated]
            score = self.score(parts, covered)
            if score > best.score:
                best = Draft(parts, covered, score)
        return best

    def _bounded(self, draft: Draft, rows: IntArray) -> Draft:
        """The draft with its conditions on the position replaced by the best interval of positions, when that gains."""
        problem, settings = self.problem, self.settings
        parts = [test for test in draft.parts if not self._on_position(test)]
        room = settings.max_literals - len(parts)
        inside = self._satisfying(parts, rows, None)
        if room < 1 or not len(inside):
            return draft
        low, high, last = self._best_interval(inside)
        ends = [f">{low - 1}"] * (low > 1) + [f"<{high + 1}"] * (high < last)
        if not 0 < len(ends) <= room:
            return draft
        parts = [*parts, *(Test([problem.derived(POSITION, end)]) for end in ends)]
        covered = self._satisfying(parts, inside, None)
        score = self.score(parts, covered)
        return Draft(parts, covered, score) if score > draft.score else draft

    def _on_position(self, test: Test) -> bool:
        family = FAMILIES[self.problem.family_of(test.literals[0])]
        return bool(family.quantity) or (isinstance(family.flag, Compare) and family.flag.quantity == "position")

    def _best_interval(self, rows: IntArray) -> tuple[int, int, int]:
        """First and last position of the interval with the greatest lower bound of the gain, and the last there is."""
        problem, f = self.problem, self.settings.f_target
        positions = problem.rows.sample.positions[rows]
        gains = problem.weights[rows] * (2.0 * problem.active[rows] - f)
        last = int(positions.max())
        # Sums over positions first to last: differences of cumulative sums, for all pairs at once.
        total = np.concatenate([[0.0], np.cumsum(np.bincount(positions, gains, last + 1))])
        square = np.concatenate([[0.0], np.cumsum(np.bincount(positions, gains**2, last + 1))])
        bound = (total[None, 1:] - total[:-1, None]) - self.settings.z * np.sqrt(
            np.maximum(square[None, 1:] - square[:-1, None], 0)
        )
        bound[np.tril_indices(last + 1, -1)] = -np.inf
        low, high = np.unravel_index(int(np.argmax(bound)), bound.shape)
        return int(low), int(high), last

    def _add_exclusion(self, parts: list[Test], rows: IntArray, left: int) -> bool:
        """Adds the set whose members the clause is wrong about most, negated, when that gains; whether it did."""
        problem, settings = self.problem, self.settings
        inside = self._satisfying(parts, rows, None)
        budget = left - sum(len(test.literals) for test in parts)
        if not len(inside) or budget < 1:
            return False
        # A literal that never holds where the unit is active is no candidate of the search; here it is the very best.
        family, member, gain = problem.against(inside, settings.f_target, settings.z)
        gain = gain - self.member_cost
        used = {problem.family_of(test.literals[0]) for test in parts}
        gains = np.bincount(family, np.maximum(gain, 0), len(FAMILIES))
        best, best_score = None, self.score(parts, inside)
        for number in np.argsort(-gains, kind="stable")[:EXCLUSIONS].tolist():
            if gains[number] <= 0 or number in used or not _excludable(FAMILIES[number]):
                continue
            chosen = np.flatnonzero((family == number) & (gain > 0))
            chosen = chosen[np.argsort(-gain[chosen], kind="stable")][:budget]
            test = Test([problem.derived(number, member[code]) for code in chosen.tolist()], True)
            covered = inside[~problem.holds(test.literals, inside)]
            score = self.score([*parts, test], covered)
            if score > best_score:
                best, best_score = test, score
        if best is not None:
            parts.append(best)
        return best is not None

    def _fill(self, parts: list[Test], rows: IntArray, left: int) -> None:
        """Each set in turn, given the others; twice, for the first choices were made among too few rows."""
        for _ in range(2 if len(parts) > 1 else 1):
            for index, test in enumerate(parts):
                if self.problem.is_fixed(test.literals[0]):
                    continue
                inside = self._satisfying(parts, rows, index)
                budget = left - sum(len(other.literals) for other in parts) + len(test.literals)
                chosen = (self._excluded if test.negated else self._members)(test, inside, budget)
                test.literals = chosen or test.literals

    def _add_set(self, parts: list[Test], rows: IntArray, left: int) -> bool:
        """Adds the set that makes the clause most precise, when that gains; whether it did."""
        problem, settings = self.problem, self.settings
        inside = self._satisfying(parts, rows, None)
        budget = left - sum(len(test.literals) for test in parts)
        if not len(inside) or budget < 1:
            return False
        bound = problem.tally(inside).bound(settings.f_target, settings.z) - self.member_cost
        used = {problem.family_of(test.literals[0]) for test in parts}
        gains = np.bincount(problem.family, np.maximum(bound, 0), len(FAMILIES))
        best, best_gain = None, self.score(parts, inside)
        for family, gain in enumerate(gains.tolist()):
            if gain <= best_gain or family in used or FAMILIES[family].flag or len(FAMILIES[family].columns) > 1:
                continue
            member = int(np.argmax(np.where(problem.family == family, bound, -np.inf)))
            candidate = Test([member], False)
            net = gain - self.cost([*parts, candidate])
            if net > best_gain:
                best, best_gain = candidate, net
        if best is None:
            return False
        chosen = self._members(best, inside, budget)
        if not chosen:
            return False
        parts.append(Test(chosen, False))
        return True

    def _satisfying(self, parts: list[Test], rows: IntArray, but: int | None) -> IntArray:
        for index, test in enumerate(parts):
            if index != but:
                rows = rows[self.problem.holds(test.literals, rows) ^ test.negated]
        return rows

    def _members(self, test: Test, rows: IntArray, budget: int) -> list[int]:
        """Members of the test's family that gain on rows where the other literals hold, strongest first."""
        problem, settings = self.problem, self.settings
        family = problem.family_of(test.literals[0])
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
                return [g for g in good if self._supported(g, free)][:budget]
            best = next((g for g in good if self._supported(g, free)), None)
            if best is None:
                break
            refused.update(good[: good.index(best)])
            chosen.append(best)
            # Members of a family with several slots overlap: what one covers is no gain for the next.
            held = problem.rows_of(best)
            held = held[free[held]]
            free[held] = False
            tally = tally.minus(problem.family_tally(family, held))
        return chosen

    def _excluded(self, test: Test, rows: IntArray, budget: int) -> list[int]:
        """Members whose exclusion gains: not covering a position gains f - 2 active."""
        problem, settings = self.problem, self.settings
        family = problem.family_of(test.literals[0])
        in_family = np.flatnonzero(problem.family == family)
        tally = problem.family_tally(family, rows)
        gain = -tally.gain(settings.f_target) - settings.z * tally.deviation(settings.f_target) - self.member_cost
        bound = gain[in_family]
        order = np.argsort(-bound, kind="stable")
        return [int(literal) for literal in in_family[order[bound[order] > 0]][:budget]]

    def _supported(self, literal: int, free: BoolArray) -> bool:
        held = self.problem.rows_of(literal)
        return self.problem.distinct_documents(held[free[held]]) >= self.problem.min_documents
