"""A planted unit's truth as a rule of the rule language, and in words.

This is how the oracle speaks. The translation is exact or there is none: `rule_of` gives None where the truth cannot be
said in `rule v1`, and its clauses are those of the predicate's disjunctive normal form.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from explainers.rules.ast import (
    MAX_CLAUSES,
    MAX_LITERALS,
    Clause,
    Compare,
    InSet,
    Literal,
    Place,
    Rule,
    RuleError,
    State,
)
from explainers.rules.english import listing
from tools.planted import (
    All,
    AnyOf,
    Before,
    Earlier,
    Induction,
    Not,
    Position,
    Predicate,
    Repeated,
    TokenIn,
    UnitTruth,
    Within,
)

Conjunction = tuple[Literal, ...]
FARTHEST = 1_000
"""Positions from here on mean 'to the end of the context'."""


def rule_of(truth: UnitTruth) -> Rule | None:
    """The rule that says exactly what is true; None for units without one, or where the language cannot say it."""
    if not truth.has_rule:
        return None
    clauses: list[Clause] = []
    try:
        for case in truth.cases:
            clauses += [Clause(case.level, literals) for literals in conjunctions(case.when)]
        return Rule(tuple(clauses), truth.default)
    except RuleError:
        return None


def conjunctions(predicate: Predicate, negated: bool = False) -> list[Conjunction]:
    """The predicate as alternatives, each a conjunction of literals; at most `MAX_CLAUSES` of `MAX_LITERALS`.

    Raises:
        RuleError: It takes more than the language allows, or a predicate of another kind.
    """
    if isinstance(predicate, Not):
        return conjunctions(predicate.part, not negated)
    if isinstance(predicate, All | AnyOf):
        if isinstance(predicate, All) != negated:
            return _product(predicate.parts, negated)
        return [one for part in predicate.parts for one in conjunctions(part, negated)]
    if isinstance(predicate, TokenIn):
        return [(InSet(Place("token"), "in", predicate.tokens, negated),)]
    if isinstance(predicate, Before):
        return [(InSet(Place("token", predicate.distance), "in", predicate.tokens, negated),)]
    if isinstance(predicate, Within):
        # 'within[k] token' counts the current token, the predicate does not; so it is spelled out.
        far = tuple(
            InSet(Place("token", distance), "in", predicate.tokens, negated) for distance in range(1, predicate.k + 1)
        )
        return [far] if negated else [(literal,) for literal in far]
    if isinstance(predicate, Position):
        return _position(predicate, negated)
    if isinstance(predicate, Repeated | Induction):
        return [(State("repeated token" if isinstance(predicate, Repeated) else "induction", negated),)]
    raise RuleError(f"the language has no word for {type(predicate).__name__}")


def _position(predicate: Position, negated: bool) -> list[Conjunction]:
    literals: list[Literal] = []
    if predicate.low > 0:
        low = ("<", predicate.low) if negated else (">", predicate.low - 1)
        literals.append(Compare("position", *low))
    if predicate.high < FARTHEST:
        high = (">", predicate.high) if negated else ("<", predicate.high + 1)
        literals.append(Compare("position", *high))
    if not literals:
        raise RuleError("a clause that holds everywhere has no literal")
    return [(literal,) for literal in literals] if negated else [tuple(literals)]


def _product(parts: Sequence[Predicate], negated: bool) -> list[Conjunction]:
    """All parts at once. A vicinity that the current token is never a member of is one literal, not k clauses."""
    current = [set(part.tokens) for part in parts if isinstance(part, TokenIn)] if not negated else []
    choices: list[list[Conjunction]] = []
    for part in parts:
        inner, turned = (part.part, True) if isinstance(part, Not) else (part, False)
        apart = isinstance(inner, Within) and any(not tokens & set(inner.tokens) for tokens in current)
        if apart and isinstance(inner, Within):
            choices.append([(InSet(Place("near token", inner.k + 1), "in", inner.tokens, turned),)])
        else:
            choices.append(conjunctions(part, negated))
    total = 1
    for choice in choices:
        total *= len(choice)
    if total > MAX_CLAUSES:
        raise RuleError(f"it takes {total} clauses")
    found = []
    for combination in product(*choices):
        literals = tuple(dict.fromkeys(literal for one in combination for literal in one))
        if len(literals) > MAX_LITERALS:
            raise RuleError(f"a clause takes {len(literals)} literals")
        found.append(literals)
    return found


def in_words(truth: UnitTruth) -> str:
    """What the unit fires on, in a sentence or two."""
    if not truth.has_rule:
        return "It fires without a rule."
    if not truth.cases:
        return "It never fires."
    levels = {case.level for case in truth.cases}
    parts = [
        f"{phrase(case.when)}{f' (strength {case.level:.3g})' if len(levels) > 1 else ''}"
        for case in truth.cases
        if case.level > truth.default
    ]
    silent = [phrase(case.when) for case in truth.cases if case.level <= truth.default]
    text = f"Fires where {'; or where '.join(parts)}."
    return f"{text} Silent where {'; or where '.join(silent)}." if silent else text


def phrase(predicate: Predicate) -> str:
    """A predicate in words, to follow 'where'."""
    if isinstance(predicate, TokenIn):
        return f"the token is {listing(predicate.tokens)}"
    if isinstance(predicate, Before):
        where = "the token before" if predicate.distance == 1 else f"the token {predicate.distance} back"
        return f"{where} is {listing(predicate.tokens)}"
    if isinstance(predicate, Within):
        return f"{listing(predicate.tokens)} is among the {predicate.k} tokens before"
    if isinstance(predicate, Position):
        until = f"to {predicate.high}" if predicate.high < FARTHEST else "on"
        return f"the position is from {predicate.low} {until}"
    if isinstance(predicate, Repeated):
        return "the token has occurred before"
    if isinstance(predicate, Induction):
        return "the last two tokens have occurred together before"
    if isinstance(predicate, Earlier):
        return f"earlier in the context, {phrase(predicate.part)}"
    if isinstance(predicate, Not):
        return f"it is not so that {phrase(predicate.part)}"
    if isinstance(predicate, All | AnyOf):
        return (" and " if isinstance(predicate, All) else " or ").join(phrase(part) for part in predicate.parts)
    return str(predicate.to_json())
