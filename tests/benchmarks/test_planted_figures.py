"""The benchmark's own figures, on cases made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.planted import figures
from benchmarks.planted.measure import UnitMarks
from benchmarks.planted.summary import Run, by_length, coverage, false_claims, faults, summarise
from benchmarks.planted.tables import render


def flags(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([c == "1" for c in text])


MARK = UnitMarks(
    key="mlp:0:0+", family="bigram", rule_bearing=True, in_language=True, how="described", verdict="supported",
    f1=0.95, above_chance=0.94, near_f1=0.92, recovered=True, recall=0.9, concepts=0, concepts_hit=0,
    exception_recall=None, literals=2, members=3, words=9, true_value=0.9, stored=0.93, low=0.85, high=0.97,
    q_value=0.01, false=False, seconds=1.0, forward_passes=4, tokens=0, inert=False,
)  # fmt: skip


def run(*marks: UnitMarks, explainer: str = "someone", controls: list[tuple[str, str]] | None = None) -> Run:
    return Run(explainer, "planted:seed=0", list(marks), [], controls or [], [], 0, 2.0)


def test_f1_counts_every_position_once() -> None:
    assert figures.f1(flags("1100"), flags("1010")) == pytest.approx(0.5)
    assert figures.f1(flags("0000"), flags("0000")) is None


def test_above_chance_is_nothing_for_a_rule_that_has_nothing_to_do_with_a_dense_unit() -> None:
    active, predicted = flags("1100" * 50), flags("1010" * 50)
    raw = figures.f1(predicted, active)
    assert raw == pytest.approx(0.5)
    assert figures.above_chance(raw, predicted, active) == pytest.approx(0.0)
    assert figures.above_chance(1.0, active, active) == pytest.approx(1.0)


def test_an_answer_that_cannot_be_parsed_is_wrong_either_way() -> None:
    said = figures.called(np.array([np.nan, np.nan, 2.0, 0.0], np.float32), 1.0, flags("1010"))
    assert said.tolist() == [False, True, True, False]


def test_a_concept_is_hit_from_half_of_its_positions_on() -> None:
    active = flags("1111110000")
    concepts = [flags("1111000000"), flags("0000110000"), flags("0000001111")]
    assert figures.concepts_hit(flags("1100000000"), active, concepts) == 1
    assert figures.concepts_hit(flags("1110100000"), active, concepts) == 2
    assert figures.concepts_hit(flags("1000000000"), active, concepts) == 0
    # The unit never fires on the third concept, so it cannot be hit.
    assert figures.concepts_hit(flags("1111111111"), active, concepts) == 2


def test_exception_recall_is_over_the_exceptions_positions_alone() -> None:
    assert figures.exception_recall(flags("11010"), flags("00110")) == pytest.approx(0.5)
    assert figures.exception_recall(flags("11010"), flags("00000")) is None


def test_discoveries_are_supported_claims_up_to_a_level() -> None:
    claims = [
        (True, 0.01, False), (True, 0.04, True), (True, 0.09, True), (True, None, True), (False, 0.01, True),
        (True, 0.5, True),
    ]  # fmt: skip
    found = [figures.discoveries(claims, level) for level in (0.05, 0.1, 0.2)]
    assert [(one.found, one.false) for one in found] == [(2, 1), (3, 2), (3, 2)]
    assert found[0].rate == pytest.approx(0.5)
    assert figures.discoveries([], 0.05).rate is None


def test_accepting_a_unit_without_a_rule_is_false_however_well_it_is_predicted() -> None:
    assert figures.is_false(rule_bearing=False, true_above_chance=1.0)
    assert figures.is_false(rule_bearing=True, true_above_chance=0.29)
    assert not figures.is_false(rule_bearing=True, true_above_chance=0.31)


def test_coverage_tells_trivial_intervals_from_telling_ones() -> None:
    marks = [
        MARK,
        replace(MARK, true_value=1.0, low=1.0, high=1.0),
        replace(MARK, true_value=0.5, low=0.6, high=0.9),
        replace(MARK, low=None),
    ]
    assert coverage(marks) == {"all": {"intervals": 3, "covered": 2}, "telling": {"intervals": 2, "covered": 1}}


def test_accepted_noise_and_controls_are_counted_by_kind() -> None:
    noise = replace(MARK, family="noise", rule_bearing=False, f1=None, above_chance=None, near_f1=None, recovered=False)
    rejected = replace(noise, verdict="refuted")
    found = false_claims([run(MARK, noise, rejected, controls=[("direction", "refuted")])])
    assert found == {
        "noise": {"units": 2, "accepted": 1},
        "control: direction": {"units": 1, "accepted": 0},
        "all": {"units": 3, "accepted": 1},
    }


def test_descriptions_fall_into_classes_of_length() -> None:
    lines = by_length([replace(MARK, members=members) for members in (1, 3, 4, 1000)])
    assert [(line["from"], line["to"], line["units"]) for line in lines] == [(0, 1, 1), (3, 4, 2), (257, None, 1)]


def test_a_weak_oracle_and_a_lucky_random_rule_are_faults_of_the_benchmark() -> None:
    good = summarise([run(replace(MARK, f1=0.99, near_f1=0.99), explainer="oracle")])
    weak = summarise([run(replace(MARK, f1=0.99, near_f1=0.9), explainer="oracle")])
    lucky = summarise([run(replace(MARK, above_chance=0.3), explainer="random")])
    unlucky = summarise([run(replace(MARK, above_chance=0.05), explainer="random")])
    assert faults([good, unlucky]) == []
    assert [line.split(" only")[0].split(" reaches")[0] for line in faults([weak, lucky])] == [
        "the oracle", "a random rule",
    ]  # fmt: skip
    assert faults([summarise([run(replace(MARK, f1=0.1))])]) == []


def test_the_summary_adds_up_seeds_and_the_tables_fit_eighty_columns() -> None:
    noise = replace(MARK, family="noise", rule_bearing=False, f1=None, above_chance=None, near_f1=None, recovered=False)
    missed = replace(MARK, family="polysemantic", recovered=False, f1=0.4, concepts=2, concepts_hit=1)
    excepted = replace(MARK, family="global rule with an exception", exception_recall=0.25)
    names = ["oracle", "random", "token-table", "pair-table", "pattern"]
    summaries = [summarise([run(MARK, noise, explainer=name), run(missed, excepted)]) for name in names]
    one = summaries[0]
    assert (one["total"]["units"], one["total"]["recovered"]) == (3, 2)
    assert one["polysemy"] == {"units": 1, "exact": 0, "hit": 1, "concepts": 2}
    assert one["exception"]["recall"] == pytest.approx(0.25)
    assert one["fdr"][0] == {"level": 0.05, "found": 4, "false": 0, "rate": 0.0}
    text = render(summaries)
    assert max(map(len, text.splitlines())) <= 80
    assert "67%" in text
