"""What both forms of a campaign's report say of output halves, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurogloss.render.report_words import share_span
from neurogloss.render.text import count, score

if TYPE_CHECKING:
    from agent.reporting.output import OutputUse

HEADING = ("what is claimed", "supported", "share [95 %]")
KINDS = {
    "changes": "named tokens change",
    "varies": "predictions change, tokens vary by text",
    "later": "only later predictions change",
    "nothing": "nothing changes",
}
_REASONS = 5


def sentences(use: OutputUse) -> list[str]:
    """How many hold, and how the controls fared."""
    one = use.supported
    told = []
    if one.total:
        told.append(
            f"Each unit was turned off where it is on, on sealed text, and {count(one.count)} of {count(one.total)} "
            "descriptions of what it does were supported. Named tokens are held against random vectors as long as what "
            "the unit writes, at the same place; that nothing happens is a test of equivalence."
        )
    if use.swapped.total:
        told.append(
            f"Of {count(use.swapped.total)} output halves that were tested on another unit, "
            f"{count(use.swapped.count)} held there; none should."
        )
    if use.carried is not None:
        known = use.carried
        chance = "" if known.chance is None else f", and {score(known.chance)} with others that differ as much"
        told.append(
            f"Between sealed texts of which the rule holds in one, {count(known.share.count)} of "
            f"{count(known.share.total)} units carry what follows (p ≤ 0.05 by themselves): at the median "
            f"{score(known.median)} of the way{chance}. No verdict rests on it."
        )
    return told


def kind_rows(use: OutputUse) -> list[list[str]]:
    """By what is claimed."""
    return [
        [KINDS[kind], f"{count(one.count)} of {count(one.total)}", share_span(one)] for kind, one in use.kinds.items()
    ]


def inert_sentence(use: OutputUse) -> str:
    """The units that fire and do nothing, by name."""
    more = use.inert_total - len(use.inert)
    return f"Without effect: {', '.join(claim.name for claim in use.inert)}" + (
        f" and {count(more)} more." if more else "."
    )


def untested_lines(use: OutputUse) -> list[str]:
    """Why output halves were not tested."""
    return [f"{count(n)} not tested: {reason}" for reason, n in use.untested[:_REASONS]]
