"""What a report says of output halves: how many hold, which units do nothing, and how controls fared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.reporting.evidence import Claim
from agent.reporting.statistics import Share, share_of
from store.records import OUTPUT_KINDS

#: Units without effect that are listed.
LISTED = 30


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
    swapped: Share
    """Claims that named tokens change, tested on another unit: supported ones of those tested. None should be."""


def output_use(claims: Sequence[Claim]) -> OutputUse | None:
    """Figures of the output halves; None where no description claims anything that could be tested.

    Args:
        claims: All of a campaign, controls among them.
    """
    real = [claim for claim in claims if claim.tested and claim.control is None]
    if not any(claim.output_kind for claim in real):
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
        swapped=_supported(swapped),
    )


def _supported(claims: Sequence[Claim]) -> Share:
    return share_of(sum(claim.verdict_output == "supported" for claim in claims), len(claims))
