from __future__ import annotations

import re

import pytest

from explainers.pattern.words import MAX_LABEL_WORDS, exceptions, input_half, label
from explainers.rules.english import clause_phrase, listing, show
from explainers.rules.language import parse_rule


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (" the", "“ the”"),
        ("\n        ", "a line break followed by eight spaces"),
        ("\n", "a line break"),
        ("\t\t", "two tabs"),
        ("a\n  b", "“a⏎␣␣b”"),
    ],
)
def test_white_space_is_visible(piece: str, shown: str) -> None:
    assert show(piece) == shown


def test_long_sets_are_cut_but_one_more_is_not_worth_a_count() -> None:
    assert listing(["a", "b"]) == "“a” or “b”"
    assert listing(list("abcdefg")).endswith("or “g”")
    assert listing(list("abcdefghij")).endswith("“f” and 4 more")


@pytest.mark.parametrize(
    ("clause", "phrase"),
    [
        ('token in {" the", " a"} and before[1] in {" of"}', "on “ the” or “ a” after “ of”"),
        ('text ends "ing" and not within[8] word in {"said"}',
         "on text that ends in “ing”, unless “said” is among the last 8 words"),
        ("token is newline and inside ()", "on a line break inside parentheses"),
        ('word in {"def"} and at line start', "in words read so far as “def” in the first word of a line"),
        ("not inside comment", "not inside a comment"),
        ("column = 0", "no tokens after a line break"),
        ("indent = 0 and token is punct", "on punctuation in lines without indentation"),
        ('before[3] in {"x"}', "where the token three back is “x”"),
        ('word[1] in {"old"} and position > 9', "after the word “old” after the first 9 tokens of the context"),
    ],
)  # fmt: skip
def test_clauses_read_as_english(clause: str, phrase: str) -> None:
    assert clause_phrase(parse_rule(f"rule v1\n1 if {clause}\nelse 0").clauses[0]) == phrase


RULE = parse_rule(
    'rule v1\n4 if text ends " king"\n2 if text ends {" queen", " bee"}\n1.5 if token in {"x"}\n'
    '0.5 if token in {"y"}\nelse 0.1'
)


def test_clauses_that_differ_in_members_are_said_together() -> None:
    assert input_half(RULE, [0.5, 0.3, 0.1, 0.0], 1.0) == (
        "Fires on text that ends in “ king”, “ queen” or “ bee” (most strongly “ king”); or on “x”. "
        "Weaker, below what counts as active, on “y”."
    )


def test_the_strongest_is_named_when_it_is_not_the_commonest() -> None:
    assert "Strongest on text that ends in “ king”." in input_half(RULE, [0.1, 0.1, 0.8, 0.0], 1.0)


def test_labels_are_short() -> None:
    assert label(RULE, [0.5, 0.3, 0.1, 0.0], 1.0) == "text ending “ king”, “ queen”, “ bee” and others"
    long = parse_rule(
        'rule v1\n1 if token in {" a b c", " d e f"} and before[1] in {" g h i"} and inside quotes\nelse 0'
    )
    assert len(re.findall(r"“[^”]*”\S*|\S+", label(long, [1.0], 0.5))) <= MAX_LABEL_WORDS
    assert label(parse_rule("rule v1\nelse 0"), [], 0.5) == "no pattern found"


def test_what_a_rule_rules_out_is_told_as_its_exceptions() -> None:
    one = parse_rule(
        'rule v1\n5 if token in {" the"} and not within[8] word in {"said"} and not inside quotes\nelse 0\n'
    )
    assert exceptions(one, 1.0) == "Not with “said” among the last 8 words or inside quotation marks."
    two = parse_rule(
        'rule v1\n5 if token in {" the", " a"} and not before[1] in {" of"}\n4 if token in {" cat"}\n'
        '0.5 if token in {" dog"} and not repeated token\nelse 0\n'
    )
    assert exceptions(two, 1.0) == "Not on “ the” or “ a”, after “ of”."
    assert exceptions(parse_rule('rule v1\n5 if token in {" the"}\nelse 0\n'), 1.0) is None
    assert exceptions(parse_rule("rule v1\n5 if not inside quotes\nelse 0\n"), 1.0) is None, "that is the rule itself"
