"""The family of a campaign's output halves, and their p-values against pooled random writes.

A claim's own random writes are too few for a p-value that survives a correction. What random directions do to some
tokens is, but for its scale, the same from claim to claim: a projection of a random vector on a fixed one. So each
claim's draws are standardised by their own mean and spread and pooled over the campaign, within the metric and the kind
of unit. (Divergences are never negative and skewed; their logarithms are used.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.families import Test
from explainers.output.claim import claim_in
from scorers.output import DECIDES
from scorers.permutation import pooled_p_values
from scorers.types import DoubleArray, Null, Score
from store.claim_rows import ClaimRow


def output_decider(claim: ClaimRow, scores: Sequence[tuple[int, Score]]) -> tuple[int, Score] | None:
    """The score on which the verdict about a claim's output half rests."""
    said = claim_in(claim.details.get("explainer", {}))
    metric = None if said is None else DECIDES.get(said.kind)
    return next(((score_id, score) for score_id, score in scores if score.metric == metric), None)


def output_tests(claims: Sequence[ClaimRow], scores: Mapping[int, Sequence[tuple[int, Score]]]) -> list[Test]:
    """The scores that decide about output halves and have a p-value, one a claim."""
    tests = []
    for claim in claims:
        first = output_decider(claim, scores.get(claim.description_id, []))
        if first is not None and first[1].p_value is not None:
            tests.append(Test(claim, first[1], first[0]))
    return tests


def output_p_values(tests: Sequence[Test]) -> list[float]:
    """Of each test: against the pooled random writes, where it was tried against any; else its own."""
    result = [float(test.p_value or 0.0) for test in tests]
    nulls = [next((null for null in test.score.nulls if null.name == "random" and null.values), None) for test in tests]
    for label in {(test.claim.kind, test.score.metric) for test in tests}:
        members = [
            i
            for i, test in enumerate(tests)
            if (test.claim.kind, test.score.metric) == label and _spread(nulls[i], test.score.metric) > 0
        ]
        standard = [_standardised(nulls[i], label[1]) for i in members]
        # Controls add no draws; they are held against those of the claims.
        draws = [
            list(drawn) if tests[i].claim.control is None else []
            for i, (_, drawn) in zip(members, standard, strict=True)
        ]
        if not any(draws):
            continue
        found = pooled_p_values([observed for observed, _ in standard], draws)
        for i, p in zip(members, found.tolist(), strict=True):
            result[i] = p
    return result


def _scaled(values: Sequence[float], metric: str) -> DoubleArray:
    array = np.asarray(values, dtype=np.float64)
    return np.log(np.maximum(array, 1e-12)) if metric == "output_kl" else array


def _spread(null: Null | None, metric: str) -> float:
    return 0.0 if null is None else float(_scaled(null.values, metric).std())


def _standardised(null: Null | None, metric: str) -> tuple[float, DoubleArray]:
    """What was observed and what was drawn, in standard deviations of the draws from their mean."""
    assert null is not None, "members have one"
    drawn = _scaled(null.values, metric)
    mean, spread = drawn.mean(), drawn.std(ddof=1)
    return float((_scaled([null.observed], metric)[0] - mean) / spread), (drawn - mean) / spread
