"""The checks that decide whether a campaign's report is green, amber or red.

Each check has a value that must not exceed its limit. Where the value is an estimate, it is the end of the interval
that speaks for the campaign: a check fails only on evidence that something is wrong. Where there is too little evidence
it stays undecided, which makes the report amber. So a small campaign is not called broken for being small, nor sound.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from agent.reporting.errors import ErrorEstimates
from agent.reporting.evidence import Claim, Evidence, Job
from agent.reporting.statistics import (
    Mean,
    Separation,
    Share,
    excess_p,
    fewest_in_excess,
    separation,
    share_of,
    unit_mean,
)

#: Level of the report's own tests; each check that fails by chance alone does so at most this often.
LEVEL = 0.05
#: Mean F1 by which sealed text may exceed the text on which a description was chosen, before that means a leak.
LEAK = 0.05
#: Mean F1 that may be lost from the text on which a description was chosen to sealed text: the winner's curse.
CURSE = 0.15
#: Largest share of predictions that cannot be parsed, and of investigations that fail.
UNPARSEABLE = FAILURES = 0.05
#: An area under the curve whose interval stays below this is no separation worth the name.
SEPARATED = 0.75
#: Relative difference allowed between the parts of a cost and its total.
ROUNDING = 1e-3


class State(enum.StrEnum):
    """How a check came out."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Check:
    """One condition of a campaign that can be believed."""

    key: str
    name: str
    state: State
    value: float | None
    """What the limit applies to."""
    limit: float | None
    finding: str
    """What was found, with its numbers."""
    meaning: str
    """What it says when the check fails, in one sentence."""


def finished(evidence: Evidence) -> Check:
    """Whether the campaign is over; its q-values exist only then."""
    done = evidence.head.status == "done"
    waiting = evidence.head.pending
    finding = "the campaign is closed" if done else f"the campaign is {evidence.head.status}, {waiting} units to go"
    return Check(
        "finished", "units still to go", State.PASSED if done else State.UNDECIDED, float(waiting), 0.0, finding,
        "Until a campaign is closed there are no q-values, and every number here can still change.",
    )  # fmt: skip


def accepted_shares(claims: Sequence[Claim]) -> dict[str, Share]:
    """Share of tested controls that were accepted, by kind."""
    kinds = sorted({claim.control for claim in claims if claim.control is not None})
    members = {kind: [claim for claim in claims if claim.control == kind] for kind in kinds}
    return {kind: share_of(sum(c.accepted for c in found), len(found)) for kind, found in members.items()}


def controls_accepted(evidence: Evidence) -> Check:
    """Whether more controls were accepted than tests at level alpha accept by chance (exact binomial, one-sided)."""
    alpha = evidence.head.alpha
    controls = evidence.tested(control=True)
    share = share_of(sum(claim.accepted for claim in controls), len(controls))
    key, name = "controls_accepted", "share of controls accepted"
    meaning = "Controls have nothing to describe: where they are accepted, so is anything."
    if not controls:
        return _without_controls(evidence, key, name, alpha, meaning)
    fewest = fewest_in_excess(share.total, alpha, LEVEL)
    limit = (fewest - 1) / share.total
    finding = (
        f"{share.count} of {share.total} (95 % interval {_span(share.low, share.high)}); at a rate of {alpha:g}, "
        f"{fewest} or more are too many to be chance"
    )
    if fewest > share.total:
        finding = f"{share.count} of {share.total}: too few to tell"
        return Check(key, name, State.UNDECIDED, share.value, limit, finding, meaning)
    state = State.FAILED if share.count >= fewest else State.PASSED
    return Check(key, name, state, share.value, limit, finding, meaning)


def controls_accepted_by_kind(evidence: Evidence) -> Check:
    """The same for the kind of control that fared worst, at the level divided by the number of kinds (Bonferroni)."""
    alpha = evidence.head.alpha
    shares = accepted_shares(evidence.tested(control=True))
    key, name = "controls_accepted_by_kind", "share accepted of the worst kind"
    meaning = "One kind of control that slips through is enough to show that merit is not asked for."
    if not shares:
        return _without_controls(evidence, key, name, alpha, meaning)
    level = LEVEL / len(shares)
    p_values = {kind: excess_p(share.count, share.total, alpha) for kind, share in shares.items()}
    worst = min(shares, key=lambda kind: (p_values[kind], kind))
    share = shares[worst]
    fewest = fewest_in_excess(share.total, alpha, level)
    finding = (
        f"{worst}: {share.count} of {share.total}; p = {min(1.0, len(shares) * p_values[worst]):.2g} over "
        f"{len(shares)} kinds"
    )
    state = State.FAILED if share.count >= fewest else State.PASSED
    return Check(key, name, state, share.value, (fewest - 1) / share.total, finding, meaning)


@dataclass(frozen=True)
class Separated:
    """Real claims against controls: by their scores, and by whether they were accepted."""

    score: Separation
    acceptance: Separation
    p_value: float
    """The smaller of both p-values, doubled for having looked twice."""


