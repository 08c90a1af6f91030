"""What a campaign's evidence comes to: every verdict worked out anew from the rows that it rests on.

A verdict is never taken from an earlier one. It follows from the scores that count, the claim, and error control over
the campaign; so it can be set again when a row is withdrawn (`store.withdraw`), and checked against what is stored
(`check`). What does not count:

- a score that was withdrawn;
- the scores of an output half whose test (the experiment, or what was observed in it) was withdrawn or is gone;
- a trial of a contest that was withdrawn: a rival that was refuted by trials, of which those that count do not come to
  1 / alpha any more, is undecided and no longer dropped;
- where experiments on the subject supported the rival that a claim asserts, and none of them is left, the claim cannot
  be supported by its scores alone: its input half is inconclusive at best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import store
from agent.error_control import control_errors, deciding, scores_of
from agent.outcome import outcome_of
from agent.plain import plain
from agent.sealed import verdict
from agent.spec import BEFORE, CampaignSpec, ContestSettings
from agent.state import Json
from scorers.verdict import Verdict
from store.claim_rows import CampaignEvidence, ClaimRow, Judged, Withdrawn

#: How a rival that trials refuted says why it was dropped (`agent.contest.telling`).
REFUTED = "dropped: refuted by trials"
#: The kind of experiment in which output halves are tested, and the scorer of its scores.
OUTPUT_TEST, OUTPUT_SCORER = "output test", "output"


def judge(evidence: CampaignEvidence, *, closing: bool = False) -> Judged:
    """Verdicts of all claims of a campaign, and, once it is closed, q-values and how it came out.

    Args:
        evidence: Of the campaign, as it stands.
        closing: The campaign is about to be closed.
    """
    alpha = float(evidence.spec.get("alpha", CampaignSpec.model_fields["alpha"].default))
    claims = [_by_itself(claim, alpha) for claim in evidence.claims]
    own = {claim.description_id: claim.details["verdict"] for claim in claims if "verdict" in claim.details}
    if not closing and evidence.status != "done":
        return Judged({}, {key: plain(one) for key, one in own.items()}, statuses=_rivals(evidence))
    method = str(evidence.spec.get("error_method", BEFORE["error_method"]))
    found = control_errors(claims, method=method, alpha=alpha)
    verdicts = {
        claim.description_id: _at_most(claim, found.verdicts.get(claim.description_id, own[claim.description_id]))
        for claim in claims
        if claim.description_id in own
    }
    deciders = {claim.description_id: deciding(scores_of(claim)) for claim in claims if claim.tested}
    outcome = outcome_of(
        claims,
        evidence.controls,
        verdicts,
        {key: found.q_values[one[0]] for key, one in deciders.items() if one is not None and one[0] in found.q_values},
        alpha=alpha,
        method=method,
    )
    return Judged(
        found.q_values, {key: plain(one) for key, one in verdicts.items()}, plain(outcome.to_json()), _rivals(evidence)
    )


def _rivals(evidence: CampaignEvidence) -> dict[int, str]:
    """Statuses of rivals that trials refuted and of whose trials some were withdrawn; see `agent.contest.weighing`."""
    contest = evidence.spec.get("contest") or {}
    limit = math.log(1 / float(contest.get("alpha", ContestSettings.model_fields["alpha"].default)))
    return {
        rival.hypothesis_id: "dropped" if -math.fsum(rival.ratios) >= limit else str(Verdict.INCONCLUSIVE)
        for rival in evidence.rivals
        if rival.dropped.startswith(REFUTED)
    }


def _by_itself(claim: ClaimRow, alpha: float) -> ClaimRow:
    """A claim with the scores that count, judged by itself."""
    if "verdict" not in claim.details:  # thrown out by triage: nothing was asserted
        return claim
    details, no_output = claim.details, (claim.details.get("output") or {}).get("reason")
    scores = dict(claim.scores)
    of_test = [row["metric"] for row in details.get("scores", []) if row.get("scorer") == OUTPUT_SCORER]
    if any(name in scores for name in of_test) and (lost := _lost_test(claim)) is not None:
        scores = {name: row for name, row in scores.items() if name not in of_test}
        no_output = lost
    withdrawn = [one for one in claim.withdrawn if one.row.startswith("score:")]
    counted = replace(claim, scores=scores)
    own = verdict({"details": details.get("explainer", {})}, [one for _, one in scores_of(counted)], alpha, no_output)
    own["reasons"] += _told([one for one in withdrawn if one.what not in of_test])
    own["output_reasons"] += _told([one for one in withdrawn if one.what in of_test])
    own = _at_most(claim, own)
    # What is stored must not matter: neither the verdict in the details, nor its copies in columns.
    return replace(
        counted, details={**details, "verdict": own}, verdict_input=own["input"], verdict_output=own["output"]
    )


def _told(withdrawn: Sequence[Withdrawn]) -> list[str]:
    return [f"{one.what} ({one.row}) was withdrawn: {one.reason}" for one in withdrawn]


def _lost_test(claim: ClaimRow) -> str | None:
    """Why the test of an output half does not count; None: it does."""
    tests = [test for test in claim.tests if test.kind == OUTPUT_TEST]
    if any(test.withdrawn is None for test in tests):
        return None
    if not tests:
        return "what its test observed is not in the database any more"
    return f"its test (experiment:{tests[0].experiment_id}) was withdrawn: {tests[0].withdrawn}"


def _at_most(claim: ClaimRow, judged: Json) -> Json:
    """A verdict on the input half that is no better than its experiments allow."""
    supporting = [test for test in claim.tests if test.kind != OUTPUT_TEST and test.outcome == Verdict.SUPPORTED]
    had = max(len(supporting), int(claim.details.get("support", 0)))
    if not had or any(test.withdrawn is None for test in supporting):
        return judged
    if Verdict.SUPPORTED not in (judged["input"], judged.get("before")):
        return judged
    names = ", ".join(f"observation:{test.observation_id}, {test.withdrawn}" for test in supporting)
    gone = f"was withdrawn ({names})" if names else "is not in the database any more"
    lost = f"what experiments observed in support of it {gone}"
    capped = {half: str(Verdict.INCONCLUSIVE) for half in ("input", "before") if judged.get(half) == Verdict.SUPPORTED}
    return {**judged, **capped, "reasons": [*judged["reasons"], lost]}


@dataclass(frozen=True)
class Difference:
    """Something stored that does not follow from the rows."""

    unit: str
    polarity: str
    row: str
    """The row's name: ``description:4``."""
    what: str
    """'verdict_input', 'verdict_output', 'q_value of weighted_f1', ..."""
    stored: str | float | None
    derived: str | float | None


