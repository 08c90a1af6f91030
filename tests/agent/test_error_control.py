"""What error control over a campaign's claims changes, on claims made for the test."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from agent.error_control import control_errors, deciding, scores_of
from agent.outcome import outcome_of
from scorers.types import Null, Score
from store.claim_rows import ClaimRow, ClaimScore, ControlRow


def claim(
    number: int,
    *,
    p: float = 1e-4,
    e: float | None = None,
    control: str | None = None,
    kind: str = "mlp",
    density: float = 0.01,
    pairing: tuple[float, tuple[float, ...]] | None = None,
    edge_p: float | None = None,
    value: float = 0.9,
    verdict: str = "supported",
) -> ClaimRow:
    """A claim with a good F1, whose p-value against rotations is `p`; its second null draws are `pairing`."""
    rotation = Null("rotation", value, 0.02, 0.05, p, 30_000)
    nulls = [rotation]
    if pairing is not None:
        reached = sum(draw >= pairing[0] for draw in pairing[1])
        nulls.append(
            Null("pairing", pairing[0], 0.1, 0.2, (1 + reached) / (1 + len(pairing[1])), len(pairing[1]), pairing[1])
        )
    made = [Score("simulation", "f1", value, 0.8, 0.95, 900, 90, 50, 0.02, p, "score", "rule", "h", True,
                  e_value=e, nulls=tuple(nulls))]  # fmt: skip
    if edge_p is not None:
        even = Null("uniform", 0.8, 0.1, 0.2, edge_p, 1000)
        made.append(Score("edges", "edge_mass", 0.8, 0.7, 0.9, 900, 90, 50, 0.1, 0.2, "score", "edge:first", "h", False,
                          nulls=(even,)))  # fmt: skip
    names = {"f1": "weighted_f1"}
    rows = {
        names.get(one.metric, one.metric): ClaimScore(
            score_id=10 * number + place, metric=names.get(one.metric, one.metric), value=one.value, low=one.low,
            high=one.high, null_mean=one.null_mean, p=one.p_value, q=None, e=one.e_value, headline=one.headline,
            n_examples=one.n_examples, n_documents=one.n_documents, unparseable=0.0, protocol_hash="h",
            predictor=one.predictor,
        )
        for place, one in enumerate(made)
    }  # fmt: skip
    beside = [
        {"metric": names.get(one.metric, one.metric), "scorer": one.scorer, "n_active": one.n_active, "reason": None,
         "nulls": [asdict(null) for null in one.nulls]}
        for one in made
    ]  # fmt: skip
    details: dict[str, Any] = {
        "scores": beside,
        "verdict": {"input": verdict, "output": "untested", "reasons": ["as it was"], "output_reasons": []},
        "explainer": {"literals": 2},
    }
    return ClaimRow(
        description_id=number, investigation_id=number, unit=f"control:x:{number}" if control else f"{kind}:1:{number}",
        group=f"{kind}:1", kind=kind, polarity="+", control=control, control_of=f"{kind}:1:0" if control else None,
        label="l", input_half="i", rule="r", explainer="pattern", verdict_input=verdict, verdict_output="untested",
        output_kind=None,
        density=density, scores=rows, refine_f1=0.9, status="done", reason=None, seconds=1.0, tool_calls=1,
        forward_passes=1, tokens=0, details=details,
    )  # fmt: skip


def q_of(found: Any, number: int) -> float:
    q: float = found.q_values[10 * number]
    return q


def test_a_claim_that_stood_alone_falls_among_many_that_do_not() -> None:
    lucky = claim(0, p=0.04)
    assert control_errors([lucky], method="bh", alpha=0.05).verdicts[0]["input"] == "supported"
    many = [lucky, *(claim(i, p=0.1 * i, verdict="inconclusive") for i in range(1, 10))]
    found = control_errors(many, method="bh", alpha=0.05)
    assert q_of(found, 0) == pytest.approx(0.4)
    judged = found.verdicts[0]
    assert (judged["input"], judged["before"], judged["output"]) == ("inconclusive", "supported", "untested")
    assert "q = 0.4 against chance exceeds 0.05" in judged["reasons"][0]


def test_closing_twice_says_the_same() -> None:
    many = [claim(0, p=0.04), *(claim(i, p=0.1 * i, verdict="inconclusive") for i in range(1, 10))]
    once = control_errors(many, method="bh", alpha=0.05)
    again = [
        ClaimRow(**{**vars(row), "details": {**row.details, "verdict": once.verdicts[row.description_id]},
                    "verdict_input": once.verdicts[row.description_id]["input"]})
        for row in many
    ]  # fmt: skip
    assert control_errors(again, method="bh", alpha=0.05) == once


@pytest.mark.parametrize("method", ["bh", "by", "storey", "e-bh"])
def test_controls_change_nothing_for_the_claims_and_pass_by_their_standard(method: str) -> None:
    real = [claim(i, p=0.001 * (i + 1), e=100.0 / (i + 1)) for i in range(8)]
    plain = control_errors(real, method=method, alpha=0.05)
    strong, weak = claim(20, p=1e-4, e=500.0, control="swapped"), claim(21, p=0.9, e=0.1, control="shuffled")
    same = claim(22, p=0.004, e=25.0, control="direction")
    both = control_errors([*real, strong, weak, same], method=method, alpha=0.05)
    assert {key: both.q_values[key] for key in plain.q_values} == plain.q_values
    assert {key: both.verdicts[key] for key in plain.verdicts} == plain.verdicts
    assert q_of(both, 20) == min(plain.q_values.values())
    assert q_of(both, 21) == 1.0
    assert q_of(both, 22) == plain.q_values[30]
    assert both.verdicts[21]["input"] == "inconclusive"


def test_methods_differ_as_they_should() -> None:
    claims = [claim(i, p=0.004 * (i + 1)) for i in range(12)]
    largest = {m: max(control_errors(claims, method=m, alpha=0.05).q_values.values()) for m in ("bh", "by", "storey")}
    assert largest["storey"] <= largest["bh"] < largest["by"]


def test_a_description_that_fits_other_units_as_well_falls_by_the_pooled_null() -> None:
    """Alone it has four draws, which can tell nothing; those of all claims together can."""
    claims = [claim(i, pairing=(0.9, (0.1, 0.2, 0.15, 0.1))) for i in range(30)]
    common = claim(30, pairing=(0.2, (0.1, 0.05, 0.1, 0.1)))
    found = control_errors([*claims, common], method="bh", alpha=0.05)
    assert q_of(found, 0) < 0.05 < q_of(found, 30)
    assert found.verdicts[0]["input"] == "supported"
    assert found.verdicts[30]["input"] == "inconclusive"
    assert "fit other units as well as it does its own" in found.verdicts[30]["reasons"][-1]
    assert found.verdicts[30]["p"] > found.verdicts[0]["p"]


def test_nulls_are_pooled_within_a_kind_and_a_density_only() -> None:
    rare = [claim(i, density=0.001, pairing=(0.3, (0.05,) * 8)) for i in range(25)]
    dense = [claim(30 + i, density=0.2, pairing=(0.9, (0.5,) * 8)) for i in range(25)]
    heads = [claim(60 + i, kind="head", density=0.001, pairing=(0.9, (0.6,) * 8)) for i in range(25)]
    together = control_errors([*rare, *dense, *heads], method="bh", alpha=0.05)
    assert q_of(together, 0) < 0.05, "0.3 is far above what rare units reach, if not above what dense ones do"
    mixed = [claim(i, density=0.001, pairing=(0.3, (0.05, 0.5) * 4)) for i in range(25)]
    assert q_of(control_errors(mixed, method="bh", alpha=0.05), 0) > 0.05


def test_a_pool_that_cannot_reach_alpha_says_nothing() -> None:
    found = control_errors([claim(0, pairing=(0.9, (0.95, 0.95)))], method="bh", alpha=0.05)
    assert q_of(found, 0) == pytest.approx(1e-4)


def test_a_head_with_a_role_is_in_the_family_by_its_attention() -> None:
    head = claim(0, p=0.9, kind="head", edge_p=0.001)
    decides = deciding(scores_of(head))
    assert decides is not None
    assert decides[1].metric == "edge_mass"
    weak = [claim(i, p=0.9, verdict="inconclusive") for i in range(1, 10)]
    found = control_errors([head, *weak], method="bh", alpha=0.05)
    assert found.q_values[1] == pytest.approx(0.01)
    assert found.verdicts[0]["input"] == "supported"
    assert control_errors([head, *weak, *(claim(i, p=0.9) for i in range(10, 90))], method="bh",
                          alpha=0.05).verdicts[0]["input"] == "inconclusive"  # fmt: skip


def test_what_was_not_tested_is_not_judged() -> None:
    stub = ClaimRow(**{**vars(claim(0)), "status": "skipped"})
    untested = claim(1, verdict="untested")
    found = control_errors([stub, untested, claim(2)], method="bh", alpha=0.05)
    assert set(found.verdicts) == {2}


def control(number: int, kind: str, status: str = "done") -> ControlRow:
    return ControlRow(number, f"control:x:{number}", kind, "mlp:1:0", status, None, {}, 1.0, 1)


def test_the_outcome_counts_what_was_accepted_and_how_the_controls_fared() -> None:
    real = [claim(i) for i in range(10)]
    fooled = [claim(20 + i, control="swapped") for i in range(3)]
    wise = [claim(30 + i, control="shuffled", verdict="refuted") for i in range(3)]
    rows = [
        *(control(20 + i, "swapped") for i in range(3)), *(control(30 + i, "shuffled") for i in range(3)),
        control(40, "constant", "skipped"), control(41, "direction", "failed"),
    ]  # fmt: skip
    found = outcome_of([*real, *fooled, *wise], rows, {}, {i: 0.02 for i in range(10)}, alpha=0.05, method="bh")
    assert (found.claims, found.accepted, found.accepted_before) == (10, 10, 10)
    assert found.expected_false == pytest.approx(0.2)
    assert found.expected_false_by_controls == pytest.approx(5.0)
    fared = found.controls
    assert (fared.controls, fared.claims, fared.accepted, fared.thrown_out, fared.failed) == (8, 6, 3, 1, 1)
    assert fared.share == 0.5
    assert fared.low == pytest.approx(0.118, abs=1e-3)  # Clopper-Pearson, 3 of 6
    assert fared.high == pytest.approx(0.882, abs=1e-3)
    assert fared.p_value == pytest.approx(0.00223, abs=1e-5)  # P(X >= 3), X ~ Binomial(6, 0.05)
    assert fared.excess
    assert {kind: (row.claims, row.accepted) for kind, row in fared.kinds.items()} == {
        "shuffled": (3, 0), "direction": (0, 0), "swapped": (3, 3), "constant": (0, 0),
    }  # fmt: skip


def test_an_outcome_without_controls_has_no_share() -> None:
    found = outcome_of([claim(0)], [], {}, {0: 0.01}, alpha=0.05, method="by").controls
    assert (found.controls, found.share, found.p_value, found.excess) == (0, None, None, False)
