from __future__ import annotations

from typing import Any

import pytest

from explainers.pattern.heads import Role, asserted_role, head_label, head_sentence, in_words, role_rivals, roles
from explainers.rules.language import parse_rule
from tools.edge_kinds import EdgeKind, KindMass, WrittenEdges
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


NOTHING = KindMass(0.0, 0.05, 200)
NAMES = EdgeKind("tokens", queries=(" to",), keys=(" Anna", " Ben"))


def written(
    clear: float = 0.95, tokens: KindMass = NOTHING, offset: KindMass = NOTHING, **kinds: float
) -> WrittenEdges:
    """Where a head attends where it writes: nowhere in particular, but for some kinds."""
    found = {name: KindMass(kinds.get(name, 0.0), 0.05, 200) for name in EDGES}
    return WrittenEdges(UnitId("head:0", 1), 1.0, 200, found, 4, offset, clear, NAMES, tokens)


def firsts(rivals: list[list[Role]]) -> list[str | None]:
    return [None if not one else one[0].name for one in rivals]


def test_each_role_that_texts_leave_is_a_rival_what_they_favour_first() -> None:
    both = profile(induction=0.5, previous=0.4)
    assert firsts(role_rivals(both, None)) == ["induction", "previous"]
    assert firsts(role_rivals(both, written(induction=0.9, duplicate=0.6))) == ["induction", "previous", "duplicate"]


def test_a_head_that_rests_has_rivals_by_where_it_writes() -> None:
    resting = profile(first=0.9, duplicate=0.35)
    [own, other] = role_rivals(resting, written(duplicate=1.0, first=0.0))
    assert ([role.name for role in own], own[0].where_it_writes) == (["first", "duplicate"], False)
    assert other == [Role("duplicate", 1.0, 0.05, where_it_writes=True)]
    strong, back = KindMass(0.95, 0.15, 200), KindMass(0.8, 0.05, 200)
    assert firsts(role_rivals(profile(first=0.9), written(tokens=strong, offset=back))) == ["first", "tokens", "offset"]


@pytest.mark.parametrize(
    "found",
    [written(clear=0.4, tokens=KindMass(0.95, 0.15, 200)), written(tokens=KindMass(0.95, 0.6, 200)),
     written(tokens=KindMass(0.95, 0.15, 8)), written(tokens=KindMass(0.95, 0.15, 200), duplicate=0.9)],
    ids=["diffuse", "as even attention", "rare", "duplicates say more"],
)  # fmt: skip
def test_tokens_are_no_role_where_they_say_little(found: WrittenEdges) -> None:
    assert "tokens" not in firsts(role_rivals(profile(first=0.9), found))


def test_a_role_where_it_writes_is_told_as_such() -> None:
    [own, other] = role_rivals(profile(first=0.9), written(tokens=KindMass(0.95, 0.15, 200)))
    assert head_label(profile(first=0.9), own) == "first-token (resting) head"
    assert head_label(profile(first=0.9), other) == "head from “ to” to “ Anna” and others"
    assert head_sentence(profile(first=0.9), other) == (
        "Where it writes, attends from “ to” to earlier “ Anna” or “ Ben” (95% of its attention where there is one, "
        "against 15% if it were spread evenly). Elsewhere it rests on the first token."
    )


def test_a_role_comes_back_from_a_description() -> None:
    role = Role("tokens", 0.9, 0.1, 0, (" to",), (" Anna", " Ben"), where_it_writes=True)
    assert asserted_role({"roles": [role.to_json()]}) == role
    assert role.kind == NAMES
    assert Role("previous", 0.9, 0.1).to_json() == {"name": "previous", "mass": 0.9, "baseline": 0.1}
    assert asserted_role({}) is None
