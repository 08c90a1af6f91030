"""Descriptions of the input by what a unit raises: right where it fires on its tokens, before them or near them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from explainers.output.rivals import output_rivals, raised_by, tokens_before
from explainers.rules.language import parse_rule
from explainers.types import Evidence, Explanation
from tools.lenses import Promotion
from tools.types import UnitId

RAISES = (" on", " in")


def evidence(splits: Callable[..., Any], activation: Callable[..., float], **changes: Any) -> Evidence:
    explore, refine, _, unit = splits(activation)
    promotion = Promotion(tuple((piece, 1.0) for piece in RAISES), ((" of", -1.0),))
    settings = {"unit": unit, "polarity": "+", "promotion": promotion, **changes}
    view = settings["unit"]
    for one in (explore, refine):
        one.units[view] = activation
    return Evidence(subject=None, explore=explore, refine=refine, threshold=1.0, seed=0, **settings)


def of_sense(found: list[Explanation], sense: str) -> Explanation | None:
    return next((one for one in found if one.details["sense"] == sense), None)


def test_a_unit_that_fires_on_what_it_raises_is_described_by_it(splits: Any) -> None:
    found = output_rivals(evidence(splits, lambda text, at, pieces: 3.0 * (pieces[at] in RAISES)))
    on = of_sense(found, "on")
    assert on is not None
    assert on.explainer == "output"
    assert on.details["explore"] == {"precision": 1.0, "recall": 1.0}
    assert on.rule == 'rule v1\n3.0 if token in {" on", " in"}\nelse 0.0\n'
    assert on.details["basis"] == "weights"
    assert "“ on”" in on.input_half


def test_a_unit_that_fires_before_what_it_raises_is_described_by_what_stands_there(splits: Any) -> None:
    def fires(text: str, at: int, pieces: list[str]) -> float:
        return 2.0 * (at + 1 < len(pieces) and pieces[at + 1] in RAISES)

    before = of_sense(output_rivals(evidence(splits, fires)), "before")
    assert before is not None
    # Which of six places follows a verb is a matter of chance in these texts.
    assert before.details["explore"]["recall"] > 0.8
    assert before.details["explore"]["precision"] == pytest.approx(1 / 3, abs=0.1)


def test_tokens_before_are_read_off_the_texts_alone(splits: Any) -> None:
    given = evidence(splits, lambda text, at, pieces: 0.0)
    assert tokens_before(given, ["se.", "se,", "se!"]) == [" hou"]
    assert tokens_before(given, ["nowhere"]) == []


def test_the_negative_tail_raises_what_the_weights_lower(splits: Any) -> None:
    given = evidence(splits, lambda text, at, pieces: -3.0 * (pieces[at] == " of"), polarity="-")
    assert raised_by(given) == ([" of"], "weights")
    on = of_sense(output_rivals(given), "on")
    assert on is not None
    assert parse_rule(str(on.rule)).clauses[0].strength == 3.0


def test_what_fits_nothing_is_no_rival(splits: Any) -> None:
    assert output_rivals(evidence(splits, lambda text, at, pieces: 3.0 * (pieces[at] == " king"))) == []


def test_heads_and_units_without_a_write_have_none(splits: Any) -> None:
    def fires(text: str, at: int, pieces: list[str]) -> float:
        return 3.0 * (pieces[at] in RAISES)

    assert output_rivals(evidence(splits, fires, unit=UnitId.parse("head:0:1"))) == []
    assert output_rivals(evidence(splits, fires, promotion=None)) == []
