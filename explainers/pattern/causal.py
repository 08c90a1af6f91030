"""From a rule that fits the texts to one that names causes: what edits of examples say is used to search again.

Where two tokens always come together, texts cannot tell which of them matters; a rule about either fits. Edits of the
strongest examples can. So, each time if a rule is found that fits the texts nearly as well:

1. rules are searched that look only at tokens which silence the unit when they are replaced;
2. else rules that leave out the tokens which the first one refers to and which can be replaced without effect;
3. a place that must be as it is, and that a clause does not refer to, gets a set of its own;
4. the sets are filled, and their distances tried, by asking the subject (`explainers.pattern.substitute`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from explainers.pattern.edit_check import SILENCED, Edits, edit_strongest, mentioned_offsets
from explainers.pattern.grow import Settings
from explainers.pattern.learn import Learned, learn
from explainers.pattern.plan import Part, Plan, PlanClause, Rows
from explainers.pattern.prune import Candidate, Pruner
from explainers.pattern.substitute import Substitution
from explainers.rules.ast import MAX_LITERALS, Clause, Compare, Rule, State
from explainers.rules.evaluate import reading_of
from explainers.rules.features import FAMILIES, TOKENS_BACK, Family
from explainers.types import Evidence, Recorder
from tools.types import BoolArray

if TYPE_CHECKING:
    from tools.edits import EditEffect

TOLERANCE = 0.02
"""How much worse on the objective a rule may be that names causes."""
SEARCHES = 2
NEARLY = 0.7
"""The F1 from which on a rule's sets are completed by asking the subject."""
CLAUSES = 4
"""Clauses that are completed, those with most activity."""
EACH = 4
"""Examples of a clause that are edited."""
FURTHER = 2
"""Clauses that may be added for activity that the rule does not see, when that is this share of all or more:"""
UNSEEN = 0.02
MEMBERS = 160
"""A place that must be as it is gets a set of its own when it holds at most so many tokens."""


