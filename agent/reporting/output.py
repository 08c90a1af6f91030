"""What a report says of output halves: how many hold, which units do nothing, and how controls fared."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.reporting.evidence import Claim
from agent.reporting.statistics import Share, share_of
from store.records import OUTPUT_KINDS

#: Level at which an interchange counts by itself.
LEVEL = 0.05
#: Units without effect that are listed.
LISTED = 30


@dataclass(frozen=True)
class Carried:
    """Interchanges between texts that differ in what rules say."""

    share: Share
    """Of the descriptions that could be measured: those with p at most `LEVEL` by themselves."""
    median: float
    """Of the way that outcomes go."""
    chance: float | None
    """Median of what units that differ as much do."""


@dataclass(frozen=True)
class OutputUse:
    """Output halves of a campaign."""

    verdicts: Mapping[str, int]
    """Of real units' descriptions that went through the whole investigation."""
    supported: Share
    """Of the output halves that were tested."""
    kinds: Mapping[str, Share]
    """By what is claimed: supported ones of those tested."""
    inert: list[Claim]
    """Units that fire and were shown to do nothing, the first `LISTED` of them."""
    inert_total: int
    untested: list[tuple[str, int]]
    """Why output halves were not tested, most frequent first."""
    carried: Carried | None
    """None where no interchange was measured."""
    swapped: Share
    """Claims that named tokens change, tested on another unit: supported ones of those tested. None should be."""


def output_use(claims: Sequence[Claim]) -> OutputUse | None:
    """Figures of the output halves; None where no description claims anything that could be tested.

    Args:
        claims: All of a campaign, controls among them.
    """
    real = [claim for claim in claims if claim.tested and claim.control is None]
    carried = _carried(real)
    if carried is None and not any(claim.output_kind for claim in real):
        return None
    tried = [claim for claim in real if claim.verdict_output != "untested"]
    inert = [claim for claim in tried if claim.output_kind == "nothing" and claim.verdict_output == "supported"]
    swapped = [
        claim
        for claim in claims
        if claim.control == "swapped" and claim.output_kind == "changes" and claim.verdict_output != "untested"
    ]
    reasons = Counter(
        claim.output_reason or "no reason recorded" for claim in real if claim.verdict_output == "untested"
    )
    return OutputUse(
        verdicts=dict(sorted(Counter(claim.verdict_output for claim in real).items())),
        supported=_supported(tried),
        kinds={
            kind: _supported(own) for kind in OUTPUT_KINDS if (own := [one for one in tried if one.output_kind == kind])
        },
        inert=inert[:LISTED],
        inert_total=len(inert),
        untested=sorted(reasons.items(), key=lambda one: (-one[1], one[0])),
        carried=carried,
        swapped=_supported(swapped),
    )


def _carried(claims: Sequence[Claim]) -> Carried | None:
    values = [claim.carried for claim in claims if claim.carried is not None]
    if not values:
        return None
    nulls = [claim.carried_null for claim in claims if claim.carried_null is not None]
    low = sum(claim.carried_p is not None and claim.carried_p <= LEVEL for claim in claims)
    return Carried(
        share_of(low, len(values)), statistics.median(values), statistics.median(nulls) if nulls else None
    )  # fmt: skip


def _supported(claims: Sequence[Claim]) -> Share:
    return share_of(sum(claim.verdict_output == "supported" for claim in claims), len(claims))
