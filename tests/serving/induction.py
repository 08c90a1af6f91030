"""How the reasoning mind finds a rule in labelled places of texts, and mends one.

A rule is what the rule language of the prompts can say; of it the mind uses sets of tokens at a place (the token, up to
four before it), among the last few, classes and affixes of the token, repetition, and what must not be there. It is
found as one would by hand: which tokens are marked? which of them everywhere? what stands before those that are
marked and not before the others? So clause by clause, until what is left is too little to be a rule. Whoever has a
rule already mends it: drops what the labels speak against, adds members, conditions, exceptions, and clauses, as long
as there are fewer errors for it.

Errors weigh one each, parts of a rule `LITERAL` and `MEMBER`, so that a single odd label makes no rule.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from explainers.rules.ast import Clause, InSet, Is, Literal, Place, Rule, RuleError, State, members
from explainers.rules.language import format_rule, parse_rule
from tests.serving.lexicon import kinds_of

Mask = npt.NDArray[np.bool_]

BEFORE = 4
"""Tokens before a place that are looked at one by one."""
AMONG = (3, 5, 8)
"""Last so many tokens that are looked at together."""
LITERAL, MEMBER, BESIDE, NEAR = 0.35, 0.06, 0.2, 0.35
"""What a literal must be worth in errors, and a member of a set: of the token itself, at a place before it, among the
last few."""
FURTHER = 1.5
"""What a further clause must be worth."""
MOST_CLAUSES, MOST_LITERALS = 4, 3
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Some other token, of which it is not told which."""


@dataclass(frozen=True)
class Example:
    """A place of a text with what is known of it."""

    tokens: tuple[str, ...]
    """Up to the place, as they are."""
    active: bool
    level: float = 10.0
    weight: float = 1.0


class Labelled:
    """Examples as columns, with the truth of literals."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = list(examples)
        self.active: Mask = np.array([one.active for one in examples], bool)
        self.weight = np.array([one.weight for one in examples], float)
        self.level = np.array([one.level for one in examples], float)
        back = max(AMONG)
        self.at = [[one.tokens[-1 - k] if k < len(one.tokens) else "" for one in examples] for k in range(back)]
        self._near = {k: [frozenset(one.tokens[-k:]) for one in examples] for k in range(1, 13)}
        self._truth: dict[Literal, Mask] = {}

    def holds(self, literal: Literal) -> Mask:
        """Where a literal holds; what the mind cannot read holds nowhere."""
        if literal not in self._truth:
            plain = replace(literal, negated=False)
            found = np.array([_true(plain, one.tokens) for one in self.examples], bool)
            self._truth[literal] = ~found if literal.negated else found
        return self._truth[literal]

    def clause(self, clause: Clause) -> Mask:
        """Where all of a clause's literals hold."""
        held = np.ones(len(self.examples), bool)
        for literal in clause.literals:
            held = held & self.holds(literal)
        return held

    def said(self, rule: Rule, above: float) -> Mask:
        """Where a rule names activity."""
        held = np.zeros(len(self.examples), bool)
        taken = np.zeros(len(self.examples), bool)
        for clause in rule.clauses:
            here = self.clause(clause) & ~taken
            taken |= here
            if clause.strength > above:
                held |= here
        return held

    def tokens(self, place: Place, row: int) -> Iterable[str]:
        """Tokens that a set at a place would look at."""
        if place.kind == "near token":
            return self._near[place.offset][row]
        token = self.at[place.offset][row]
        return (token,) if token else ()


def _true(literal: Literal, tokens: Sequence[str]) -> bool:
    if isinstance(literal, InSet):
        kind, k = literal.place.kind, literal.place.offset
        if kind == "near token":
            return any(token in literal.members for token in tokens[-k:])
        if kind in ("token", "word"):
            token = tokens[-1 - k] if k < len(tokens) else ""
            token = token.strip() if kind == "word" else token
            if literal.relation == "in":
                return token in literal.members
            way = str.startswith if literal.relation == "starts" else str.endswith
            return bool(token) and any(way(token, member) for member in literal.members)
        if kind == "text":
            return any("".join(tokens).endswith(member) for member in literal.members)
        return False
    if isinstance(literal, State):
        pairs = itertools.pairwise(tokens[:-1])
        return (literal.name == "repeated token" and tokens[-1] in tokens[:-1]) or (
            literal.name == "induction" and len(tokens) > 2 and tuple(tokens[-2:]) in pairs
        )
    if isinstance(literal, Is):
        token = tokens[-1 - literal.offset].strip() if literal.offset < len(tokens) else ""
        return _CLASSES.get(literal.token_class, lambda _: False)(token)
    return False


