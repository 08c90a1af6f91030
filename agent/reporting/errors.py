"""How many accepted descriptions are expected to be false, estimated in two ways that share no assumption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.reporting.evidence import Claim, Evidence
from agent.reporting.statistics import Share, share_of


@dataclass(frozen=True)
class ByQ:
    """From the claims' q-values."""

    expected: float
    """False ones among the accepted."""
    share: float
    """The largest q-value of an accepted claim."""


@dataclass(frozen=True)
class ByControls:
    """From how often controls were accepted."""

    expected: float
    low: float
    high: float
    """Ends of the exact 95 % interval of the controls' share, times the real claims; at most the accepted ones."""
    surely: float
    """One-sided 95 % lower bound."""
    share: float


@dataclass(frozen=True)
class Naive:
    """What accepting every p-value below the level, once a claim and uncorrected, would have given."""

    level: float
    claims: int
    """Real claims it would accept."""
    expected_false: float
    """If no claim were true: the level times the number of claims that have a p-value."""
    controls: Share
    """Controls it would accept."""


@dataclass(frozen=True)
class ErrorEstimates:
    """How many of the accepted descriptions of real units are expected to be false."""

    tested: int
    accepted: int
    accepted_before: int
    """When each was judged by itself, before error control over the campaign."""
    by_q: ByQ | None
    """None where no accepted claim has a q-value: none accepted, or the campaign is not closed."""
    by_controls: ByControls | None
    """None where no control was tested, or nothing accepted."""
    naive: Naive
    above_alpha: int
    """Accepted claims whose q-value exceeds alpha."""
    without_q: int
    """Accepted claims without a q-value."""


def error_estimates(evidence: Evidence) -> ErrorEstimates:
    """Both estimates, and what naive testing would have given."""
    real, controls = evidence.tested(control=False), evidence.tested(control=True)
    accepted = [claim for claim in real if claim.accepted]
    alpha = evidence.head.alpha
    return ErrorEstimates(
        tested=len(real),
        accepted=len(accepted),
        accepted_before=sum((claim.before or claim.verdict) == "supported" for claim in real),
        by_q=_by_q(accepted),
        by_controls=_by_controls(len(real), len(accepted), controls),
        naive=_naive(real, controls, alpha),
        above_alpha=sum(claim.q is not None and claim.q > alpha for claim in accepted),
        without_q=sum(claim.q is None for claim in accepted),
    )


def _by_q(accepted: Sequence[Claim]) -> ByQ | None:
    """The largest q-value of an accepted claim, as the share of false ones.

    That is the expected share among all claims with q-values up to it (Storey 2002). The accepted ones are those of
    them that passed further tests, and are taken to be no worse.
    """
    largest = max((claim.q for claim in accepted if claim.q is not None), default=None)
    return None if largest is None else ByQ(largest * len(accepted), largest)


def _by_controls(tested: int, accepted: int, controls: Sequence[Claim]) -> ByControls | None:
    """The share of controls that were accepted times the real claims that were tested.

    As if every real unit were a control, so an upper estimate (the share of false claims is taken as 1).
    """
    if not controls or not accepted:
        return None
    hits = sum(claim.accepted for claim in controls)
    two_sided, one_sided = share_of(hits, len(controls)), share_of(hits, len(controls), 0.90)

    def times(share: float | None) -> float:
        return min(float(accepted), (share or 0.0) * tested)

    expected = times(two_sided.value)
    return ByControls(expected, times(two_sided.low), times(two_sided.high), times(one_sided.low), expected / accepted)


def _naive(real: Sequence[Claim], controls: Sequence[Claim], level: float) -> Naive:
    with_p = [claim for claim in real if claim.p is not None]
    hits = sum(claim.p is not None and claim.p <= level for claim in real)
    control_hits = sum(claim.p is not None and claim.p <= level for claim in controls)
    return Naive(level, hits, level * len(with_p), share_of(control_hits, len(controls)))
