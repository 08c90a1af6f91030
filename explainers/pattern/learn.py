"""From a unit's samples to its rule: search on explore, tiers of strength, weaker clauses, pruning on refine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from explainers.pattern.grow import Settings
from explainers.pattern.induce import induce, to_clause
from explainers.pattern.plan import Plan, PlanClause, Rows, tiers
from explainers.pattern.problem import Problem
from explainers.pattern.prune import Candidate, Pruner

#: Weaker activity, as shares of the threshold, is described after the firing clauses by single sets.
WEAK_LEVELS = (0.5, 0.25)
WEAK = Settings(max_clauses=3, max_members=40, max_literals=1, beam=4, literal_cost=0.01, member_cost=0.002)
TIER_GAIN = 0.005
"""Share of the activation's variance that a further tier must explain."""
TOLERANCE = 0.01
"""A shorter rule is preferred when it does at most this much worse on the objective."""
SHARPEN = 0.05
"""The search is done again with a higher hope when the F1 that was found exceeds the one that was hoped for by this."""
SEARCHES = 3
SHORT = (1, 2, 4, 8)
"""Lengths for which a search of its own is made when a curve of lengths is wanted: pruning a long rule misses these."""


@dataclass(frozen=True)
class Learned:
    """The chosen rule and the path it was chosen from, longest first."""

    chosen: Candidate
    path: tuple[Candidate, ...]

    def at_most(self, n: int) -> Candidate | None:
        """The best candidate of at most `n` elementary tests, or None when there is none."""
        fitting = [candidate for candidate in self.path if candidate.size <= n]
        return max(fitting, key=lambda c: (c.objective, -c.size)) if fitting else None


def search(explore: Rows, settings: Settings, *, weak: bool = True, barred: frozenset[int] = frozenset()) -> Plan:
    """Clauses found on explore, those that claim activity first; `barred` as in `learn`."""
    free = np.ones(len(explore), bool)
    minimum_gain = TIER_GAIN * explore.spread
    found: list[PlanClause] = []
    stages = [(1.0, settings), *((level, WEAK) for level in (WEAK_LEVELS if weak else ()))]
    for level, stage in stages:
        problem = Problem(explore, explore.threshold * level, barred=barred)
        for draft in induce(problem, stage, free):
            clause = to_clause(problem, draft, level == 1.0)
            found += tiers(clause, explore, free, minimum_gain)
            free &= ~explore.clause(clause)
    return tuple(found)


def learn(
    explore: Rows, refine: Rows, settings: Settings, *, curve: bool = False, barred: frozenset[int] = frozenset()
) -> Learned | None:
    """The rule of a unit, or None when no literal tells its active positions from the others.

    Args:
        explore: rows to search.
        refine: rows to prune and to choose the length on.
        settings: the search's.
        barred: families (by number) of literals that are not to be used.
        curve: also search for rules of few tests, so that `Learned.at_most` has good short ones.
    """
    path: list[Candidate] = []
    pruner = Pruner(explore, refine, settings.f_target)
    for _ in range(SEARCHES):
        found = pruner.path(search(explore, settings, barred=barred))
        path += found
        # Dinkelbach's iteration: what a position gains depends on the F1 that can be had, which is learned by trying.
        reached = max((candidate.f1 for candidate in found), default=0.0)
        if reached < settings.f_target + SHARPEN:
            break
        settings = replace(settings, f_target=reached)
        pruner = Pruner(explore, refine, reached)
    if not path:
        return None
    if curve:
        for length in SHORT:
            limited = replace(settings, max_members=length)
            path.append(pruner.candidate(search(explore, limited, weak=False, barred=barred)))
        path = [candidate for candidate in path if candidate.size]
    best = max(candidate.objective for candidate in path)
    good = [candidate for candidate in path if candidate.objective >= best - TOLERANCE]
    chosen = min(good, key=lambda c: (c.size, -c.objective))
    return Learned(chosen, tuple(sorted(path, key=lambda c: -c.size)))
