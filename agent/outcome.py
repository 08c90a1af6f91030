"""How a closed campaign came out as a whole: what was accepted, how much of it may be false, how the controls fared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from store.claim_rows import ClaimRow, ControlRow
from store.records import CONTROLS, OUTPUT_KINDS

#: p-value from which on more controls were accepted than chance explains.
LEVEL = 0.05


@dataclass(frozen=True)
class KindOutcome:
    """Controls of one kind."""

    controls: int
    thrown_out: int
    """By triage, before any description was made: rightly, whatever it was."""
    failed: int
    claims: int
    """Descriptions of them that were judged."""
    accepted: int
    """Of these, judged to be supported."""


@dataclass(frozen=True)
class ControlOutcome:
    """All controls of a campaign."""

    controls: int
    thrown_out: int
    failed: int
    claims: int
    accepted: int
    share: float | None
    """Accepted of the claims; None when no claim was judged."""
    low: float | None
    """Lower end of the share's 95 % interval (Clopper & Pearson 1934)."""
    high: float | None
    p_value: float | None
    """Of so many accepted, or more, if each were accepted with probability alpha (binomial)."""
    excess: bool
    """Whether that is too many to be chance: then something in the campaign accepts what is not there."""
    kinds: Mapping[str, KindOutcome]


@dataclass(frozen=True)
class Halves:
    """Output halves of one kind of claim."""

    claims: int
    """That were tested."""
    accepted: int
    """Of these, judged to be supported."""


@dataclass(frozen=True)
class OutputOutcome:
    """How a campaign's output halves came out, controls left out."""

    claims: int
    """Descriptions that say something of the output that could be tested."""
    accepted_before: int
    accepted: int
    expected_false: float
    """Of the accepted ones, at most so many are false on average."""
    kinds: Mapping[str, Halves]
    """By kind of claim: tokens change, predictions vary, later ones change, nothing does."""
    swapped: Halves
    """What was said of one unit to change tokens, tested on another: it must not hold there."""


@dataclass(frozen=True)
class Outcome:
    """What closing a campaign brought out."""

    alpha: float
    error_method: str
    claims: int
    """Descriptions of units that were tested, controls left out: the family of the error rate."""
    accepted_before: int
    """Supported when each was judged by itself."""
    accepted: int
    """Supported after error control."""
    expected_false: float
    """Of the accepted ones, at most so many are false on average: the largest q-value among them times their number."""
    expected_false_by_controls: float | None
    """At most so many are false if false claims about units are accepted as often as claims about controls: the share
    of controls accepted times the number of claims, no more than were accepted."""
    controls: ControlOutcome
    output: OutputOutcome
    """Of the output halves; all counts above are of input halves."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(
    claims: Sequence[ClaimRow],
    controls: Sequence[ControlRow],
    verdicts: Mapping[int, Mapping[str, Any]],
    accepted_q: Mapping[int, float],
    *,
    alpha: float,
    method: str,
) -> Outcome:
    """Counts over a campaign.

    Args:
        claims: From `store.campaign_evidence`, controls among them.
        controls: From `store.control_rows`.
        verdicts: By description id, after error control; what is not in it keeps its verdict.
        accepted_q: By description id: the q-value of the score that decides.
        alpha: Error rate.
        method: Of error control.
    """

    def supported(claim: ClaimRow) -> bool:
        return bool(verdicts.get(claim.description_id, {}).get("input", claim.verdict_input) == "supported")

    def supported_before(claim: ClaimRow) -> bool:
        return bool(verdicts.get(claim.description_id, {}).get("before", claim.verdict_input) == "supported")

    real = [claim for claim in claims if claim.control is None and claim.tested]
    accepted = [claim for claim in real if supported(claim)]
    worst = max((accepted_q.get(claim.description_id, alpha) for claim in accepted), default=0.0)
    fared = _controls(controls, [claim for claim in claims if claim.control is not None and claim.tested],
                      {claim.description_id for claim in claims if supported(claim)}, alpha)  # fmt: skip
    return Outcome(
        alpha=alpha,
        error_method=method,
        claims=len(real),
        accepted_before=sum(map(supported_before, real)),
        accepted=len(accepted),
        expected_false=worst * len(accepted),
        expected_false_by_controls=None if fared.share is None else min(fared.share * len(real), float(len(accepted))),
        controls=fared,
        output=_output(claims, verdicts, alpha),
    )


def _output(claims: Sequence[ClaimRow], verdicts: Mapping[int, Mapping[str, Any]], alpha: float) -> OutputOutcome:
    def verdict(claim: ClaimRow) -> Mapping[str, Any]:
        return verdicts.get(claim.description_id) or claim.details.get("verdict") or {}

    def halves(own: Sequence[ClaimRow]) -> Halves:
        return Halves(len(own), sum(verdict(claim).get("output") == "supported" for claim in own))

    tested = [claim for claim in claims if claim.tested and verdict(claim).get("output") not in (None, "untested")]
    real = [claim for claim in tested if claim.control is None]
    accepted = [verdict(claim) for claim in real if verdict(claim).get("output") == "supported"]
    worst = max((one.get("output_q") or alpha for one in accepted), default=0.0)
    swapped = [claim for claim in tested if claim.control == "swapped" and claim.output_kind == "changes"]
    return OutputOutcome(
        claims=len(real),
        accepted_before=sum(
            verdict(claim).get("output_before", verdict(claim).get("output")) == "supported" for claim in real
        ),
        accepted=len(accepted),
        expected_false=worst * len(accepted),
        kinds={
            kind: halves(own)
            for kind in OUTPUT_KINDS
            if (own := [claim for claim in real if claim.output_kind == kind])
        },
        swapped=halves(swapped),
    )


def _controls(
    controls: Sequence[ControlRow], claims: Sequence[ClaimRow], supported: set[int], alpha: float
) -> ControlOutcome:
    kinds = {}
    for kind in CONTROLS:
        own = [control for control in controls if control.control == kind]
        judged = [claim for claim in claims if claim.control == kind]
        if own:
            kinds[kind] = KindOutcome(
                controls=len(own),
                thrown_out=sum(control.status == "skipped" for control in own),
                failed=sum(control.status == "failed" for control in own),
                claims=len(judged),
                accepted=sum(claim.description_id in supported for claim in judged),
            )
    accepted, n = sum(kind.accepted for kind in kinds.values()), len(claims)
    test = stats.binomtest(accepted, n, alpha, alternative="greater") if n else None
    ends = stats.binomtest(accepted, n).proportion_ci(0.95, method="exact") if n else None
    return ControlOutcome(
        controls=len(controls),
        thrown_out=sum(kind.thrown_out for kind in kinds.values()),
        failed=sum(kind.failed for kind in kinds.values()),
        claims=n,
        accepted=accepted,
        share=accepted / n if n else None,
        low=float(ends.low) if ends else None,
        high=float(ends.high) if ends else None,
        p_value=float(test.pvalue) if test else None,
        excess=bool(test is not None and test.pvalue < LEVEL),
        kinds=kinds,
    )
