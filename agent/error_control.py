"""Error control over all claims of a campaign: p-values against pooled nulls, q-values, verdicts after them.

A claim is one question, and its metrics are different ways to ask it. Its verdict rests on one of them (F1, or the
attention of a head that was given a role), so those scores together, one a claim, are the family of the
false-discovery rate; each other headline metric is a family of its own.

A claim's p-value is the larger of two, for it asserts two things. That it is better than chance: the p-value that its
scorer gave (rotation null). That it is about its own unit: its statistic against those of all descriptions of the same
kind of unit and of like density when held against other units (pairing null, pooled: `scorers.permutation`), of which
one claim alone has too few draws to survive a correction. A pool in which not even the best could reach alpha says
nothing and is left out. With e-values (e-BH) the second is not pooled: the verdict still asks it of each claim.

Output halves are a family of their own (`agent.output_errors`).

Controls are no part of any family. Their q-value is the least rate at which a real claim with evidence as strong as
theirs is accepted, so that they pass by the same standard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.families import Test, family_q_values
from agent.output_errors import output_decider, output_p_values, output_tests
from agent.output_half import output_verdict
from agent.results import scored_name
from agent.sealed import input_verdict
from agent.state import Json
from scorers.edges import METRIC as EDGE_METRIC
from scorers.error_rates import E_BH
from scorers.permutation import density_strata, pooled_p_values
from scorers.types import Score
from scorers.verdict import Verdict
from store.claim_rows import ClaimRow
from tools.types import Split


@dataclass(frozen=True)
class Controlled:
    """What error control says."""

    q_values: dict[int, float]
    """By score id."""
    verdicts: dict[int, Json]
    """By description id."""


def control_errors(claims: Sequence[ClaimRow], *, method: str, alpha: float) -> Controlled:
    """q-values and verdicts of a campaign's claims; see `agent.judging`.

    Args:
        claims: With the controls among them.
        method: One of `scorers.error_rates.ERROR_METHODS`.
        alpha: Error rate.
    """
    scores = {claim.description_id: scores_of(claim) for claim in claims if claim.tested}
    found: dict[int, float] = {}
    p_values: dict[int, float] = {}
    for family in _families(claims, scores):
        tests, used = _p_values(family, method, alpha)
        p_values |= {test.score_id: p for test, p in zip(tests, used, strict=True)}
        found |= family_q_values(tests, used, method)
    halves = output_tests(claims, scores)
    used = output_p_values(halves)
    p_values |= {test.score_id: p for test, p in zip(halves, used, strict=True)}
    found |= family_q_values(halves, used, method)
    verdicts = {
        claim.description_id: judged
        for claim in claims
        if (judged := _judged(claim, scores.get(claim.description_id, []), (p_values, found), alpha)) is not None
    }
    return Controlled(found, verdicts)


def scores_of(claim: ClaimRow) -> list[tuple[int, Score]]:
    """The scores of a claim as its scorer gave them, with their ids."""
    beside = {row["metric"]: row for row in claim.details.get("scores", [])}
    return [
        (
            row.score_id,
            Score.from_json(
                {
                    **beside[name],
                    "metric": scored_name(name), "value": row.value, "low": row.low, "high": row.high,
                    "n_examples": row.n_examples, "n_documents": row.n_documents, "null_mean": row.null_mean,
                    "p_value": row.p, "e_value": row.e, "split": str(Split.SCORE), "predictor": row.predictor,
                    "protocol_hash": row.protocol_hash, "headline": row.headline, "unparseable": row.unparseable,
                }
            ),
        )
        for name, row in claim.scores.items()
        if name in beside
    ]  # fmt: skip


def deciding(scores: Sequence[tuple[int, Score]]) -> tuple[int, Score] | None:
    """The score on which a claim's verdict rests."""
    for metric in (EDGE_METRIC, "f1"):
        for score_id, score in scores:
            if score.metric == metric:
                return score_id, score
    return None


def _families(claims: Sequence[ClaimRow], scores: Mapping[int, Sequence[tuple[int, Score]]]) -> list[list[Test]]:
    deciders: list[Test] = []
    others: dict[str, list[Test]] = {}
    for claim in claims:
        own = scores.get(claim.description_id, [])
        first = deciding(own)
        for score_id, score in own:
            test = Test(claim, score, score_id)
            if first is not None and score_id == first[0]:
                deciders.append(test)
            elif score.headline:
                others.setdefault(score.metric, []).append(test)
    return [deciders, *others.values()]


