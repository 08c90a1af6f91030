"""A rule that was not made of a unit's own activity is made one about it: its strengths fitted, put in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from explainers.output.attach import with_claim
from explainers.pattern.heads import in_words
from explainers.pattern.words import exceptions
from explainers.rules.ast import Rule
from explainers.rules.evaluate import matches
from explainers.rules.language import format_rule
from explainers.types import Evidence, Explanation
from tools.types import BoolArray

Floats = npt.NDArray[np.float64]

#: F1 on explore that such a rule needs to be a rival: with less it says nothing of this unit.
LEAST = 0.1
#: By how much of the threshold the strength of a clause keeps away from it.
MARGIN = 0.001


def adopted(
    rule: Rule, firing: Sequence[bool], evidence: Evidence, explainer: str, details: Mapping[str, Any]
) -> Explanation | None:
    """The rule as a description of one tail of a unit.

    Which clauses claim activity is kept; how strong it is, is taken from the explore split: the mean magnitude where a
    clause is the first that holds, kept on its side of the unit's threshold.

    Args:
        rule: The rule; its strengths may be on another unit's scale.
        firing: Of each clause, whether it claims that the unit is active.
        evidence: Of the unit.
        explainer: Who is said to have made the description.
        details: Where it comes from; goes into the description's details.

    Returns:
        None where its F1 on the explore split, at the corpus's prevalence, is below `LEAST`.
    """
    sample = evidence.explore.sample(evidence.unit)
    magnitude = np.maximum(evidence.sign * sample.values.astype(np.float64), 0)
    weights, active = sample.weights.astype(np.float64), magnitude > evidence.threshold
    held = matches(rule, evidence.explore.texts, sample.contexts, sample.positions)
    claimed = np.array([*firing, False])[held]
    both = float(weights[claimed & active].sum())
    all_claimed, all_active = float(weights[claimed].sum()), float(weights[active].sum())
    if not both or 2 * both / (all_claimed + all_active) < LEAST:
        return None
    clauses = []
    for number, clause in enumerate(rule.clauses):
        rows = (held == number) & (active | ~np.asarray(firing[number]))
        mean = _mean(magnitude, weights, rows)
        strength = (
            max(mean, evidence.threshold * (1 + MARGIN)) if firing[number]
            else min(mean, evidence.threshold * (1 - MARGIN))
        )  # fmt: skip
        clauses.append(replace(clause, strength=_rounded(strength)))
    default = _rounded(min(_mean(magnitude, weights, held < 0), evidence.threshold * (1 - MARGIN)))
    fitted = Rule(tuple(clauses), default)
    shares = [float(weights[active & (held == number)].sum()) / all_active for number in range(len(clauses))]
    short, text = in_words(fitted, shares, evidence.threshold, evidence.edges)
    told = {
        **details, "literals": fitted.n_literals, "members": fitted.n_members,
        "clauses": [
            {"strength": clause.strength, "share_of_activity": share}
            for clause, share in zip(fitted.clauses, shares, strict=True)
        ],
        "explore": {"precision": both / all_claimed, "recall": both / all_active},
    }  # fmt: skip
    excepted = exceptions(fitted, evidence.threshold)
    return with_claim(Explanation(explainer, short, text, None, format_rule(fitted), excepted, told), evidence)


def _mean(magnitude: Floats, weights: Floats, rows: BoolArray) -> float:
    total = float(weights[rows].sum())
    return float((weights[rows] * magnitude[rows]).sum()) / total if total > 0 else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
