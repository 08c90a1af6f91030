"""Judges of texts that the subject writes while a unit is driven, on units whose effects were planted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explainers.llm.types import AnswerError, LlmError, Request
from scorers.diagnostics import DIAGNOSTICS, Claim
from scorers.diagnostics.output_success import DRAWS
from scorers.types import Score
from tests.scorers.diagnostics.bench import Planted, failing, make_planted
from tools.planted import UnitTruth
from tools.types import UnitId

pytestmark = pytest.mark.slow
Mind = Callable[[str, Request], dict[str, Any] | LlmError]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return make_planted(tmp_path_factory.mktemp("planted"))


def counting(message: str) -> tuple[list[str], str]:
    """Texts of a prompt's sets, and the tokens that the description quotes."""
    sets = re.findall(r"^SET \d+\n((?:- .*\n?)*)", message, re.MULTILINE)
    return sets, message.partition("DESCRIPTION\n")[2].split("\n")[0]


def competent(message: str, request: Request) -> dict[str, Any]:
    """Picks, and rates, by how often the quoted tokens stand in a text."""
    if request.purpose == "rate":
        quoted = re.findall(r"“ ?([^”]+)”", message.partition("DESCRIPTION\n")[2].split("\n")[0])
        texts = re.findall(r"^\[\d+\] (.*)$", message.partition("DESCRIPTION\n")[0], re.MULTILINE)
        held = [sum(text.count(f" {quote}") for quote in quoted) for text in texts]
        return {"ratings": [{"text": i + 1, "rating": 2 * int(n >= 3)} for i, n in enumerate(held)]}
    sets, description = counting(message)
    quoted = re.findall(r"“ ?([^”]+)”", description)
    return {"set": 1 + int(np.argmax([sum(one.count(f" {quote}") for quote in quoted) for one in sets]))}


def effective(planted: Planted, number: int = 0) -> UnitTruth:
    """A unit that raises tokens, of those whose tokens no other one of them raises."""
    indexed = {str(unit) for unit in planted.units}
    found = [t for t in planted.truths.values() if t.unit in indexed and t.effect is not None and t.effect.sign > 0
             and t.polarity == "+"]  # fmt: skip
    tokens: list[set[str]] = []
    kept = []
    for truth in found:
        assert truth.effect is not None
        if all(not tokens_of & set(truth.effect.tokens) for tokens_of in tokens):
            kept.append(truth)
            tokens.append(set(truth.effect.tokens))
    return kept[number]


def claim_of(planted: Planted, truth: UnitTruth, told: UnitTruth | None = None) -> Claim:
    effect = (told or truth).effect
    assert effect is not None
    claim = planted.claim(truth)
    words = "Raises " + ", ".join(f"“{token}”" for token in effect.tokens)
    return replace(claim, explanation=replace(claim.explanation, output_half=words))


def others(planted: Planted, *left_out: UnitTruth) -> tuple[UnitId, ...]:
    out = {truth.unit for truth in left_out}
    units = [effective(planted, number) for number in range(6)]
    return tuple(UnitId.parse(truth.unit) for truth in units if truth.unit not in out)


def scores(planted: Planted, claim: Claim, name: str, mind: Mind = competent, **changes: Any) -> dict[str, Score]:
    found = DIAGNOSTICS.get(name)(claim, planted.setting(mind, **changes))
    return {score.metric: score for score in found}


def test_the_texts_of_a_driven_unit_are_told_by_what_it_is_said_to_raise(planted: Planted) -> None:
    truth, other = effective(planted), effective(planted, 1)
    beside = others(planted, truth, other)
    right = scores(planted, claim_of(planted, truth), "output_success", others=beside)["output_success"]
    wrong = scores(planted, claim_of(planted, truth, other), "output_success", others=beside)["output_success"]
    assert right.value is not None
    assert wrong.value is not None
    assert right.value >= 0.8
    assert (right.p_value or 1) < 0.01
    assert right.null_mean == pytest.approx(1 / 3, abs=0.05)
    assert right.low is not None
    assert right.low > 1 / 3
    assert wrong.value <= 0.75
    assert (wrong.p_value or 0) > 0.001
    assert right.n_examples == DRAWS >= 10
    assert not right.headline


def test_a_judge_that_guesses_is_at_chance_and_none_is_told(planted: Planted) -> None:
    truth = effective(planted)
    claim, beside = claim_of(planted, truth), others(planted, truth)
    blind = scores(planted, claim, "output_success", lambda *_: {"set": 1}, others=beside)["output_success"]
    assert (blind.p_value or 0) > 0.01
    silent = scores(planted, claim, "output_success", failing, others=beside)["output_success"]
    assert silent.value is None
    assert "no answer could be had" in str(silent.reason)
    assert silent.unparseable == 1
    alone = scores(planted, claim, "output_success", others=())["output_success"]
    assert "only 0 other units" in str(alone.reason)
    nobody = scores(planted, claim, "output_success", others=beside, subject=None)["output_success"]
    assert "no subject" in str(nobody.reason)


def test_faithfulness_is_high_for_true_words_and_not_for_those_of_another_unit(planted: Planted) -> None:
    truth, other = effective(planted), effective(planted, 1)
    right = scores(planted, claim_of(planted, truth), "faithfulness")
    wrong = scores(planted, claim_of(planted, truth, other), "faithfulness")
    assert list(right) == ["faithfulness", "faithfulness_over_unmodified"]
    for score in right.values():
        assert score.value is not None
        assert score.low is not None
        assert score.value > 0.5
        assert score.low > 0
        assert (score.p_value or 1) < 0.01
        assert score.n_examples == 12
    for score in wrong.values():
        assert score.value is not None
        assert score.value < 0.3


def test_the_best_multiple_of_noise_has_no_faithfulness_on_average(planted: Planted) -> None:
    """Ratings at random: the published maximum is above 0, that of the other half is not."""
    rng = np.random.default_rng(0)

    def noise(message: str, request: Request) -> dict[str, Any]:
        n = len(re.findall(r"^\[\d+\] ", message.partition("DESCRIPTION\n")[0], re.MULTILINE))
        return {"ratings": [{"text": i + 1, "rating": 2 * int(rng.random() < 0.3)} for i in range(n)]}

    claim = claim_of(planted, effective(planted))
    values = [scores(planted, claim, "faithfulness", noise, seed=seed)["faithfulness"].value for seed in range(6)]
    known = [value for value in values if value is not None]
    assert len(known) == 6
    assert abs(float(np.mean(known))) < 0.3


def test_ratings_that_cannot_be_had_are_counted(planted: Planted) -> None:
    claim = claim_of(planted, effective(planted))
    score = scores(planted, claim, "faithfulness", lambda *_: AnswerError("no"))["faithfulness"]
    assert score.value is None
    assert score.unparseable == 1
    assert "no rating could be had" in str(score.reason)