@dataclass(frozen=True)
class Checked:
    """What came of checking a campaign's verdicts."""

    campaign: str
    claims: int
    """That were judged."""
    withdrawn: int
    """Rows that do not count any more."""
    differences: tuple[Difference, ...]
    written: bool
    """Whether what was derived is stored now."""

    def to_json(self) -> Json:
        """Plain values."""
        return {**asdict(self), "same": not self.differences}


def check(db: store.Database, campaign: str, *, write: bool = False) -> Checked:
    """Works every verdict of a campaign out anew and compares it with what is stored.

    Args:
        db: The database.
        campaign: Its name.
        write: Store what was derived.

    Raises:
        StoreError: There is no such campaign.
    """
    found: list[Difference] = []
    counts = [0, 0]

    def compared(evidence: CampaignEvidence) -> Judged:
        derived = judge(evidence)
        for claim in evidence.claims:
            found.extend(_differences(claim, derived))
        for rival in evidence.rivals:
            if (status := derived.statuses.get(rival.hypothesis_id, rival.status)) != rival.status:
                row = f"hypothesis:{rival.hypothesis_id}"
                found.append(Difference(rival.unit, rival.key[:1], row, "status", rival.status, status))
        if evidence.outcome != derived.outcome:
            place, _, ends = store.differences(evidence.outcome, derived.outcome, 1)[0].partition(": ")
            stored, _, anew = ends.partition(" ≠ ")
            found.append(Difference("all of it", "", "outcome", place, stored, anew))
        counts[:] = len(derived.verdicts), sum(len(claim.withdrawn) for claim in evidence.claims)
        return derived

    known = store.get_campaign(db, campaign)
    if write:
        store.judge_campaign(db, known.id, compared)
    else:
        compared(store.evidence_of(db, known.id))
    return Checked(campaign, counts[0], counts[1], tuple(found), write and bool(found))


def _differences(claim: ClaimRow, derived: Judged) -> Iterator[Difference]:
    def differing(row: str, what: str, stored: str | float | None, anew: str | float | None) -> Iterator[Difference]:
        if stored != anew and not (
            isinstance(stored, float) and isinstance(anew, float) and math.isclose(stored, anew, rel_tol=1e-9)
        ):
            yield Difference(claim.unit, claim.polarity, row, what, stored, anew)

    name, verdict = f"description:{claim.description_id}", derived.verdicts.get(claim.description_id)
    if verdict is not None:
        yield from differing(name, "verdict_input", claim.verdict_input, verdict["input"])
        yield from differing(name, "verdict_output", claim.verdict_output, verdict["output"])
        if claim.hypothesis_status is not None:
            yield from differing(name, "status of its hypothesis", claim.hypothesis_status, verdict["input"])
    for metric, score in claim.scores.items():
        yield from differing(f"score:{score.score_id}", f"q of {metric}", score.q, derived.q_values.get(score.score_id))