def separated(evidence: Evidence) -> Separated | None:
    """Real claims against controls; a claim without a score counts as 0. None when there are none of one sort."""
    claims = [claim for claim in evidence.claims if claim.tested]
    control = [claim.control is not None for claim in claims]
    units = [claim.unit for claim in claims]
    score = separation([claim.value or 0.0 for claim in claims], control, units)
    acceptance = separation([float(claim.accepted) for claim in claims], control, units)
    if score is None or acceptance is None:
        return None
    return Separated(score, acceptance, min(1.0, 2 * min(score.p_value, acceptance.p_value)))


def separation_check(evidence: Evidence, found: Separated | None) -> Check:
    """Whether real claims do better than controls.

    Two tests, since many real units may have no description either: scores (area under the curve) and shares accepted.
    It fails when neither tells them apart, real claims are accepted no more often than controls, and the area is surely
    below `SEPARATED`; when they are not told apart but that is less sure, it is undecided.
    """
    real, controls = evidence.tested(control=False), evidence.tested(control=True)
    key, name = "separation", "real no better than controls, p"
    meaning = "If real units score no better than controls, the scores are not about the units."
    if found is None:
        return _without_controls(evidence, key, name, LEVEL, meaning)
    area = found.score
    finding = f"area under the curve {area.auc:.2f} ({_span(area.low, area.high)}), p = {found.p_value:.2g}"
    if not any(claim.accepted for claim in real):
        state, finding = State.NOT_APPLICABLE, f"{finding}; nothing was accepted"
    elif found.p_value <= LEVEL:
        state = State.PASSED
    else:
        real_share = sum(claim.accepted for claim in real) / len(real)
        control_share = sum(claim.accepted for claim in controls) / len(controls)
        worse = real_share <= control_share and area.high < SEPARATED
        state = State.FAILED if worse else State.UNDECIDED
        if not worse:
            finding += "; too few to tell"
    return Check(key, name, state, found.p_value, LEVEL, finding, meaning)


def gap_of(claims: Sequence[Claim]) -> Mean | None:
    """Mean of refine F1 less score F1 over units, where both are known.

    Swapped controls are left out: their descriptions were chosen for another unit than the one they are scored on.
    """
    both = [c for c in claims if c.refine is not None and c.value is not None and c.control != "swapped"]
    values = [claim.refine - claim.value for claim in both if claim.refine is not None and claim.value is not None]
    return unit_mean(values, [claim.unit for claim in both])


def leak(evidence: Evidence, gap: Mean | None) -> Check:
    """Whether descriptions do better on sealed text than on the text by which they were chosen."""
    key, name = "leak", "gain on sealed text"
    meaning = "Descriptions that do better on sealed text than where they were chosen have seen the sealed text."
    if gap is None:
        return Check(key, name, State.NOT_APPLICABLE, None, LEAK, "no claim has both scores", meaning)
    finding = f"sealed less refine F1: {-gap.value:+.3f} on average ({_signed(-gap.high, -gap.low)})"
    state = State.FAILED if -gap.high > LEAK else State.PASSED
    return Check(key, name, state, -gap.high, LEAK, finding, meaning)


def winners_curse(evidence: Evidence, gap: Mean | None) -> Check:
    """Whether the choice among rivals on refine text was a choice of luck."""
    key, name = "winners_curse", "loss on sealed text"
    meaning = "Descriptions that lose so much on sealed text were chosen for luck on the refine split, or fitted to it."
    if gap is None:
        return Check(key, name, State.NOT_APPLICABLE, None, CURSE, "no claim has both scores", meaning)
    finding = f"refine less sealed F1: {gap.value:+.3f} on average ({_signed(gap.low, gap.high)})"
    state = State.FAILED if gap.low > CURSE else State.PASSED
    return Check(key, name, state, gap.low, CURSE, finding, meaning)


def expected_false(evidence: Evidence, errors: ErrorEstimates) -> Check:
    """Whether more of the accepted descriptions are expected to be false than the campaign's error rate allows.

    By q-values the estimate must stay within alpha; by controls its one-sided 95 % lower bound must, since few controls
    make for a rough estimate. Where that estimate exceeds alpha and its bound does not, it is undecided.
    """
    alpha = evidence.head.alpha
    key, name = "expected_false", "false among accepted, at least"
    meaning = "More of the accepted descriptions are expected to be false than the error rate that was asked for."
    if not errors.accepted:
        return Check(key, name, State.NOT_APPLICABLE, None, alpha, "nothing was accepted", meaning)
    if errors.by_q is None and errors.by_controls is None:
        return Check(key, name, State.UNDECIDED, None, alpha, "there are neither q-values nor controls", meaning)
    told, shares = [], []
    if errors.by_q is not None:
        told.append(f"{errors.by_q.expected:.1f} of {errors.accepted} by q-values")
        shares.append(errors.by_q.share)
    if errors.by_controls is not None:
        found = errors.by_controls
        told.append(f"{found.expected:.1f} of {errors.accepted} by controls ({found.low:.1f} to {found.high:.1f})")
        shares.append(found.surely / errors.accepted)
    state = State.FAILED if max(shares) > alpha else State.PASSED
    if state is State.PASSED and errors.by_controls is not None and errors.by_controls.share > alpha:
        state = State.UNDECIDED
        told.append("too few controls to tell")
    return Check(key, name, state, max(shares), alpha, ", ".join(told), meaning)


