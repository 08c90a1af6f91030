"""From a rule that fits the texts to one that names causes: what edits of examples say is used to search again.

Where two tokens always come together, texts cannot tell which of them matters; a rule about either fits. Edits of the
strongest examples can. So, each time if a rule is found that fits the texts nearly as well:

1. rules are searched that look only at tokens which silence the unit when they are replaced;
2. else rules that leave out the tokens which the first one refers to and which can be replaced without effect;
3. a place that must be as it is, and that a clause does not refer to, gets a set of its own;
4. the sets are filled, and their distances tried, by asking the subject (`explainers.pattern.substitute`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from explainers.pattern.edit_check import SILENCED, Edits, mentioned_offsets
from explainers.pattern.grow import Settings
from explainers.pattern.learn import Learned, learn
from explainers.pattern.plan import Part, Plan, Rows
from explainers.pattern.prune import Candidate, Pruner
from explainers.pattern.substitute import Substitution
from explainers.rules.ast import Compare, State
from explainers.rules.evaluate import matches, reading_of
from explainers.rules.features import FAMILIES, TOKENS_BACK, Family
from explainers.types import Evidence, Recorder

TOLERANCE = 0.02
"""How much worse on the objective a rule may be that names causes."""
SEARCHES = 2
NEARLY = 0.7
"""The F1 from which on a rule's sets are completed by asking the subject."""
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
        filled = found
        # A set that was read off few examples fits only once the subject has filled it, so both are judged together.
        for plan in dict.fromkeys((self._completed(found.chosen), found.chosen.plan)):
            filled = self._kept(found, asked.fill(plan))
            if filled is not found:
                break
        moved = self._kept(filled, asked.reach(filled.chosen.plan))
        recorder.event("substitution", {"sequences": asked.sequences, "added": asked.added, "moved": asked.moved})
        return moved

    def _kept(self, learned: Learned, plan: Plan) -> Learned:
        """With another plan for the chosen one, unless it fits the texts clearly worse."""
        if plan == learned.chosen.plan:
            return learned
        other = Pruner(*self._splits, learned.chosen.f1).candidate(plan)
        return replace(learned, chosen=other) if self._fits(other, learned.chosen) else learned

    @staticmethod
    def _fits(other: Candidate, known: Candidate) -> bool:
        return other.objective >= known.objective - TOLERANCE

    def _search(self, barred: frozenset[int]) -> Learned | None:
        return learn(*self._splits, self._settings, barred=barred)

    def _only_causes(self, learned: Learned) -> Learned | None:
        needed = {
            -effect.offset
            for effects in self._edits.found
            for effect in effects
            if self._silences(effect.original, effect.replaced)
        }
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

    def _completed(self, chosen: Candidate) -> Plan:
        """The plan with a set for each place that must be as it is and that the clause does not refer to."""
        edits, explore = self._edits, self._splits[0]
        texts = self._evidence.explore.texts
        where = (np.array(edits.contexts), np.array(edits.positions))
        first = matches(chosen.rule, texts, *where)
        plan = list(chosen.plan)
        for c, clause in enumerate(chosen.plan):
            rows = np.flatnonzero(first == c).tolist()
            if not clause.firing or not rows:
                continue
            parts: list[Part] = []
            for offset in self._unmentioned(chosen, rows):
                members = self._tokens_at(offset, explore.clause(clause) & explore.active)
                if 0 < len(members) <= MEMBERS:
                    parts.append(Part(offset, members))
            plan[c] = replace(clause, parts=(*clause.parts, *parts))
        return tuple(plan)

    def _unmentioned(self, chosen: Candidate, rows: Sequence[int]) -> list[int]:
        """How far back the places are that most of the examples need and the rule refers to in less than half."""
        edits, texts = self._edits, self._evidence.explore.texts
        needed, named = np.zeros(TOKENS_BACK), np.zeros(TOKENS_BACK)
        for row in rows:
            reading = reading_of(texts, edits.contexts[row])
            for offset in mentioned_offsets(chosen.rule, reading, edits.positions[row]):
                if -offset < TOKENS_BACK:
                    named[-offset] += 1
            for effect in edits.found[row]:
                needed[-effect.offset] += self._silences(effect.original, effect.replaced)
        return np.flatnonzero((needed > len(rows) / 2) & (named < len(rows) / 2)).tolist()

    def _tokens_at(self, distance: int, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[str, ...]:
        explore = self._splits[0]
        column = FAMILIES[distance].columns[0]
        codes = np.unique(explore.codes[rows, column])
        return tuple(sorted(explore.table.member_of[code] for code in codes.tolist() if code >= 0))


def _about(family: Family, distances: set[int]) -> bool:
    """Whether its literals are about whole tokens at these distances, about repetition, or about the position."""
    if family.place is not None:
        return family.place.kind == "near token" or family.distance in distances
    if isinstance(family.flag, State):
        return family.flag.name in ("repeated token", "induction")
    return bool(family.quantity) or (isinstance(family.flag, Compare) and family.flag.quantity == "position")