class Causal:
    """Searches again with what the edits of one unit say.

    Args:
        evidence: What is known of the unit; it needs a subject.
        edits: Of its strongest examples.
        splits: The explore and refine rows.
        settings: The search's.
    """

    def __init__(self, evidence: Evidence, edits: Edits, splits: tuple[Rows, Rows], settings: Settings):
        self._evidence, self._edits, self._splits, self._settings = evidence, edits, splits, settings

    def improve(self, learned: Learned, recorder: Recorder) -> Learned:
        """The best rule that names causes, if there is one that fits the texts nearly as well; else the one given."""
        found = self._only_causes(learned) or self._without_idle(learned)
        if found.chosen.f1 < NEARLY:
            return found
        asked = Substitution(self._evidence, self._splits[0])
        for clause in self._strongest(found.chosen.plan):
            found = self._revised(found, clause, asked)
        for _ in range(FURTHER):
            found = self._extended(found, asked)
        recorder.event("substitution", {"sequences": asked.sequences, "added": asked.added, "moved": asked.moved})
        return found

    def _strongest(self, plan: Plan) -> list[PlanClause]:
        """Clauses that claim activity and catch most of it."""
        explore = self._splits[0]
        caught = {clause: float(explore.weights[explore.clause(clause) & explore.active].sum()) for clause in plan}
        firing = [clause for clause in plan if clause.firing and caught[clause] > 0]
        return sorted(firing, key=lambda clause: -caught[clause])[:CLAUSES]

    def _revised(self, learned: Learned, clause: PlanClause, asked: Substitution) -> Learned:
        """With one clause completed, filled and moved as far as that fits the texts."""
        if clause not in learned.chosen.plan:
            return learned
        # A set that was read off few examples fits only once the subject has filled it, so both are judged together.
        for start in dict.fromkeys((self._completed(clause), clause)):
            revised = asked.fill(start)
            other = self._kept(learned, _swapped(learned.chosen.plan, clause, revised))
            if other is not learned or revised == clause:
                moved = asked.reach(revised)
                return self._kept(other, _swapped(other.chosen.plan, revised, moved))
        return learned

    def _extended(self, learned: Learned, asked: Substitution) -> Learned:
        """With a clause for activity that the rule does not see, made of the places that its examples need."""
        explore = self._splits[0]
        unseen = explore.active & ~(explore.predictions(learned.chosen.rule, learned.chosen.plan) > explore.threshold)
        if explore.weights[unseen].sum() < UNSEEN * explore.active_weight:
            return learned
        edits = edit_strongest(self._evidence, explore, among=unseen)
        if edits is None:
            return learned
        shapes = Counter(self._needed(effects) for effects in edits.found)
        for shape, count in shapes.most_common():
            if not shape or count < 2:
                continue
            texts = self._evidence.explore.texts
            alike = [row for row, effects in enumerate(edits.found) if self._needed(effects) == shape]
            parts = []
            for distance in sorted(shape):
                tokens = {texts.pieces(edits.contexts[row])[edits.positions[row] - distance] for row in alike}
                parts.append(Part(distance, tuple(sorted(tokens))))
            clause = asked.reach(asked.fill(PlanClause(tuple(parts), True)))
            other = self._candidate(learned, (*learned.chosen.plan, clause))
            if other.objective > learned.chosen.objective:
                return replace(learned, chosen=other)
        return learned

    def _needed(self, effects: Sequence[EditEffect]) -> frozenset[int]:
        """How far back the tokens stand that silence the unit when they are replaced."""
        return frozenset(-effect.offset for effect in effects if self._silences(effect.original, effect.replaced))

    def _candidate(self, learned: Learned, plan: Plan) -> Candidate:
        return Pruner(*self._splits, learned.chosen.f1).candidate(plan)

    def _kept(self, learned: Learned, plan: Plan) -> Learned:
        """With another plan for the chosen one, unless it fits the texts clearly worse."""
        if plan == learned.chosen.plan:
            return learned
        other = self._candidate(learned, plan)
        return replace(learned, chosen=other) if self._fits(other, learned.chosen) else learned

    @staticmethod
    def _fits(other: Candidate, known: Candidate) -> bool:
        return other.objective >= known.objective - TOLERANCE

    def _search(self, barred: frozenset[int]) -> Learned | None:
        return learn(*self._splits, self._settings, barred=barred)

    def _only_causes(self, learned: Learned) -> Learned | None:
        needed = {distance for effects in self._edits.found for distance in self._needed(effects)}
        if not needed:
            return None
        again = self._search(frozenset(number for number, one in enumerate(FAMILIES) if not _about(one, needed)))
        return again if again is not None and self._fits(again.chosen, learned.chosen) else None

    def _without_idle(self, learned: Learned) -> Learned:
        idle: frozenset[int] = frozenset()
        for _ in range(SEARCHES):
            doubtful = frozenset(-offset for offset in self._edits.check(learned.chosen.rule).doubtful)
            if doubtful <= idle:
                break
            idle |= doubtful
            again = self._search(frozenset(number for number, one in enumerate(FAMILIES) if one.distance in idle))
            if again is None or not self._fits(again.chosen, learned.chosen):
                break
            learned = again
        return learned

    def _silences(self, original: float, replaced: float) -> bool:
        sign = self._evidence.sign
        return sign * replaced <= SILENCED * sign * original

    def _completed(self, clause: PlanClause) -> PlanClause:
        """The clause with a set for each place that most of its examples need and that it does not refer to."""
        explore = self._splits[0]
        edits = edit_strongest(self._evidence, explore, EACH, explore.clause(clause))
        if edits is None:
            return clause
        literals = tuple(FAMILIES[part.family].literal(part.members, part.negated) for part in clause.parts)
        alone = Rule((Clause(1.0, literals),), 0.0)
        texts, n = self._evidence.explore.texts, len(edits.found)
        needed, named = np.zeros(TOKENS_BACK), np.zeros(TOKENS_BACK)
        for context, position, effects in zip(edits.contexts, edits.positions, edits.found, strict=True):
            for offset in mentioned_offsets(alone, reading_of(texts, context), position):
                if -offset < TOKENS_BACK:
                    named[-offset] += 1
            for distance in self._needed(effects):
                needed[distance] += 1
        parts = []
        for distance in np.flatnonzero((needed > n / 2) & (named < n / 2)).tolist():
            members = self._tokens_at(distance, explore.clause(clause) & explore.active)
            if 0 < len(members) <= MEMBERS:
                parts.append(Part(distance, members))
        return replace(clause, parts=(*clause.parts, *parts)[:MAX_LITERALS])

    def _tokens_at(self, distance: int, rows: BoolArray) -> tuple[str, ...]:
        explore = self._splits[0]
        column = FAMILIES[distance].columns[0]
        codes = np.unique(explore.codes[rows, column])
        return tuple(sorted(explore.table.member_of[code] for code in codes.tolist() if code >= 0))


def _swapped(plan: Plan, old: PlanClause, new: PlanClause) -> Plan:
    return tuple(new if clause == old else clause for clause in plan)


def _about(family: Family, distances: set[int]) -> bool:
    """Whether its literals are about whole tokens at these distances, about repetition, or about the position."""
    if family.place is not None:
        return family.place.kind == "near token" or family.distance in distances
    if isinstance(family.flag, State):
        return family.flag.name in ("repeated token", "induction")
    return bool(family.quantity) or (isinstance(family.flag, Compare) and family.flag.quantity == "position")