def unparseable(evidence: Evidence) -> Check:
    """Whether predictions could be read."""
    known = [claim.unparseable for claim in evidence.claims if claim.tested and claim.unparseable is not None]
    key, name = "unparseable", "share of predictions unreadable"
    meaning = "Predictions that cannot be read count as wrong: too many of them, and the scores measure the parser."
    if not known:
        return Check(key, name, State.NOT_APPLICABLE, None, UNPARSEABLE, "no claim was scored", meaning)
    value = sum(known) / len(known)
    state = State.FAILED if value > UNPARSEABLE else State.PASSED
    return Check(key, name, state, value, UNPARSEABLE, f"{100 * value:.2g} % over {len(known)} claims", meaning)


def failures(jobs: Sequence[Job]) -> Check:
    """Whether investigations came to an end."""
    ended = [job for job in jobs if job.status in ("done", "failed", "skipped")]
    key, name = "failures", "share of investigations failed"
    meaning = "What failed is missing from every other number here, and need not be missing at random."
    if not ended:
        return Check(key, name, State.NOT_APPLICABLE, None, FAILURES, "no investigation has ended", meaning)
    failed = [job for job in ended if job.status == "failed"]
    value = len(failed) / len(ended)
    finding = f"{len(failed)} of {len(ended)}, {sum(job.control is not None for job in failed)} of them controls"
    return Check(key, name, State.FAILED if value > FAILURES else State.PASSED, value, FAILURES, finding, meaning)


def intervals(evidence: Evidence) -> Check:
    """Whether every accepted claim has all that a score needs."""
    accepted = [claim for claim in evidence.claims if claim.tested and claim.accepted]
    key, name = "intervals", "accepted without an interval"
    meaning = "A score without an interval, a null and a p- or e-value must not carry a claim."
    if not accepted:
        return Check(key, name, State.NOT_APPLICABLE, None, 0.0, "nothing was accepted", meaning)
    lacking = sum(not claim.complete for claim in accepted)
    finding = (
        f"{len(accepted) - lacking} of {len(accepted)} accepted claims have an interval, a null and a p- or e-value"
    )
    return Check(key, name, State.FAILED if lacking else State.PASSED, float(lacking), 0.0, finding, meaning)


def seal(evidence: Evidence) -> Check:
    """Whether the score split was opened once for each scored claim, and for nothing else."""
    scored = [c for c in evidence.claims if c.tested and c.value is not None and c.openings is not None]
    key, name = "seal", "openings out of order"
    meaning = "A claim that was looked up more than once, or without a record, could have been fitted to the answer."
    if not scored:
        return Check(key, name, State.NOT_APPLICABLE, None, 0.0, "no claim was scored", meaning)
    wrong = sum(claim.openings != 1 for claim in scored)
    dropped = sum(job.dropped_openings for job in evidence.jobs)
    finding = f"{len(scored) - wrong} of {len(scored)} claims opened it once; {dropped} openings belong to no claim"
    state = State.FAILED if wrong or dropped else State.PASSED
    return Check(key, name, state, float(wrong + dropped), 0.0, finding, meaning)


def costs_add_up(parts: dict[str, float], recorded: dict[str, float]) -> Check:
    """Whether the parts of each cost sum to the campaign's own total."""
    off = {name: abs(parts.get(name, 0.0) - total) / total if total else 0.0 for name, total in recorded.items()}
    worst = max(off, key=lambda name: off[name], default=None)
    value = 0.0 if worst is None else off[worst]
    finding = "every part is in the total" if value <= ROUNDING else f"{worst} differ by {100 * value:.2g} %"
    state = State.PASSED if value <= ROUNDING else State.FAILED
    meaning = "Work was done that no unit of the campaign accounts for."
    return Check("costs", "cost not accounted for", state, value, ROUNDING, finding, meaning)


def _without_controls(evidence: Evidence, key: str, name: str, limit: float, meaning: str) -> Check:
    """A check that needs tested controls and real claims, where one sort is missing."""
    if not any(job.control is not None for job in evidence.jobs):
        finding = "no controls: nothing guards against a scorer that accepts anything"
        return Check(key, name, State.NOT_APPLICABLE, None, limit, finding, meaning)
    return Check(key, name, State.UNDECIDED, None, limit, "no control or no real claim has been tested", meaning)


def _span(low: float | None, high: float | None) -> str:
    return f"{low or 0:.2f} to {1.0 if high is None else high:.2f}"


def _signed(low: float, high: float) -> str:
    return f"95 % interval {low:+.3f} to {high:+.3f}"