def _p_values(family: Sequence[Test], method: str, alpha: float) -> tuple[list[Test], list[float]]:
    """Tests of a family that have a p-value, and the one that is used of each."""
    tests = [test for test in family if test.p_value is not None]
    own = [float(test.p_value or 0.0) for test in tests]
    return tests, own if method == E_BH else [max(pair) for pair in zip(own, _pooled(tests, alpha), strict=True)]


def _pooled(tests: Sequence[Test], alpha: float) -> list[float]:
    """p-values against the pairing null, pooled over the real claims; 0 where it has nothing to say."""
    result = [0.0] * len(tests)
    nulls = [next((null for null in test.score.nulls if null.name == "pairing"), None) for test in tests]
    for label in {test.claim.kind for test in tests}:
        members = [i for i, test in enumerate(tests) if test.claim.kind == label and nulls[i] is not None]
        real = [i for i in members if tests[i].claim.control is None]
        if not real:
            continue
        stratum = _strata([tests[i].claim.density or 0.0 for i in real])
        strata = [stratum(tests[i].claim.density or 0.0) for i in members]
        draws = [list(nulls[i].values) if i in set(real) else [] for i in members]  # type: ignore[union-attr]
        observed = [nulls[i].observed for i in members]  # type: ignore[union-attr]
        sizes: dict[int, int] = {}
        for place, drawn in zip(strata, draws, strict=True):
            sizes[place] = sizes.get(place, 0) + len(drawn)
        for i, p, place in zip(members, pooled_p_values(observed, draws, strata), strata, strict=True):
            result[i] = float(p) if (1 + sizes[place]) * alpha >= 1 else 0.0
    return result


def _strata(densities: Sequence[float]) -> Callable[[float], int]:
    """The stratum of a density: that of the nearest one of `densities`."""
    labels = density_strata([min(max(density, 0.0), 1.0) for density in densities])
    logs = np.log10(np.maximum(np.asarray(densities, dtype=np.float64), 1e-6))

    def stratum(density: float) -> int:
        return labels[int(np.abs(logs - np.log10(max(density, 1e-6))).argmin())]

    return stratum


def _judged(
    claim: ClaimRow,
    scores: Sequence[tuple[int, Score]],
    found: tuple[Mapping[int, float], Mapping[int, float]],
    alpha: float,
) -> Json | None:
    """The verdicts with q-values in place of p-values; None where there is nothing to judge again."""
    old = claim.details.get("verdict")
    if old is None:
        return None
    q_of, details = found[1], claim.details.get("explainer", {})
    with_q = [replace(score, q_value=q_of.get(score_id)) for score_id, score in scores]
    changed = {
        **_judged_input(old, details, (scores, with_q), found, alpha),
        **_judged_output(claim, old, (scores, with_q), found, alpha),
    }
    return {**old, **changed} if changed else None


Scored = tuple[Sequence[tuple[int, Score]], Sequence[Score]]
"""A claim's scores with their ids, and the same scores with their q-values."""


def _judged_input(
    old: Json, details: Json, scored: Scored, found: tuple[Mapping[int, float], Mapping[int, float]], alpha: float
) -> Json:
    scores, with_q = scored
    first = deciding(scores)
    before = old.get("before", old["input"])
    if first is None or before == Verdict.UNTESTED:
        return {}
    new = input_verdict(details, with_q, alpha)
    p, own = found[0].get(first[0]), first[1].p_value
    reasons = list(new.reasons)
    if p is not None and own is not None and p > max(own, alpha) and first[1].metric != EDGE_METRIC:
        reasons.append(f"descriptions of the campaign fit other units as well as it does its own (p = {p:.3g})")
    return {
        "input": str(new.verdict), "reasons": reasons, "before": before, "p": p, "q": found[1].get(first[0]),
    }  # fmt: skip


def _judged_output(
    claim: ClaimRow, old: Json, scored: Scored, found: tuple[Mapping[int, float], Mapping[int, float]], alpha: float
) -> Json:
    scores, with_q = scored
    first = output_decider(claim, scores)
    before = old.get("output_before", old["output"])
    if first is None or before == Verdict.UNTESTED:
        return {}
    new = output_verdict(claim.details.get("explainer", {}), with_q, alpha)
    return {
        "output": str(new.verdict), "output_reasons": list(new.reasons), "output_before": before,
        "output_p": found[0].get(first[0]), "output_q": found[1].get(first[0]),
    }  # fmt: skip
