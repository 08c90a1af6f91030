"""From examples that were taken apart to a rule: a clause of what each needs, and of what silences it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.pattern.bases import Material, rule_of
from agent.contest.pattern.casefile import CaseFile
from explainers.pattern.heads import Role, in_words
from explainers.pattern.words import exceptions
from explainers.rules.ast import MAX_CLAUSES, MAX_LITERALS, Clause, Compare, InSet, Literal, Place, Rule, State
from explainers.rules.evaluate import matches
from explainers.rules.features import TOKENS_BACK
from explainers.rules.language import format_rule
from explainers.types import Explanation
from tools.types import BoolArray

#: Sets that have so much in common (Jaccard) are one.
ALIKE = 0.6
#: A clause of the rule before is kept for this share of the activity that is not accounted for,
LEFT = 0.01
#: where so much of what it covers is activity.
RIGHT = 0.5
#: Positions that may be misjudged when a range is fitted: something else may have silenced the unit there.
WRONG = 0.15


def clauses_of(case: CaseFile, material: Material) -> list[tuple[Literal, ...]]:
    """The conjunctions that an example stands for; none where it was not understood."""
    if not case.complete:
        return []
    parts: list[list[tuple[Literal, ...]]] = []
    repeated = case.repeats
    for distance in case.needed:
        if repeated is not None and distance == repeated:
            continue
        tokens = case.members[distance] - case.lone.get(distance, set())
        if repeated is not None and distance == 0:
            tokens = case.twins or {case.body[-1]}
        parts.append(_at(distance, _texts(material, tokens), case.reach.get(distance, {distance}), case, material))
    fixed: list[Literal] = [*_places(case, material), *_silencers(case, material)]
    if repeated is not None:
        fixed.insert(0, State("repeated token"))
    found: list[tuple[Literal, ...]] = [()]
    for choices in parts:
        found = [(*head, *choice) for head in found for choice in choices]
    return [(*head, *fixed)[:MAX_LITERALS] for head in found if head or repeated is not None]


def _texts(material: Material, tokens: set[int]) -> tuple[str, ...]:
    order = sorted(tokens, key=lambda token: (-material.counts[token], token))
    return tuple(dict.fromkeys(material.pieces(order)))


def _at(
    distance: int, members: tuple[str, ...], reach: set[int], case: CaseFile, material: Material
) -> list[tuple[Literal, ...]]:
    """A set at its distance, or at all distances from the last token on at which it will do."""
    if not members:
        return []
    run = 0
    while run + 1 in reach or run + 1 in case.needed:
        run += 1
    if distance == 0 or run < max(distance, 2) or not any(other != distance for other in reach):
        return [(InSet(Place("token", distance), "in", members),)]
    own = set(_texts(material, case.members.get(0, set())))
    if not own & set(members):
        return [(InSet(Place("near token", min(run + 1, TOKENS_BACK)), "in", members),)]
    # The current token does not count, which a set of near tokens cannot say.
    return [(InSet(Place("token", back), "in", members),) for back in range(1, run + 1)]


def _places(case: CaseFile, material: Material) -> list[Literal]:
    """The range of positions, where there is one."""
    if not case.positions:
        return []
    shift = len(material.context.desk.bench.subject.prefix) - 1
    at = sorted(case.positions)
    on = np.array([case.positions[p] for p in at])
    best: tuple[int, int, int] | None = None
    for low in range(len(at)):
        for high in range(low, len(at)):
            wrong = int((~on[low : high + 1]).sum() + on[:low].sum() + on[high + 1 :].sum())
            if best is None or wrong < best[0]:
                best = wrong, low, high
    assert best is not None
    wrong, low, high = best
    if wrong > WRONG * len(at) or (low == 0 and high == len(at) - 1):
        return []
    found: list[Literal] = []
    if low > 0:
        found.append(Compare("position", ">", at[low] + shift - 1))
    if high < len(at) - 1:
        found.append(Compare("position", "<", at[high] + shift + 1))
    return found


def _silencers(case: CaseFile, material: Material) -> list[Literal]:
    """What must not stand near: one set for all distances where they are alike, else a set for each."""
    by_distance: dict[int, set[int]] = {}
    for distance, token in sorted(case.silencers):
        by_distance.setdefault(distance, set()).add(token)
    distances = sorted(by_distance)
    if not distances:
        return []
    last = distances[-1]
    union = set().union(*by_distance.values())
    everywhere = [d for d in range(1, last + 1) if d not in case.needed]
    alike = all(len(by_distance.get(d, set()) & union) >= ALIKE * len(union) for d in everywhere)
    own = case.members.get(0, {case.body[-1]})
    if len(everywhere) > 1 and alike and not union & own:
        near = Place("near token", min(last + 1, TOKENS_BACK))
        return [InSet(near, "in", _texts(material, union), True)]
    sets = {d: union if alike and d in everywhere else by_distance.get(d, set()) for d in distances}
    return [InSet(Place("token", d), "in", _texts(material, tokens), True) for d, tokens in sets.items() if tokens]


def rebuilt(cases: Sequence[CaseFile], before: Explanation, material: Material) -> Explanation | None:
    """A description by the examples that were understood, with what the one before knows beyond them.

    Args:
        cases: The examples.
        before: The best description so far; its clauses stay for activity that none of the examples explains.
        material: The unit's sample of explore.

    Returns:
        None where no example was understood.
    """
    found = _joined([clause for case in cases for clause in clauses_of(case, material)])
    if not found:
        return None
    old = rule_of(before.rule) or Rule((), 0.0)
    threshold = material.context.evidence.threshold
    contexts, positions, magnitude, weights, _ = material.rows
    firm = Rule(tuple(Clause(max(threshold * 1.001, 1e-6), literals) for literals in found), old.default)
    held = matches(firm, material.view.texts, contexts, positions)
    clauses: list[Clause] = []
    for number, clause in enumerate(firm.clauses):
        rows = held == number
        level = _mean(magnitude, weights, rows & material.active)
        clauses.append(replace(clause, strength=_rounded(max(level, threshold * 1.001, 1e-6))))
    order = np.argsort([-clause.strength for clause in clauses], kind="stable")
    clauses = [clauses[i] for i in order.tolist()]
    clauses += _kept(old, held >= 0, material)
    rule = Rule(tuple(clauses[:MAX_CLAUSES]), old.default)
    return described(rule, before, material)


def _joined(found: list[tuple[Literal, ...]]) -> list[tuple[Literal, ...]]:
    """Clauses of the same shape, whose sets have much in common, are one."""
    joined: list[tuple[Literal, ...]] = []
    for clause in found:
        for number, other in enumerate(joined):
            both = _union(clause, other)
            if both is not None:
                joined[number] = both
                break
        else:
            joined.append(clause)
    return joined


def _union(first: tuple[Literal, ...], second: tuple[Literal, ...]) -> tuple[Literal, ...] | None:
    if len(first) != len(second):
        return None
    found: list[Literal] = []
    for one, other in zip(first, second, strict=True):
        if one == other:
            found.append(one)
        elif isinstance(one, InSet) and isinstance(other, InSet) and one.place == other.place:
            if one.negated != other.negated or _overlap(one, other) < ALIKE:
                return None
            found.append(replace(one, members=tuple(dict.fromkeys((*one.members, *other.members)))))
        else:
            return None
    return tuple(found)


def _overlap(one: InSet, other: InSet) -> float:
    first, second = set(one.members), set(other.members)
    return len(first & second) / max(len(first | second), 1)


def _kept(old: Rule, covered: BoolArray, material: Material) -> list[Clause]:
    """Clauses of the rule before that explain activity beyond what is covered, and its weaker ones."""
    contexts, positions, _, weights, _ = material.rows
    threshold = material.context.evidence.threshold
    held = matches(old, material.view.texts, contexts, positions)
    total = max(float(weights[material.active].sum()), 1e-12)
    kept = []
    for number, clause in enumerate(old.clauses):
        rows = (held == number) & ~covered
        right = float(weights[rows & material.active].sum())
        wrong = float(weights[rows & ~material.active].sum())
        if clause.strength <= threshold or (right >= LEFT * total and right >= RIGHT * (right + wrong)):
            kept.append(clause)
    return kept


def described(rule: Rule, before: Explanation, material: Material) -> Explanation:
    """A description by a rule, with what the one before says beside its own."""
    contexts, positions, _, weights, _ = material.rows
    held = matches(rule, material.view.texts, contexts, positions)
    total = max(float(weights[material.active].sum()), 1e-12)
    shares = [float(weights[material.active & (held == number)].sum()) / total for number in range(len(rule.clauses))]
    threshold = material.context.evidence.threshold
    kept = {name: value for name, value in before.details.items() if name in ("roles", "output")}
    details = {
        **kept, "literals": rule.n_literals, "members": rule.n_members,
        "clauses": [
            {"strength": clause.strength, "share_of_activity": share}
            for clause, share in zip(rule.clauses, shares, strict=True)
        ],
    }  # fmt: skip
    said = [Role.from_json(role) for role in before.details.get("roles") or []]
    short, text = in_words(rule, shares, threshold, material.context.evidence.edges, said)
    return Explanation(
        before.explainer, short, text, before.output_half, format_rule(rule), exceptions(rule, threshold), details
    )


def _mean(magnitude: Floats, weights: Floats, rows: BoolArray) -> float:
    total = float(weights[rows].sum())
    return float((weights[rows] * magnitude[rows]).sum()) / total if total > 0 else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