_CLASSES: dict[str, Callable[[str], bool]] = {
    "digit": str.isdigit, "upper": lambda t: len(t) > 1 and t.isupper(), "title": lambda t: t.istitle() and t.isalpha(),
    "lower": lambda t: t.isalpha() and t.islower(), "punct": lambda t: bool(t) and not any(c.isalnum() for c in t),
}  # fmt: skip


@dataclass
class Induction:
    """A search on some labelled places.

    Args:
        data: The places.
        rng: Decides between what is equally good, and whether a set is taken for a kind of words.
        above: Level from which on activity is claimed.
        generalise: Probability that a set of words of one kind is taken to be the whole kind.
    """

    data: Labelled
    rng: random.Random
    above: float = 5.0
    generalise: float = 0.5

    def found(self) -> Rule | None:
        """A rule for what is active; None where nothing is.

        Of two ways to begin the one that leaves less to explain: with the clause that is worth most, or with the
        tokens that are active wherever they stand.
        """
        begun = [Rule((), 0.0)]
        free = np.ones(len(self.data.examples), bool)
        pure = self._pure(None, free)
        if pure is not None:
            begun.append(Rule((Clause(self._strength((pure,), free), (self._whole_kind(pure),)),), 0.0))
        rules = [rule for rule in map(self._covered, begun) if rule is not None]
        return min(rules, key=self.loss, default=None)

    def mended(self, rule: Rule, edits: int = 8) -> Rule:
        """The rule after changes that each leave fewer errors."""
        best, loss = rule, self.loss(rule)
        for _ in range(edits):
            changed = [(self.loss(one), number, one) for number, one in enumerate(self._changes(best))]
            least = min(changed, default=None, key=lambda item: item[:2])
            if least is None or least[0] > loss - 0.25:
                break
            loss, best = least[0], least[2]
        return best

    def loss(self, rule: Rule) -> float:
        """Errors, and what the rule's length must be worth."""
        wrong = self.data.said(rule, self.above) != self.data.active
        return float(self.data.weight[wrong].sum()) + sum(_length(clause.literals) for clause in rule.clauses)

    def errors(self, rule: Rule) -> float:
        """Errors alone."""
        wrong = self.data.said(rule, self.above) != self.data.active
        return float(self.data.weight[wrong].sum())

    def _pure(self, among: frozenset[str] | None, free: Mask) -> InSet | None:
        """Tokens that are active wherever they stand, seen so at least twice; of some, or of all."""
        seen: dict[str, list[bool]] = {}
        for row in np.flatnonzero(free).tolist():
            seen.setdefault(self.data.at[0][row], []).append(bool(self.data.active[row]))
        found = [
            token for token, marks in seen.items()
            if all(marks) and token != UNKNOWN and (among is None or token in among)
        ]  # fmt: skip
        often = sum(len(seen[token]) for token in found)
        return InSet(Place("token"), "in", tuple(sorted(found))) if found and often >= 3 else None

    def _covered(self, rule: Rule) -> Rule | None:
        while len(rule.clauses) < MOST_CLAUSES:
            clause = self._clause(~self.data.said(rule, self.above))
            if clause is None:
                break
            rule = Rule((*rule.clauses, clause), 0.0)
        if not rule.clauses:
            return None
        return Rule(tuple(sorted(rule.clauses, key=lambda one: -one.strength)), 0.0)

    def _clause(self, free: Mask, least: float = 0.5) -> Clause | None:
        """The clause that is worth most on the places that no other names; None where it is worth too little."""
        beam = [((), free)]
        best: tuple[float, tuple[Literal, ...]] | None = None
        for _ in range(MOST_LITERALS):
            grown: list[tuple[float, float, tuple[Literal, ...], Mask]] = []
            for literals, mask in beam:
                for literal in self._candidates(mask, first=not literals):
                    if literal in literals:
                        continue
                    now = mask & self.data.holds(literal)
                    worth = self._worth((*literals, literal), now)
                    grown.append((worth, self.rng.random(), (*literals, literal), now))
            grown.sort(key=lambda item: (-item[0], item[1]))
            beam = [(literals, mask) for _, _, literals, mask in grown[:4]]
            if grown and (best is None or grown[0][0] > best[0]):
                best = grown[0][0], grown[0][2]
        if best is None or best[0] < least:
            return None
        literals = tuple(self._whole_kind(literal) for literal in best[1])
        return Clause(self._strength(literals, free), literals)

    def _worth(self, literals: Sequence[Literal], mask: Mask) -> float:
        weight, active = self.data.weight, self.data.active
        return float(weight[mask & active].sum() - 1.5 * weight[mask & ~active].sum()) - _length(literals)

    def _strength(self, literals: Sequence[Literal], free: Mask) -> float:
        held = free & self.data.active
        for literal in literals:
            held = held & self.data.holds(literal)
        level = float(self.data.level[held].mean()) if held.any() else 10.0
        return round(max(level, self.above + 0.5), 1)

    def _candidates(self, mask: Mask, *, first: bool) -> list[Literal]:
        """Literals that might tell what is active among some places from what is silent."""
        places = [Place("token", k) for k in range(BEFORE + 1)] + [Place("near token", k) for k in AMONG]
        active, silent = mask & self.data.active, mask & ~self.data.active
        found: list[Literal | None] = [self._set(place, active, silent) for place in places]
        found += [Is(0, name) for name in _CLASSES]
        found += self._affixes(active, silent)
        found += [State("repeated token"), State("induction")]
        if not first:
            found += [self._set(place, silent, active, negated=True) for place in places]
            found += [State("repeated token", True)]
        return [one for one in found if one is not None]

    def _set(self, place: Place, wanted: Mask, others: Mask, *, negated: bool = False) -> InSet | None:
        """Tokens of a place that are seen where it is wanted and not, or hardly, where it is not."""
        left = set(np.flatnonzero(wanted).tolist())
        against: Counter[str] = Counter()
        for row in np.flatnonzero(others).tolist():
            against.update({token: float(self.data.weight[row]) for token in self.data.tokens(place, row)})
        carrying: dict[str, set[int]] = {}
        for row in left:
            for token in self.data.tokens(place, row):
                if token != UNKNOWN:
                    carrying.setdefault(token, set()).add(row)
        chosen: list[str] = []
        least = 1.5 if negated or place.kind == "near token" else 0.7
        while carrying and len(chosen) < 40:
            gains = {
                token: float(self.data.weight[list(rows & left)].sum()) - against[token] * (3.0 if negated else 0.6)
                for token, rows in carrying.items()
            }
            token = max(gains, key=lambda one: (gains[one], one))
            if gains[token] < (least if len(chosen) == 0 or place.kind == "near token" else 0.3):
                break
            chosen.append(token)
            left -= carrying.pop(token)
        return InSet(place, "in", tuple(sorted(chosen)), negated) if chosen else None

    def _affixes(self, active: Mask, silent: Mask) -> list[Literal]:
        """The beginning or the end that most of the active tokens share."""
        tokens = [self.data.at[0][row] for row in np.flatnonzero(active).tolist()]
        if len(set(tokens)) < 4:
            return []
        found: list[Literal] = []
        for relation, cut in (("starts", lambda t, n: t[: n + 1]), ("ends", lambda t, n: t[-n:])):
            for length in (1, 2, 3):
                counts = Counter(cut(token, length) for token in set(tokens) if len(token) > length + 1)
                if counts and counts.most_common(1)[0][1] >= max(3, 0.5 * len(set(tokens))):
                    found.append(InSet(Place("token"), relation, (counts.most_common(1)[0][0],)))
        return found

    def _whole_kind(self, literal: Literal) -> Literal:
        """The kind of words that a set seems to be, without those of it that were seen to be silent."""
        if not isinstance(literal, InSet) or literal.negated or literal.relation != "in":
            return literal
        kinds = kinds_of(list(literal.members))
        if not kinds or self.rng.random() >= self.generalise:
            return literal
        added = {f" {word}" for word in kinds[0]} - set(literal.members)
        silent = self._silent_at(literal.place)
        return replace(literal, members=tuple(sorted({*literal.members, *(added - silent)})))

    def _silent_at(self, place: Place) -> set[str]:
        return {
            token
            for row in np.flatnonzero(~self.data.active).tolist() if place.kind == "token"
            for token in self.data.tokens(place, row)
        }  # fmt: skip

    def _changes(self, rule: Rule) -> list[Rule]:
        """What could be changed about a rule, each change by itself."""
        found: list[Rule] = []
        for number, clause in enumerate(rule.clauses):
            found += [_with(rule, number, one) for one in self._clause_changes(rule, number, clause)]
            if len(rule.clauses) > 1:
                found.append(_with(rule, number, None))
            found += self._parted(rule, number, clause)
        free = ~self.data.said(rule, self.above)
        if len(rule.clauses) < 2 * MOST_CLAUSES and (free & self.data.active).any():
            further = self._clause(free, FURTHER)
            if further is not None:
                found.append(Rule((*rule.clauses, further), rule.default))
        return found

    def _parted(self, rule: Rule, number: int, clause: Clause) -> list[Rule]:
        """Two clauses in the place of one: of the tokens that are active wherever they stand, and of the others."""
        [token] = [one for one in clause.literals if isinstance(one, InSet) and one.place == Place("token")][:1] or [
            None
        ]
        if token is None or token.negated or token.relation != "in":
            return []
        pure = self._pure(frozenset(token.members), np.ones(len(self.data.examples), bool))
        rest = set(token.members) - set(pure.members if pure is not None else ())
        if pure is None or not rest or len(rule.clauses) >= 2 * MOST_CLAUSES:
            return []
        others = tuple(
            replace(token, members=tuple(sorted(rest))) if one is token else one for one in clause.literals
        )  # fmt: skip
        parts = (Clause(clause.strength, (pure,)), Clause(clause.strength, others))
        return [Rule((*rule.clauses[:number], *parts, *rule.clauses[number + 1 :]), rule.default)]

    def _clause_changes(self, rule: Rule, number: int, clause: Clause) -> list[Clause]:
        data = self.data
        found: list[tuple[Literal, ...]] = []
        held = data.clause(clause)
        for at, literal in enumerate(clause.literals):
            rest = clause.literals[:at] + clause.literals[at + 1 :]
            if rest:
                found.append(rest)
            others = np.ones(len(held), bool)
            for one in rest:
                others = others & data.holds(one)
            found += [(*rest, one) for one in self._literal_changes(literal, others, rule)]
        if len(clause.literals) < MOST_LITERALS + 1:
            found += [(*clause.literals, one) for one in self._candidates(held, first=False)
                      if one not in clause.literals]  # fmt: skip
        return [Clause(clause.strength, literals) for literals in dict.fromkeys(found) if literals]

    def _literal_changes(self, literal: Literal, others: Mask, rule: Rule) -> list[Literal]:
        """Members more or fewer, at another distance, among the last few in the place of right there."""
        if (
            not isinstance(literal, InSet)
            or literal.relation != "in"
            or literal.place.kind not in ("token", "near token")
        ):
            return []
        data, found, held = self.data, list[Literal](), set(literal.members)
        named = data.said(rule, self.above)
        wanted, against = others & data.active & ~named, others & ~data.active & named
        if literal.negated:
            wanted, against = against, wanted
        grown = self._set(
            literal.place, wanted, others & ~wanted & (~data.active if not literal.negated else data.active)
        )
        if grown is not None and not held >= set(grown.members):
            more = replace(literal, members=tuple(sorted(held | set(grown.members))))
            found.append(more)
            wider = self._whole_kind(more)
            if isinstance(wider, InSet) and not literal.negated:
                found.append(wider)
        if literal.place.kind == "token":
            votes: Counter[str] = Counter()
            for row in np.flatnonzero(others).tolist():
                token = data.at[literal.place.offset][row]
                right = data.active[row] != literal.negated
                votes[token] += data.weight[row] if right else -data.weight[row]
            bad = {token for token in held if votes[token] < 0}
            if bad and held - bad:
                found.append(replace(literal, members=tuple(sorted(held - bad))))
            k = literal.place.offset
            moved = [Place("token", other) for other in (k - 1, k + 1) if k and other > 0]
            moved += [Place("near token", n) for n in AMONG if k and n > k]
        else:
            k = literal.place.offset
            moved = [Place("token", n) for n in range(1, min(k, BEFORE + 1))]
            moved += [Place("near token", n) for n in range(max(k - 2, 1), min(k + 3, 12)) if n != k]
        found += [replace(literal, place=place) for place in moved]
        right, wrong = others & data.active, others & ~data.active
        if literal.negated:
            right, wrong = wrong, right
        if literal.place.offset:
            fresh = [self._set(place, right, wrong, negated=literal.negated) for place in [literal.place, *moved]]
            found += [one for one in fresh if one is not None]
        return found


def _length(literals: Sequence[Literal]) -> float:
    """What literals must be worth."""

    def each(literal: Literal) -> float:
        if not isinstance(literal, InSet):
            return MEMBER
        return NEAR if literal.place.kind.startswith("near") else BESIDE if literal.place.offset else MEMBER

    return sum(LITERAL + each(one) * members(one) for one in literals)


def _with(rule: Rule, number: int, clause: Clause | None) -> Rule:
    clauses = (*rule.clauses[:number], *(() if clause is None else (clause,)), *rule.clauses[number + 1 :])
    return Rule(clauses, rule.default)


def read(text: str) -> Rule | None:
    """A rule out of a prompt; None where it is none (rules that are too long to be shown are cut short)."""
    try:
        return parse_rule(text.strip() + "\n")
    except RuleError:
        return None


def written(rule: Rule) -> str:
    """As an answer says it."""
    return format_rule(rule).strip()
