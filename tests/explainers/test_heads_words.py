from __future__ import annotations

from typing import Any

import pytest

from explainers.pattern.heads import head_label, head_sentence, in_words, roles
from explainers.rules.language import parse_rule
from tools.heads import EDGES, EdgeProfile
from tools.types import UnitId


def profile(**scores: Any) -> EdgeProfile:
    """A head with uniform attention but for some scores."""
    baseline = dict.fromkeys(EDGES, 0.05)
    values: dict[str, Any] = {
        **baseline, "entropy": 3.0, "positional": 0.1, "best_offset": 1, "destinations": dict.fromkeys(EDGES, 500)
    }  # fmt: skip
    return EdgeProfile(UnitId("head:0", 0), **{**values, "baseline": baseline, **scores})


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ({"previous": 0.9}, "previous-token head"),
        ({"induction": 0.5, "previous": 0.31}, "induction head"),
        ({"first": 0.8}, "first-token (resting) head"),
        ({"delimiter": 0.6}, "delimiter head"),
        ({"positional": 0.8, "best_offset": 3}, "positional head, mostly 3 tokens back"),
        ({}, "head without one attention role"),
    ],
)
def test_a_head_is_named_by_its_strongest_role(scores: dict[str, Any], label: str) -> None:
    assert head_label(profile(**scores)) == label


def test_mass_that_uniform_attention_also_has_is_no_role() -> None:
    baseline = {**dict.fromkeys(EDGES, 0.05), "delimiter": 0.3}
    assert roles(profile(delimiter=0.4, baseline=baseline)) == []


def test_a_role_needs_enough_places_where_it_could_show() -> None:
    rare = {**dict.fromkeys(EDGES, 500), "induction": 3}
    assert roles(profile(induction=0.9, destinations=rare)) == []


def test_the_sentence_gives_the_mass_beside_its_baseline() -> None:
    text = head_sentence(profile(previous=0.9))
    assert "the token before (90% of its attention where there is one, against 5%" in text
    assert "mixed" in head_sentence(profile())


def test_a_rule_of_a_head_is_told_with_what_it_attends_to_and_that_of_others_is_not() -> None:
    rule = parse_rule('rule v1\n3.0 if token in {" dog"}\nelse 0.0')
    assert in_words(rule, [1.0], 1.0, None) == ("“ dog”", "Fires on “ dog”.")
    short, text = in_words(rule, [1.0], 1.0, profile(previous=0.9))
    assert short == "previous-token head"
    assert text.startswith("Attends from each token to the token before")
    assert text.endswith("Writes most on “ dog”.")
