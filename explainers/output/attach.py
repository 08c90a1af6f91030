"""Every description gets its claim about the output: its explainer's own, or what was measured."""

from __future__ import annotations

from dataclasses import replace

from explainers.output.claim import KEY, OutputClaim, measured_claim, untested
from explainers.output.words import output_half
from explainers.types import Evidence, Explanation


def with_claim(explanation: Explanation, evidence: Evidence, claim: OutputClaim | None = None) -> Explanation:
    """The description with a claim about the output in its details, and words for it.

    Args:
        explanation: One that has a claim already stays as it is. Words without a claim stay too: they name nothing that
            could be tested, and the claim says so.
        evidence: That it was made of.
        claim: The explainer's own; None: what was measured.
    """
    if KEY in explanation.details:
        return explanation
    if claim is None and explanation.output_half:
        claim = untested("its words name no tokens that could be tested", evidence.output)
    claim = claim or measured_claim(evidence.output)
    return replace(
        explanation,
        output_half=explanation.output_half or output_half(claim, evidence.promotion, evidence.polarity),
        details={**explanation.details, KEY: claim.to_json()},
    )
