"""The benchmark from end to end, on a few units of a planted subject: real campaigns, read from their database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.planted.__main__ import main
from benchmarks.planted.run import Trial, patterns, sampled
from benchmarks.planted.sequential import compare_scoring, score_view, summarise_pairs
from benchmarks.planted.summary import Run, faults, summarise
from tools.planted import PlantedSpec, TokenIn, UnitTruth
from tools.planted.truth import Case

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """One unit of each family, on a small corpus."""
    settings = {"resamples": 200, "null_units": 8, "controls": 0.0}
    home = tmp_path_factory.mktemp("planted")
    return Trial(PlantedSpec(), home, per_family=1, fresh_tokens=15_000, documents=3_000, settings=settings)


@pytest.fixture(scope="module")
def tried(trial: Trial) -> Callable[[str], Run]:
    """Runs an explainer's campaign once."""
    runs: dict[str, Run] = {}

    def go(name: str) -> Run:
        if name not in runs:
            runs[name] = trial.run(name)[0]
        return runs[name]

    return go


def test_the_oracle_reaches_every_family_and_a_random_rule_none(tried: Callable[[str], Run]) -> None:
    oracle, random = tried("oracle"), tried("random")
    summaries = [summarise([oracle]), summarise([random])]
    assert faults(summaries) == []
    bearing = [mark for mark in oracle.marks if mark.rule_bearing]
    assert len(bearing) >= 20
    assert all(mark.recovered for mark in bearing), [mark.key for mark in bearing if not mark.recovered]
    assert not any(mark.recovered for mark in random.marks)
    assert summaries[0]["exception"]["recall"] == 1.0
    assert summaries[0]["polysemy"]["exact"] == summaries[0]["polysemy"]["units"] > 0


@pytest.mark.parametrize("explainer", ["oracle", "random"])
def test_planted_effects_are_claimed_with_their_tokens_and_units_without_are_called_so(
    explainer: str, tried: Callable[[str], Run]
) -> None:
    """Whoever explains: the claim about the output is measured."""
    found = summarise([tried(explainer)])["output"]
    assert found["inert"]["units"] >= 1
    assert found["inert"]["called"] == found["inert"]["units"]
    assert found["false_causal"]["claims"] >= 12
    assert found["false_causal"]["false"] == 0
    assert found["false_none"]["false"] == 0
    assert found["planted"]["found"] >= 0.9 * found["planted"]["units"]
    assert found["planted"]["precision"] > 0.95
    assert found["dose"]["detected"] >= 0.9 * found["dose"]["units"] > 10


@pytest.mark.parametrize("explainer", ["oracle", "random", "token-table"])
def test_what_has_no_rule_is_not_accepted(explainer: str, tried: Callable[[str], Run]) -> None:
    accepted = summarise([tried(explainer)])["false_claims"]["all"]
    assert accepted["units"] >= 3
    assert accepted["accepted"] == 0


def test_a_table_of_tokens_knows_sets_of_tokens_and_no_bigrams(tried: Callable[[str], Run]) -> None:
    marks = {mark.family: mark for mark in tried("token-table").marks}
    assert (marks["token set"].f1 or 0) > 0.9
    assert (marks["bigram"].f1 or 0) < 0.9
    assert marks["token set"].literals is None
    assert (marks["token set"].members or 0) > 0


def test_true_claims_are_accepted_sequentially_at_less_cost(trial: Trial) -> None:
    run, claims, summary, made = trial.run("oracle")
    assert summary.index is not None
    pairs = compare_scoring(claims[:12], run.marks, made, score_view(Path(summary.index)))
    early = summarise_pairs(pairs)
    assert early["claims"] >= 5
    assert early["same_decision"] == early["claims"]
    assert early["median_cost"] < 1


def test_an_unknown_explainer_and_a_wrong_subject_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explainer", "nobody"]) == 2
    assert main(["--subject", "planted:colour=red", "--explainer", "oracle"]) == 2
    told = capsys.readouterr().err
    assert "There is no explainer 'nobody'" in told
    assert "'colour=red' is no option" in told


def test_a_sample_takes_so_many_of_each_family_and_patterns_name_them() -> None:
    case = Case(TokenIn((" a",)), 1.0)
    truths = [
        UnitTruth(f"mlp:{layer}:{index}", "+", f"family {index % 2}", (case,), 0.0, 0.1)
        for layer in (0, 1)
        for index in range(6)
    ]
    few = sampled(truths, 2)
    assert [truth.family for truth in few].count("family 0") == 2
    assert len(few) == 4
    assert sampled(truths, None) == truths
    assert patterns(truths) == ("mlp:0:0,1,2,3,4,5", "mlp:1:0,1,2,3,4,5")
    assert few == sampled(list(reversed(truths)), 2)[::-1]


def test_the_command_writes_figures_of_every_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "planted.json"
    command = ["--explainer", "oracle", "--sample", "1", "--fresh-tokens", "6000", "--json", str(out)]
    status = main(command)
    report = json.loads(out.read_text())
    assert status == (1 if report["broken"] else 0)
    assert report["summaries"][0]["explainer"] == "oracle"
    assert len(report["runs"][0]["marks"]) >= 25
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
