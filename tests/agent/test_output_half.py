"""The output half of a claim in a campaign: measured, claimed, tested on sealed text, judged again at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store
from agent.claims import claim_digest
from agent.error_control import control_errors
from agent.output_errors import output_p_values, output_tests
from agent.output_half import output_verdict
from explainers.output.claim import OutputClaim, TokenChange
from explainers.types import Explanation
from scorers.types import Null, Score
from scorers.verdict import Verdict
from store.claim_rows import ClaimRow, ClaimScore
from store.queries import best_descriptions, campaign_evidence, unit_page
from tools.types import UnitId

Run = Callable[..., Any]
TOKENS = OutputClaim("changes", None, (TokenChange(3, " a", 0.4),), (TokenChange(9, " b", -0.3),), {"off": {"m": 1}})


def test_every_description_has_its_output_half_tested_or_says_why_not(run: Run, tmp_path: Path) -> None:
    run()
    with store.open_database(tmp_path / "ng.db") as db:
        rows = campaign_evidence(db, "tiny")
        page = unit_page(db, "mlp:1:1")
        assert rows
        for row in rows:
            verdict = row.details["verdict"]
            claim = OutputClaim.from_json(row.details["explainer"]["output"])
            assert row.output_kind == claim.kind
            assert verdict["output"] == row.verdict_output
            assert verdict["output_reasons"]
            if claim.kind == "untested":
                assert row.verdict_output == "untested"
                continue
            scores = {name: score for name, score in row.scores.items() if name.startswith("output_")}
            assert scores
            deciding = {"changes": "output_shift", "varies": "output_kl", "later": "output_later",
                        "nothing": "output_most"}[claim.kind]  # fmt: skip
            assert scores[deciding].q is not None
            assert not any(score.headline for score in scores.values())
        kinds = [one.kind for one in page.experiments]
        assert kinds.count("output effects") == kinds.count("output test") == len(page.descriptions)
        test = next(one for one in page.experiments if one.kind == "output test")
        assert test.arguments["split"] == "score"
        assert test.arguments["off"]["sha256"]
        assert len(test.arguments["places"]) == len(test.observations[0].data["places"]["kl"])
        assert test.observations[0].hypothesis in ("+1", "+2")
        assert test.observations[0].outcome in ("supported", "refuted", "inconclusive")
        told = page.descriptions[0].output_half
        assert told
        found = best_descriptions(db, verdict_output=page.descriptions[0].verdict_output, limit=None)
        assert "mlp:1:1" in {row.unit for row in found}
        kind = page.descriptions[0].output_kind
        assert {row.output_kind for row in best_descriptions(db, output_kind=kind, limit=None)} == {kind}


def test_a_campaign_may_leave_output_halves_alone(run: Run, tmp_path: Path) -> None:
    run(output="off", units=["mlp:1:1"])
    with store.open_database(tmp_path / "ng.db") as db:
        page = unit_page(db, "mlp:1:1")
    assert not [one for one in page.experiments if one.kind.startswith("output")]
    description = page.descriptions[0]
    assert description.verdict_output == "untested"
    assert description.output_half is not None
    assert "output: off" in description.output_half
    assert "output: off" in description.details["verdict"]["output_reasons"][0]


def test_what_is_said_of_the_output_is_part_of_the_claim() -> None:
    def digest(claim: OutputClaim) -> str:
        explanation = Explanation("e", "l", "i", "o", None, None, {"output": claim.to_json()})
        return claim_digest(UnitId("mlp:0", 1), "+", 0.5, explanation)

    others = [
        replace(TOKENS, kind="nothing", raised=(), lowered=()),
        replace(TOKENS, lowered=()),
        replace(TOKENS, raised=TOKENS.lowered, lowered=TOKENS.raised),
        replace(TOKENS, basis={"off": {"m": 2}}),
    ]
    assert len({digest(TOKENS), *map(digest, others)}) == 5
    # How large the change was found to be is no part of what is claimed.
    assert digest(replace(TOKENS, raised=(TokenChange(3, " a", 0.5),))) == digest(TOKENS)


def test_without_a_claim_or_a_test_the_verdict_says_why() -> None:
    assert output_verdict({}, [], 0.05).reasons == ("it claims nothing about the output",)
    silent = OutputClaim("untested", "the model is an encoder")
    assert output_verdict({"output": silent.to_json()}, [], 0.05).reasons == ("the model is an encoder",)
    judged = output_verdict({"output": TOKENS.to_json()}, [], 0.05, "on in too few documents")
    assert judged.verdict is Verdict.UNTESTED
    assert judged.reasons == ("on in too few documents",)


def half(number: int, size: float, *, control: str | None = None, spread: float = 0.1, kind: str = "mlp") -> ClaimRow:
    """A claim whose tokens move by `size`, against 99 random writes of a spread of its own."""
    drawn = np.random.default_rng(number).normal(0, spread, 99)
    null = Null.of("random", size, drawn, keep=True)
    score = Score("output", "output_shift", size, size - 0.02, size + 0.02, 32, 32, 32, null.mean, null.p_value,
                  "score", "intervention", "h", False, nulls=(null,))  # fmt: skip
    row = ClaimScore(
        score_id=number, metric="output_shift", value=size, low=score.low, high=score.high, null_mean=score.null_mean,
        p=score.p_value, q=None, e=None, headline=False, n_examples=32, n_documents=32, unparseable=0.0,
        protocol_hash="h", predictor="intervention",
    )  # fmt: skip
    beside = [{"metric": "output_shift", "scorer": "output", "n_active": 32, "reason": None,
               "nulls": [{**null.__dict__, "values": list(null.values)}]}]  # fmt: skip
    details = {
        "scores": beside, "explainer": {"output": TOKENS.to_json()},
        "verdict": {"input": "untested", "output": "supported", "reasons": [], "output_reasons": ["as it was"]},
    }  # fmt: skip
    return ClaimRow(
        description_id=number, investigation_id=number, unit=f"{kind}:1:{number}", group=f"{kind}:1", kind=kind,
        polarity="+", control=control, control_of=None, label="l", input_half="i", rule=None, explainer="pattern",
        verdict_input="untested", verdict_output="supported", output_kind="changes", density=0.01,
        scores={"output_shift": row}, refine_f1=None, status="done", reason=None, seconds=1.0, tool_calls=1,
        forward_passes=1, tokens=0, details=details,
    )  # fmt: skip


def test_random_writes_of_all_claims_together_resolve_small_p_values() -> None:
    rows = [half(number, 1.0) for number in range(20)]
    scores = {row.description_id: [(row.description_id, _score(row))] for row in rows}
    tests = output_tests(rows, scores)
    assert [test.p_value for test in tests] == [pytest.approx(0.01)] * 20
    pooled = output_p_values(tests)
    assert max(pooled) == pytest.approx(1 / (20 * 99 + 1))


def _score(row: ClaimRow) -> Score:
    from agent.error_control import scores_of

    return scores_of(row)[0][1]


def test_claims_of_other_scales_are_pooled_by_their_own_spread() -> None:
    """A shift of three standard deviations is as rare where random writes move much as where they move little."""
    rows = [half(number, 3 * spread, spread=spread) for number, spread in enumerate([0.01, 0.1, 1.0, 10.0] * 10)]
    scores = {row.description_id: [(row.description_id, _score(row))] for row in rows}
    pooled = np.array(output_p_values(output_tests(rows, scores)))
    assert (pooled < 0.01).all()
    assert pooled.std() < 0.003


def test_closing_judges_output_halves_again_and_leaves_untested_inputs() -> None:
    rows = [
        half(0, 1.0),
        *(half(number, 0.15, spread=0.5) for number in range(1, 12)),
        half(12, 1.0, control="swapped"),
    ]
    found = control_errors(rows, method="bh", alpha=0.05)
    assert found.verdicts[0]["output"] == "supported"
    assert found.verdicts[0]["input"] == "untested"
    assert (found.verdicts[0]["output_q"] or 1) <= 0.05
    assert {found.verdicts[number]["output"] for number in range(1, 12)} == {"inconclusive"}
    assert found.verdicts[1]["output_before"] == "supported"
    assert found.verdicts[12]["output"] == "supported"  # by the standard of the others
    again = [replace(row, details={**row.details, "verdict": found.verdicts[row.description_id]}) for row in rows]
    assert control_errors(again, method="bh", alpha=0.05) == found
