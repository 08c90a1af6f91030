"""Rival descriptions from elsewhere than the explainer: each competes with its own like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.desk import Desk
from explainers.output.rivals import output_rivals
from explainers.pattern.adopt import adopted
from explainers.predictors import MakesPredictors
from explainers.rules.language import parse_rule
from explainers.types import Evidence, Explanation
from store import StoreError

#: By what descriptions are known that were another unit's, or another campaign's.
NEIGHBOUR = "neighbour"
#: Of how many descriptions of neighbours rivals are made, at most.
MOST = 3


def further_rivals(desk: Desk, evidence: Evidence, known: Sequence[Explanation]) -> list[Explanation]:
    """What the campaign's other sources propose, without what was proposed already.

    They are rules, and are compared by them; where the explainer's descriptions must be read by a language model, or
    are values of a function, there are none.
    """
    sources = desk.bench.spec.rivals_from
    if isinstance(desk.bench.explainer, MakesPredictors):
        return []
    found = output_rivals(evidence) if "output" in sources else []
    if "database" in sources:
        found += _neighbours(desk, evidence)
    rules = {one.rule for one in known}
    return [one for number, one in enumerate(found)
            if one.rule not in rules | {other.rule for other in found[:number]}]  # fmt: skip


def _neighbours(desk: Desk, evidence: Evidence) -> Iterator[Explanation]:
    """Rules that earlier campaigns assert of the unit's neighbours, on its own scale."""
    used = desk.use("neighbours", {"unit": str(evidence.unit), "polarity": evidence.polarity, "n": MOST})
    if used.error is not None:
        raise StoreError(used.error)
    for row in used.data["neighbours"]:
        rule = parse_rule(row["rule"])
        firing = [clause.strength > row["threshold"] for clause in rule.clauses]
        provenance = {
            name: row[name] for name in ("unit", "polarity", "campaign", "description_id", "claim", "by", "likeness")
        }  # fmt: skip
        made = adopted(rule, firing, evidence, NEIGHBOUR, {"neighbour": provenance})
        if made is not None:
            yield made
