"""A rule's label and input half: what it fires on, and where it is weaker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from explainers.rules.ast import Clause, Compare, InSet, Is, Literal, Rule, State
from explainers.rules.english import clause_phrase, condition, head_phrase, listing, main_literal, show

MAX_LABEL_WORDS = 8
CLAUSES_SHOWN = 4
EXCEPTIONS_SHOWN = 4
WEAK_SHOWN = 2
NOTABLE = 1.5
"""How many times as strong as others something must be to be called strongest."""


def label(rule: Rule, shares: Sequence[float], threshold: float) -> str:
    """A few words on the clause that catches most: '“ the”, “ a” after “ of”'."""
    groups = _groups(rule, shares, _firing(rule, threshold) or range(len(rule.clauses)))
    if not groups:
        return "no pattern found"
    literals = sorted(_union(groups[0]).literals, key=_telling)
    text = _short(literals[0], 3, subject=True)
    for literal in literals[1:]:
        longer = f"{text} {_short(literal, 2, subject=False)}"
        if len(_words(longer)) <= MAX_LABEL_WORDS:
            text = longer
    if len(groups) > 1 and len(_words(text)) + 2 <= MAX_LABEL_WORDS:
        text += " and others"
    return " ".join(_words(text)[:MAX_LABEL_WORDS])


def _words(text: str) -> list[str]:
    """Words of a label; what stands in quotation marks counts as one, white space and all."""
    return re.findall(r"“[^”]*”\S*|\S+", text)


def input_half(rule: Rule, shares: Sequence[float], threshold: float) -> str:
    """What the unit fires on, in sentences.

    Args:
        rule: the rule.
        shares: per clause the share of the unit's activity that it catches (explore).
        threshold: magnitude above which the unit counts as active.
    """
    firing = _firing(rule, threshold)
    weak = _groups(rule, shares, [i for i in range(len(rule.clauses)) if i not in firing])
    sentences = []
    if firing:
        groups = _groups(rule, shares, firing)
        sentences.append(f"Fires {_joined(groups, CLAUSES_SHOWN)}.")
        top = max((rule.clauses[i] for i in firing), key=lambda clause: clause.strength)
        if top not in groups[0] and top.strength > NOTABLE * groups[0][0].strength:
            sentences.append(f"Strongest {clause_phrase(top, 4)}.")
    if weak:
        sentences.append(
            f"{'Weaker' if firing else 'Only weakly'}, below what counts as active, {_joined(weak, WEAK_SHOWN)}."
        )
    return " ".join(sentences) if sentences else "No pattern of tokens tells where it fires."


def exceptions(rule: Rule, threshold: float) -> str | None:
    """Where the unit stays silent though it would fire otherwise: what the rule's firing clauses rule out.

    Args:
        rule: the rule.
        threshold: magnitude above which the unit counts as active.
    """
    clauses = [rule.clauses[i] for i in _firing(rule, threshold)]
    barred: dict[Literal, list[Clause]] = {}
    for clause in clauses:
        if not clause.literals[main_literal(clause)].negated:  # what names nothing has no exceptions
            for literal in clause.literals:
                if literal.negated:
                    barred.setdefault(literal, []).append(clause)
    wheres: dict[str, list[str]] = {}
    for literal, own in barred.items():
        subjects = dict.fromkeys(head_phrase(clause.literals[main_literal(clause)], 3) for clause in own)
        subject = "" if len(own) == len(clauses) else f"{' or '.join(subjects)}, "
        wheres.setdefault(subject, []).append(condition(replace(literal, negated=False)))
    if not wheres:
        return None
    phrases = [f"{subject}{' or '.join(conditions)}" for subject, conditions in wheres.items()]
    text = " ".join(f"Not {phrase}." for phrase in phrases[:EXCEPTIONS_SHOWN])
    more = len(phrases) - EXCEPTIONS_SHOWN
    return text + (f" And {more} rarer exception{'s' if more > 1 else ''}." if more > 0 else "")


def _groups(rule: Rule, shares: Sequence[float], indices: Iterable[int]) -> list[list[Clause]]:
    """Clauses that differ only in the members of their main literal, together; each group strongest first.

    The group that catches most of the activity is first.
    """
    groups: dict[object, list[int]] = {}
    for i in indices:
        clause = rule.clauses[i]
        main = clause.literals[main_literal(clause)]
        rest = frozenset(literal for literal in clause.literals if literal is not main)
        key = (main.place, main.relation, main.negated, rest) if isinstance(main, InSet) else clause
        groups.setdefault(key, []).append(i)
    ordered = sorted(groups.values(), key=lambda group: (-sum(shares[i] for i in group), group))
    return [sorted((rule.clauses[i] for i in group), key=lambda clause: -clause.strength) for group in ordered]


def _union(group: Sequence[Clause]) -> Clause:
    """One clause with all the members that a group's main literals have."""
    first, at = group[0], main_literal(group[0])
    mains = [literal for clause in group if isinstance(literal := clause.literals[main_literal(clause)], InSet)]
    if len(mains) < 2:
        return first
    members = tuple(dict.fromkeys(member for main in mains for member in main.members))
    return replace(
        first, literals=(*first.literals[:at], replace(mains[0], members=members), *first.literals[at + 1 :])
    )


def _group_phrase(group: Sequence[Clause]) -> str:
    """One phrase for clauses that differ in one set, with a note on the strongest members."""
    main = group[0].literals[main_literal(group[0])]
    notable = isinstance(main, InSet) and group[0].strength > NOTABLE * group[-1].strength
    note = f" (most strongly {listing(main.members, 3)})" if notable and isinstance(main, InSet) else ""
    return clause_phrase(_union(group), note=note)


def _firing(rule: Rule, threshold: float) -> list[int]:
    return [i for i, clause in enumerate(rule.clauses) if clause.strength > threshold]


def _joined(groups: Sequence[Sequence[Clause]], shown: int) -> str:
    phrases = list(dict.fromkeys(_group_phrase(group) for group in groups))
    text = "; or ".join(phrases[:shown])
    more = len(phrases) - shown
    return text + (f"; and in {more} rarer case{'s' if more > 1 else ''}" if more > 0 else "")


def _telling(literal: Literal) -> tuple[int, int]:
    kind = 9 if literal.negated else 5
    if isinstance(literal, InSet) and not literal.negated:
        kind = {"token": 0 if not literal.place.offset else 3, "text": 1, "word": 2}.get(literal.place.kind, 4)
    return kind, 0


def _short(literal: Literal, shown: int, *, subject: bool) -> str:
    if isinstance(literal, InSet) and not literal.negated:
        names = ", ".join(show(member) for member in literal.members[:shown]) + (
            "…" if len(literal.members) > shown else ""
        )
        place = literal.place
        if place.kind == "token" and place.offset == 0 and literal.relation == "in":
            return names if subject else f"on {names}"
        if place.kind == "text" or literal.relation == "ends":
            return f"text ending {names}" if subject else f"ending {names}"
        if place.kind in ("token", "word") and place.offset == 1:
            return f"after {names}"
        if place.kind in ("token", "word") and place.offset:
            return f"{place.offset} {place.kind}s after {names}"
        if place.kind.startswith("near"):
            return f"near {names}"
        return f"words starting {names}" if literal.relation == "starts" else f"word {names}"
    if isinstance(literal, Is) and not literal.negated:
        return literal.token_class if literal.offset == 0 else f"after {literal.token_class}"
    if isinstance(literal, State | Compare | Is) and not literal.negated:
        return condition(literal)
    return condition(literal, 1)
