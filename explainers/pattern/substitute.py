"""Which tokens belong in a rule's sets? Asked of the subject: put another token in the place and look.

A search knows only the tokens that the texts at hand happen to hold in a place, and not those that are rare there. The
subject can be asked: in an example of a clause, the token that one of its sets is about is replaced by every frequent
token of the corpus in turn. Those that keep the unit active belong in the set; of a negated set, those that silence it.
A second example must agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from explainers.pattern.plan import Part, Plan, PlanClause, Rows
from explainers.rules.features import FAMILIES
from explainers.types import Evidence
from tools.types import BoolArray

CANDIDATES = 512
"""Most frequent tokens of the explore panel that are tried in a place."""
CLAUSES = 4
"""Clauses that are looked at, those with most activity."""


@dataclass(frozen=True)
class Filled:
    """A plan with its sets filled, and how that came about."""

    plan: Plan
    added: int
    """Members that were not there before."""
    removed: int
    sequences: int
    """Texts that were put through the subject."""


class Substitution:
    """Asks the subject about one unit.

    Args:
        evidence: What is known of the unit; it needs a subject.
        rows: The explore rows.
    """

    def __init__(self, evidence: Evidence, rows: Rows):
        self._evidence, self._rows = evidence, rows
        texts = evidence.explore.texts
        counts: Counter[int] = Counter()
        self._pieces: dict[int, str] = {}
        for context in evidence.explore.panel_contexts.tolist():
            ids = texts.ids(context).tolist()[1:]
            counts.update(ids)
            self._pieces.update(zip(ids, texts.pieces(context)[1:], strict=True))
        self._candidates = [token for token, _ in counts.most_common(CANDIDATES)]
        self._sequences = 0

    def fill(self, plan: Plan) -> Filled:
        """The plan with the sets of its strongest firing clauses filled."""
        weights = [
            float(self._rows.weights[self._rows.clause(clause) & self._rows.active].sum()) if clause.firing else 0.0
            for clause in plan
        ]
        chosen = [c for c in np.argsort(weights, kind="stable")[::-1][:CLAUSES].tolist() if weights[c] > 0]
        filled, added, removed = list(plan), 0, 0
        for c in chosen:
            for p in range(len(plan[c].parts)):
                before = set(filled[c].parts[p].members)
                after = self._fill_part(filled[c], p)
                if after and set(after) != before:
                    parts = list(filled[c].parts)
                    parts[p] = replace(parts[p], members=after)
                    filled[c] = replace(filled[c], parts=tuple(parts))
                    added += len(set(after) - before)
                    removed += len(before - set(after))
        return Filled(tuple(filled), added, removed, self._sequences)

    def _fill_part(self, clause: PlanClause, number: int) -> tuple[str, ...]:
        """Members that the subject confirms, those there before first; none when it cannot be asked."""
        part = clause.parts[number]
        place = FAMILIES[part.family].place
        if place is None or place.kind not in ("token", "near token"):
            return ()
        examples = self._examples(clause, part)
        if len(examples) < 2:
            return ()
        kept = self._try(*examples[0], self._candidates, part.negated)
        again = [token for token in self._candidates if token in kept or self._pieces[token] in part.members]
        sure = self._try(*examples[1], again, part.negated)
        confirmed = {self._pieces[token] for token in kept & sure}
        refused = {self._pieces[token] for token in set(again) - kept - sure}
        members = [member for member in part.members if member not in refused]
        return tuple(members + sorted(confirmed - set(members)))

    def _examples(self, clause: PlanClause, part: Part) -> list[tuple[list[int], int, int]]:
        """Two examples of the clause with least text before them: (ids up to the position, position, place to edit)."""
        rows, texts = self._rows, self._evidence.explore.texts
        held = np.flatnonzero(rows.clause(clause) & rows.active)
        order = held[np.argsort(rows.sample.positions[held], kind="stable")]
        found: list[tuple[list[int], int, int]] = []
        seen: set[int] = set()
        for row in order.tolist():
            context, position = int(rows.sample.contexts[row]), int(rows.sample.positions[row])
            if int(rows.documents[row]) in seen:
                continue
            offset = self._offset(clause, part, texts.pieces(context)[: position + 1])
            if offset is None:
                continue
            seen.add(int(rows.documents[row]))
            found.append((texts.ids(context).tolist()[: position + 1], position, position - offset))
            if len(found) == 2:
                break
        return found

    @staticmethod
    def _offset(clause: PlanClause, part: Part, pieces: Sequence[str]) -> int | None:
        """How far back the token stands that the part is about; None where it is not one that can be replaced."""
        place = FAMILIES[part.family].place
        assert place is not None
        reach = len(pieces) - 1  # position 0 is left as it is
        if place.kind == "token":
            return place.offset if place.offset < reach else None
        offsets = range(min(place.offset, reach))
        if not part.negated:
            return next((offset for offset in offsets if pieces[-1 - offset] in part.members), None)
        taken = {FAMILIES[other.family].distance for other in clause.parts if other is not part}
        return next((offset for offset in reversed(offsets) if offset and offset not in taken), None)

    def _try(self, ids: list[int], position: int, place: int, tokens: Sequence[int], negated: bool) -> set[int]:
        """Tokens that leave the unit active when they are put in the place; those that silence it, of a negated set."""
        from tools.units import unit_activations

        evidence = self._evidence
        assert evidence.subject is not None
        if not tokens:
            return set()
        texts = [[*ids[:place], token, *ids[place + 1 :]] for token in tokens]
        self._sequences += len(texts)
        values = unit_activations(evidence.subject, [evidence.unit], texts)
        active: BoolArray = evidence.sign * np.array([v[0, position] for v in values]) > evidence.threshold
        return {token for token, on in zip(tokens, active.tolist(), strict=True) if on != negated}
