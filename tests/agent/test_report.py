"""A campaign's report: its numbers against ones worked out by hand, and what turns it red."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from agent.reporting import CampaignReport, Check, State, build_report
from agent.reporting import statistics as numbers
from agent.reporting.evidence import EDGES, Claim, Evidence, Head, Job, Rivals
from agent.reporting.predictions import prediction_use
from agent.reporting.report import banner

HEAD = Head(
    campaign="c", status="done", subject="s", corpus="k", explainer="pattern", scorer="simulation", error_method="bh",
    spec_hash="hash", alpha=0.05,
)  # fmt: skip


def claim(unit: str, value: float | None, *, accepted: bool = False, **more: Any) -> Claim:
    """A claim that was tested and has all that a score needs."""
    given = {
        "polarity": "+", "label": "a label", "verdict": "supported" if accepted else "inconclusive", "value": value,
        "low": None if value is None else max(0.0, value - 0.1), "high": None if value is None else min(1, value + 0.1),
        "null": 0.0, "p": 0.001, "q": 0.002, "complete": value is not None, "unparseable": 0.0, "refine": value,
        "openings": 1,
    }  # fmt: skip
    return Claim(unit=unit, **{**given, **more})


def evidence(claims: Sequence[Claim], jobs: Sequence[Job] | None = None, **head: Any) -> Evidence:
    """A closed campaign of these claims; a job a unit."""
    if jobs is None:
        units = {one.unit: one.control for one in claims}
        jobs = [Job(unit, "done", control, seconds=2.0, tool_calls=3) for unit, control in units.items()]
    recorded = {name: float(sum(getattr(job, name) for job in jobs)) for name in ("seconds", "tool_calls", "tokens")}
    return Evidence(replace(HEAD, **head), claims, jobs, recorded)


def real(values: Sequence[float], least: float = 0.5) -> list[Claim]:
    return [claim(f"mlp:0:{i}", value, accepted=value >= least) for i, value in enumerate(values)]


def controls(values: Sequence[float], kind: str = "direction", accepted: int = 0) -> list[Claim]:
    """Controls, the first few of them accepted."""
    return [
        claim(f"control:{kind}:{i}", value, accepted=i < accepted, control=kind, control_of="mlp:0:0", q=None)
        for i, value in enumerate(values)
    ]


def sound() -> Evidence:
    """A campaign with nothing wrong: real units spread out, 40 controls of two kinds low, none accepted."""
    return evidence(
        real([0.02 * i for i in range(50)])
        + controls([0.01 * i for i in range(20)])
        + controls([0.005 * i for i in range(20)], "swapped")
    )


def gullible() -> Evidence:
    """The same where the scorer finds everything perfect."""
    good = sound()
    return replace(
        good,
        claims=[replace(c, value=1.0, low=1.0, high=1.0, verdict="supported", q=0.001) for c in good.claims],
    )


def check(report: CampaignReport, key: str) -> Check:
    return next(one for one in report.checks if one.key == key)


def test_a_sound_campaign_is_green() -> None:
    report = build_report(sound())
    assert report.colour == "green", report.why
    assert report.why == []
    assert {one.state for one in report.checks} == {State.PASSED}
    for one in report.checks:
        assert one.value is not None
        assert one.limit is not None
        assert one.value <= one.limit


def test_a_gullible_scorer_turns_the_report_red() -> None:
    report = build_report(gullible())
    assert report.colour == "red"
    failed = {one.key for one in report.checks if one.state is State.FAILED}
    assert failed == {"controls_accepted", "controls_accepted_by_kind", "separation", "expected_false", "leak"}
    assert len(report.why) == len(failed)
    for one in report.checks:
        assert one.value is not None
        assert one.limit is not None
        assert (one.value > one.limit) == (one.state is State.FAILED)


def test_a_leaking_explainer_turns_the_report_red() -> None:
    """It has seen the sealed text: its descriptions do well there, on controls too, and not on refine text."""
    leaked = [replace(c, value=0.95, low=0.9, high=1.0, verdict="supported") for c in sound().claims]
    report = build_report(evidence(leaked))
    assert check(report, "leak").state is State.FAILED
    assert check(report, "controls_accepted").state is State.FAILED
    assert report.colour == "red"


def test_the_share_of_controls_has_an_exact_interval() -> None:
    # Clopper and Pearson by their definition: P(X ≥ 2 | low) = P(X ≤ 2 | high) = 0.025.
    share = numbers.share_of(2, 20)
    assert share.value == 0.1
    assert share.low is not None
    assert share.high is not None
    assert stats.binom.sf(1, 20, share.low) == pytest.approx(0.025)
    assert stats.binom.cdf(2, 20, share.high) == pytest.approx(0.025)
    # Of none accepted the upper end is 1 - 0.025^(1/n).
    assert numbers.share_of(0, 20).low == 0.0
    assert numbers.share_of(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert numbers.share_of(0, 0).value is None


@pytest.mark.parametrize(
    ("n", "accepted", "state"),
    [
        # P(X ≥ 2 | 4, .05) = 0.0140, P(X ≥ 1) = 0.185; of 20: P(X ≥ 3) = 0.0755, P(X ≥ 4) = 0.0159.
        (4, 1, State.PASSED),
        (4, 2, State.FAILED),
        (20, 3, State.PASSED),
        (20, 4, State.FAILED),
        (1, 0, State.PASSED),
        (1, 1, State.FAILED),  # P(X ≥ 1 | 1, .05) is the level itself
    ],
)
def test_controls_fail_when_so_many_are_no_chance(n: int, accepted: int, state: State) -> None:
    report = build_report(evidence(real([0.9] * 20) + controls([0.1] * n, accepted=accepted)))
    found = check(report, "controls_accepted")
    assert found.state is state
    assert found.value == accepted / n
    assert found.limit is not None
    assert (found.value > found.limit) == (state is State.FAILED)


def test_controls_too_few_for_any_outcome_to_fail_leave_it_undecided() -> None:
    report = build_report(evidence(real([0.9] * 20) + controls([0.1]), alpha=0.1))
    assert check(report, "controls_accepted").state is State.UNDECIDED
    assert report.colour == "amber"


def test_one_kind_of_control_that_slips_through_is_enough() -> None:
    # 4 of 10 directions of 60 controls: P(X ≥ 4 | 60, .05) = 0.353, but P(X ≥ 4 | 10, .05) = 0.00103, twice that.
    kinds = controls([0.1] * 10, "direction", accepted=4) + controls([0.1] * 50, "swapped")
    report = build_report(evidence(real([0.9] * 20) + kinds))
    assert check(report, "controls_accepted").state is State.PASSED
    assert check(report, "controls_accepted_by_kind").state is State.FAILED
    assert "direction: 4 of 10" in check(report, "controls_accepted_by_kind").finding
    assert report.colour == "red"


def test_without_controls_nothing_guards_the_scores() -> None:
    report = build_report(evidence(real([0.9] * 20)))
    assert report.colour == "amber"
    assert check(report, "controls_accepted").state is State.NOT_APPLICABLE
    assert "no controls: nothing guards" in report.why[0]
    assert report.scores.percentile is None
    assert report.errors.by_controls is None


def test_controls_that_triage_skipped_count_neither_way() -> None:
    skipped = replace(claim("control:constant:0", None, control="constant", control_of="mlp:0:1"), tested=False)
    jobs = [Job("mlp:0:0", "done"), Job("control:constant:0", "skipped", "constant", "never active")]
    report = build_report(evidence([*real([0.9]), skipped], jobs))
    assert check(report, "controls_accepted").state is State.UNDECIDED
    constant = report.scores.populations[1]
    assert (constant.kind, constant.accepted.total, constant.skipped) == ("constant", 0, 1)


def test_an_open_campaign_is_amber_and_says_so() -> None:
    waiting = replace(sound().head, status="open", pending=7)
    report = build_report(replace(sound(), head=waiting))
    assert report.colour == "amber"
    assert "7 units to go" in report.why[0]


def test_separation_is_the_area_under_the_curve() -> None:
    # Real 0.9, 0.5, 0.1 against controls 0.5, 0.2: they win 2 + 1.5 + 0 of 6 pairs.
    found = numbers.separation([0.9, 0.5, 0.1, 0.5, 0.2], [False] * 3 + [True] * 2, "abcde")
    assert found is not None
    assert found.auc == pytest.approx(3.5 / 6)
    # Of the ten ways to call two of five units controls, that is the smallest p-value there is.
    assert found.least_p == pytest.approx(0.1)
    assert found.low <= found.auc <= found.high
    assert numbers.separation([0.1, 0.2], [False, False], "ab") is None


def test_permutations_give_the_exact_p_value_of_a_small_case() -> None:
    # Two controls below all of six real units: 1 of the 28 arrangements does as well.
    found = numbers.separation([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.1], [False] * 6 + [True] * 2, "abcdefgh")
    assert found is not None
    assert found.auc == 1.0
    assert found.p_value == pytest.approx(1 / 28, abs=0.015)


def test_the_two_tails_of_a_unit_move_together() -> None:
    """Six claims of three units allow three arrangements, not fifteen."""
    found = numbers.separation([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], [False] * 4 + [True] * 2, "aabbcc")
    assert found is not None
    assert found.least_p == pytest.approx(1 / 3)
    assert found.p_value >= 1 / 3


def test_separation_holds_its_level_when_there_is_nothing() -> None:
    import numpy as np

    generator = np.random.default_rng(1)
    values = generator.random((40, 30))
    found = [
        numbers.separation(list(row), [False] * 20 + [True] * 10, range(30), seed=i) for i, row in enumerate(values)
    ]
    assert sum(one is not None and one.p_value <= 0.05 for one in found) <= 6  # P(X ≥ 7 | 40, .05) = 0.003


def test_a_few_describable_units_among_many_are_no_failure_of_the_scores() -> None:
    """Most real units score as controls do, and no control is accepted: not told apart, but nothing is wrong."""
    claims = real([0.8, 0.8] + [0.01 * (i % 20) for i in range(60)]) + controls([0.025 * i for i in range(8)])
    report = build_report(evidence(claims))
    assert check(report, "separation").state is State.UNDECIDED
    assert report.colour == "amber"


def test_expected_false_ones_by_q_values_and_by_controls() -> None:
    claims = [replace(c, q=0.03 if c.unit == "mlp:0:0" else 0.01) for c in real([0.9] * 10 + [0.1] * 10)]
    claims[10] = replace(claims[10], before="supported")  # its q-value was too large
    claims += controls([0.1] * 25, accepted=1)
    errors = build_report(evidence(claims)).errors
    assert (errors.tested, errors.accepted, errors.above_alpha) == (20, 10, 0)
    assert errors.accepted_before == 11
    assert errors.by_q is not None
    assert errors.by_q.share == 0.03
    assert errors.by_q.expected == pytest.approx(0.3)
    # 1 of 25 controls, times 20 descriptions.
    assert errors.by_controls is not None
    assert errors.by_controls.expected == pytest.approx(0.8)
    assert errors.by_controls.share == pytest.approx(0.08)
    share = numbers.share_of(1, 25)
    assert share.low is not None
    assert share.high is not None
    assert errors.by_controls.low == pytest.approx(20 * share.low)
    assert errors.by_controls.high == pytest.approx(20 * share.high)
    # Every claim has p = .001; no control is left out.
    assert errors.naive.claims == 20
    assert errors.naive.expected_false == pytest.approx(1.0)
    assert (errors.naive.controls.count, errors.naive.controls.total) == (25, 25)


def test_a_control_accepted_among_few_leaves_open_how_many_are_false() -> None:
    # 1 of 25 controls: 0.8 of 10 expected, 8 %, which 25 controls cannot tell from none.
    report = build_report(evidence(real([0.9] * 10 + [0.1] * 10) + controls([0.1] * 25, accepted=1)))
    assert check(report, "controls_accepted").state is State.PASSED
    assert check(report, "expected_false").state is State.UNDECIDED
    assert report.colour == "amber"


def test_accepted_claims_with_a_large_q_value_turn_the_report_red() -> None:
    claims = [replace(c, q=0.2) if c.unit == "mlp:0:49" else c for c in sound().claims]
    report = build_report(evidence(claims))
    assert check(report, "expected_false").state is State.FAILED
    assert report.errors.above_alpha == 1


def test_percentile_of_the_median_real_score() -> None:
    report = build_report(evidence(real([0.2, 0.4, 0.9]) + controls([0.1, 0.3, 0.4, 0.5])))
    # The median real score is 0.4: two controls below, one equal.
    assert report.scores.percentile == pytest.approx(2.5 / 4)
    assert report.scores.populations[0].median == 0.4


def test_calibration_by_hand() -> None:
    pairs = [(0.1, 0.0), (0.15, 0.25), (0.9, 0.7), (1.0, 0.8)]
    claims = [claim(f"mlp:0:{i}", value, refine=refine) for i, (refine, value) in enumerate(pairs)]
    found = build_report(evidence(claims)).calibration
    assert found.mean_error == pytest.approx((0.1 - 0.1 + 0.2 + 0.2) / 4)
    assert found.mean_absolute_error == pytest.approx(0.6 / 4)
    assert [(one.low, one.n) for one in found.bins] == [(0.0, 2), (0.8, 2)]
    assert found.bins[1].refine == pytest.approx(0.95)
    assert found.bins[1].score == pytest.approx(0.75)
    # Each interval is 0.1 to each side: the refine score of the first two lies inside, at the edge or within.
    assert (found.inside.count, found.inside.total) == (2, 4)
    assert found.gap is not None
    half = stats.t.isf(0.025, 3) * stats.tstd([0.1, -0.1, 0.2, 0.2]) / 2
    assert found.gap.high - found.gap.low == pytest.approx(2 * half)


def test_a_heavy_loss_on_sealed_text_turns_the_report_red() -> None:
    claims = [replace(c, refine=min(1.0, (c.value or 0) + 0.3)) for c in sound().claims]
    assert check(build_report(evidence(claims)), "winners_curse").state is State.FAILED
    assert check(build_report(evidence(claims)), "leak").state is State.PASSED


def test_a_swapped_description_is_not_held_to_the_unit_it_was_chosen_for() -> None:
    swapped = [replace(c, refine=0.9) for c in controls([0.0] * 40, "swapped")]
    found = build_report(evidence([*real([0.5] * 10), *swapped])).calibration.gap
    assert found is not None
    assert (found.value, found.n) == (0.0, 10)


def test_one_unit_alone_is_no_evidence_of_a_leak() -> None:
    report = build_report(evidence([claim("mlp:0:0", 0.9, refine=0.1)]))
    assert check(report, "leak").state is State.PASSED
    assert report.calibration.gap is not None
    assert math.isinf(report.calibration.gap.high)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("seal", {"openings": 0}),
        ("seal", {"openings": 2}),
        ("intervals", {"complete": False}),
        ("unparseable", {"unparseable": 1.0}),
    ],
)
def test_a_broken_seal_a_missing_interval_or_unreadable_answers_turn_the_report_red(
    key: str, change: dict[str, Any]
) -> None:
    claims = [replace(c, **change) if c.accepted else c for c in sound().claims]
    report = build_report(evidence(claims))
    assert check(report, key).state is State.FAILED
    assert report.colour == "red"


def test_an_opening_that_belongs_to_no_claim_turns_the_report_red() -> None:
    jobs = [replace(job, dropped_openings=int(i == 0)) for i, job in enumerate(sound().jobs)]
    assert check(build_report(replace(sound(), jobs=jobs)), "seal").state is State.FAILED


def test_failed_investigations_turn_the_report_red_beyond_a_twentieth() -> None:
    done = [Job(f"mlp:0:{i}", "done") for i in range(95)]
    failed = [Job(f"mlp:1:{i}", "failed", reason="ValueError") for i in range(5)]
    assert check(build_report(evidence([], [*done, *failed])), "failures").state is State.PASSED
    assert check(build_report(evidence([], [*done[1:], *failed])), "failures").state is State.FAILED


def test_costs_add_up_and_are_told_per_description() -> None:
    jobs = [
        Job("mlp:0:0", "done", seconds=4, tool_calls=6, forward_passes=10, tokens=100),
        Job("mlp:0:1", "done", seconds=2, tool_calls=2, forward_passes=20),
        Job("mlp:0:2", "skipped", reason="never active", seconds=1),
        Job("mlp:0:3", "failed", reason="ValueError", seconds=3, tool_calls=1),
        Job("control:0:0", "done", "swapped", seconds=2, tool_calls=3),
    ]
    claims = [claim("mlp:0:0", 0.9, accepted=True), claim("mlp:0:1", 0.1), *controls([0.1], "swapped")]
    cost = build_report(evidence(claims, jobs)).cost
    assert [(row.part, row.units, row.seconds) for row in cost.parts] == [
        ("described", 2, 6), ("skipped", 1, 1), ("failed", 1, 3), ("controls", 1, 2),
    ]  # fmt: skip
    assert (cost.total.seconds, cost.total.tool_calls, cost.total.forward_passes, cost.total.tokens) == (
        12,
        12,
        30,
        100,
    )
    assert cost.per_description == {"seconds": 6, "tool_calls": 6, "forward_passes": 15, "tokens": 50}
    assert cost.per_supported == {"seconds": 12, "tool_calls": 12, "forward_passes": 30, "tokens": 100}


def test_work_that_no_unit_accounts_for_turns_the_report_red() -> None:
    good = sound()
    more = {**good.recorded, "seconds": good.recorded["seconds"] * 1.01}
    assert check(build_report(replace(good, recorded=more)), "costs").state is State.FAILED


def test_failures_and_skips_are_grouped_by_reason() -> None:
    jobs = [Job(f"mlp:0:{i}", "skipped", reason=f"active on {90 + i}.5 % of tokens") for i in range(40)]
    jobs += [Job("mlp:1:0", "skipped"), Job("mlp:1:1", "failed", reason="ValueError: no tail")]
    report = build_report(evidence([], jobs))
    assert report.skipped.total == 41
    assert report.skipped.reasons == [("active on N % of tokens", 40), ("no reason recorded", 1)]
    assert len(report.skipped.units) == 30
    assert report.failed.units == [("mlp:1:1", "ValueError: no tail")]


def test_best_and_weakest_are_measured_above_chance() -> None:
    claims = [
        claim("a", 0.9, accepted=True, low=0.85, null=0.8),  # on everywhere: hardly above chance
        claim("b", 0.7, accepted=True, low=0.6, null=0.05),
        claim("c", 0.1),
    ]
    report = build_report(evidence(claims))
    assert [one.unit for one in report.best] == ["b", "a"]
    assert [one.unit for one in report.weakest] == ["a", "b"]
    assert [one.unit for one in report.lowest] == ["c", "b", "a"]


def test_the_json_form_has_a_version_and_everything() -> None:
    told = json.loads(json.dumps(build_report(sound()).to_json()))
    assert next(iter(told)) == "version"
    assert told["version"] == 1
    assert told["colour"] == "green"
    assert {one["key"] for one in told["checks"]} >= {"controls_accepted", "seal", "costs"}
    assert all(set(one) == {"key", "name", "state", "value", "limit", "finding", "meaning"} for one in told["checks"])
    assert len(told["claims"]) == 90


def test_an_empty_campaign_has_a_report() -> None:
    report = build_report(evidence([], [], status="open"))
    assert report.colour == "amber"
    assert report.cost.total.units == 0


def test_a_failed_check_outranks_an_undecided_one() -> None:
    one = Check("k", "n", State.UNDECIDED, None, None, "f", "m")
    assert banner([one])[0] == "amber"
    colour, why = banner([one, replace(one, name="other", state=State.FAILED)])
    assert (colour, why) == ("red", ["other: f"])


def test_the_metric_that_decides_about_heads_is_called_as_its_scorer_calls_it() -> None:
    from scorers.edges import METRIC

    assert EDGES == METRIC


def test_the_interval_of_the_area_is_that_of_resampling_units() -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    values = np.round(generator.random((30, 2)), 1)  # ties, and two claims a unit
    found = numbers.separation(values.ravel().tolist(), [False] * 40 + [True] * 20, [i // 2 for i in range(60)])
    drawn = []
    for _ in range(2000):
        real = values[:20][generator.integers(0, 20, 20)].ravel()
        control = values[20:][generator.integers(0, 10, 10)].ravel()
        drawn.append((real[:, None] > control).mean() + 0.5 * (real[:, None] == control).mean())
    assert found is not None
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def predicted(**changes: Any) -> dict[str, Any]:
    held = {"foretold": 0.8, "low": 0.7, "high": 0.9, "value": 0.75, "held": True}
    probes = [
        {"kind": kind, "probability": p, "says": p > 0.5, "active": on}
        for kind, p, on in (("fresh", 0.95, True), ("fresh", 0.95, False), ("random", 0.05, False))
    ]
    return {"sealed": {"f1": held, "recall": {**held, "held": None}}, "effect": None, "probes": probes, **changes}


def test_predictions_are_pooled_over_the_descriptions_of_real_units() -> None:
    missed = {"foretold": 0.8, "low": 0.7, "high": 0.9, "value": 0.5, "held": False}
    use = prediction_use([predicted(), predicted(sealed={"f1": missed}, effect=missed), predicted(probes=None)])
    assert use is not None
    assert {name: (one.count, one.total) for name, one in use.held.items()} == {"f1": (2, 3), "effect": (0, 1)}
    assert use.curve is not None
    assert [(one.n, one.observed) for one in use.curve.bins] == [(2, 0.0), (4, 0.5)]
    assert use.curve.error == pytest.approx((2 * 0.05 + 4 * 0.45) / 6)
    assert {kind: curve.n for kind, curve in use.kinds.items()} == {"fresh": 4, "random": 2}
    assert (use.right.count, use.right.total) == (4, 6)
    assert prediction_use([]) is None
    assert build_report(sound()).predictions is None


def test_disagreement_lists_the_least_sure_first() -> None:
    rivals = [
        Rivals("mlp:0:0+", "sure", 1.0, []), Rivals("mlp:0:1+", "a", 0.8, [("b", 0.2)]),
        Rivals("mlp:0:2+", "c", 0.5, [("d", 0.3), ("e", 0.2)]),
    ]  # fmt: skip
    found = build_report(replace(sound(), rivals=rivals)).disagreement
    assert found is not None
    assert (found.descriptions, found.contested, found.runners_up) == (3, 2, 3)
    assert [(one.label, one.other, one.other_selection) for one in found.listed] == [("c", "d", 0.3), ("a", "b", 0.2)]
    assert build_report(sound()).disagreement is None
