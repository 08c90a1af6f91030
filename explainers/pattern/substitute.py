"""Which tokens belong in a rule's sets? Asked of the subject: put another token in the place and look.

A search knows only the tokens that the texts at hand happen to hold in a place, and not those that are rare there. The
subject can be asked: in an example of a clause, the token that one of its sets is about is replaced by every frequent
token of the corpus in turn. Those that keep the unit active belong in the set; of a negated set, those that silence it.
A second example must agree. And the token can be moved: at which distances does the unit mind it?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from explainers.pattern.plan import Part, PlanClause, Rows
from explainers.rules.ast import Place
from explainers.rules.features import FAMILIES, TOKENS_BACK
from explainers.types import Evidence
from tools.types import BoolArray

CANDIDATES = 512
"""Most frequent tokens of the explore panel that are tried in a place."""
IDLE = 0.5
"""A set to which more than this share of all tokens belong says nothing; it is left out."""
NEUTRAL = 8
"""Tokens that are tried for a stand-in that is no cause itself."""


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
        self.sequences = 0
        """Texts that were put through the subject."""
        self.added = 0
        """Members that the sets lacked."""
        self.moved = 0
        """Sets whose distance turned out to be another."""

    def fill(self, clause: PlanClause) -> PlanClause:
        """The clause with its sets filled, and those left out that say nothing."""
        for p in reversed(range(len(clause.parts))):
            part = clause.parts[p]
            after = self._fill_part(clause, p)
            if len(after) > IDLE * len(self._candidates) and not part.negated and len(clause.parts) > 1:
                clause = replace(clause, parts=(*clause.parts[:p], *clause.parts[p + 1 :]))
            elif after and set(after) != set(part.members):
                clause = _with_part(clause, p, replace(part, members=after))
                self.added += len(set(after) - set(part.members))
        return clause

    def reach(self, clause: PlanClause) -> PlanClause:
        """The clause with each set at the distances at which the subject minds it.

        In an example, the token that the set is about is replaced by one that is not in it, and put at other distances.
        """
        for p in range(len(clause.parts)):
            family = self._reach_of(clause, p)
            if family is not None and family != clause.parts[p].family:
                clause = _with_part(clause, p, replace(clause.parts[p], family=family))
                self.moved += 1
        return clause

    def _reach_of(self, clause: PlanClause, number: int) -> int | None:
        """The family of the set's true distances; None where they make up none, or cannot be found out."""
        part = clause.parts[number]
        place = FAMILIES[part.family].place
        if place is None or place.kind not in ("token", "near token") or (place.kind == "token" and not place.offset):
            return None
        distances: list[set[int]] = []
        for ids, position, at in self._examples(clause, part):
            found = self._minded(clause, part, ids, position, at)
            if found is not None:
                distances.append(found)
        if len(distances) < 2:
            return None
        both = set.intersection(*distances)
        if len(both) == 1:
            return both.pop()  # the first families are those of the single tokens, in order of their distance
        last = max(both, default=0)
        if last < 2 or not set(range(2, last + 1)) <= both:
            return None
        return next(
            (n for n, one in enumerate(FAMILIES) if one.place == Place("near token", min(last + 1, TOKENS_BACK))), None
        )

    def _minded(self, clause: PlanClause, part: Part, ids: list[int], position: int, at: int) -> set[int] | None:
        """Distances at which one of the set's tokens keeps the unit active (of a negated set: silences it)."""
        members = [token for token in self._candidates if self._pieces[token] in part.members]
        others = [token for token in self._candidates if self._pieces[token] not in part.members]
        if not members or not others:
            return None
        place = FAMILIES[part.family].place
        assert place is not None
        near = range(position - 1, max(position - TOKENS_BACK, 0), -1)
        taken = {FAMILIES[other.family].distance for other in clause.parts if other is not part and not other.negated}
        occurring = [i for i in near if self._pieces.get(ids[i]) in part.members]
        bare = list(ids)
        # Tokens that must be as they are cannot be replaced; among many others one is found that is no cause itself.
        for i in {*occurring, at}:
            if position - i in taken:
                return None
            bare[i] = others[0]
        plain = next((token for token in others[:NEUTRAL] if self._is_plain(bare, position, at, token, part)), None)
        if plain is None:
            return None
        for i in {*occurring, at}:
            bare[i] = plain
        tried = [i for i in near if position - i not in taken]
        texts = [[*bare[:i], members[0], *bare[i + 1 :]] for i in tried]
        active = self._active(texts, position)
        return {position - i for i, on in zip(tried, active.tolist(), strict=True) if on != part.negated}

    def _is_plain(self, bare: list[int], position: int, at: int, token: int, part: Part) -> bool:
        """Whether without the set's tokens the unit is silent, or (of a negated set) active."""
        return bool(self._active([[*bare[:at], token, *bare[at + 1 :]]], position)[0] == part.negated)

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
        if not tokens:
            return set()
        active = self._active([[*ids[:place], token, *ids[place + 1 :]] for token in tokens], position)
        return {token for token, on in zip(tokens, active.tolist(), strict=True) if on != negated}

    def _active(self, texts: Sequence[Sequence[int]], position: int) -> BoolArray:
        """Whether the unit is active at the position of each text."""
        from tools.units import unit_activations

        evidence = self._evidence
        assert evidence.subject is not None
        self.sequences += len(texts)
        values = unit_activations(evidence.subject, [evidence.unit], texts)
        return np.asarray(evidence.sign * np.array([v[0, position] for v in values]) > evidence.threshold)


def _with_part(clause: PlanClause, number: int, part: Part) -> PlanClause:
    return replace(clause, parts=(*clause.parts[:number], part, *clause.parts[number + 1 :]))
