from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainers.rules.ast import (
    MAX_CLAUSES,
    MAX_LITERALS,
    OPERATORS,
    QUANTITIES,
    STATES,
    TOKEN_CLASSES,
    Clause,
    Compare,
    InSet,
    Is,
    Literal,
    Place,
    Rule,
    RuleError,
    State,
)
from explainers.rules.language import MAX_RULE_TEXT, format_rule, parse_rule

TEXT = """rule v1
0.92 if token in {" the", " a"} and before[1] in {" of"}
0.4 if not word ends "ing" and inside () and position < 5
0.2 if within[3] word in {"in", "if"} and before[2] is word-start and at line start and text ends "\\n\\u00e9"
else 0.01
"""

members = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True).map(tuple)
distance = st.integers(0, 9)
in_sets = st.one_of(
    st.builds(InSet, st.builds(Place, st.sampled_from(["token", "word"]), distance),
              st.sampled_from(["in", "starts", "ends"]), members, st.booleans()),
    st.builds(InSet, st.just(Place("text")), st.just("ends"), members, st.booleans()),
    st.builds(InSet, st.builds(Place, st.sampled_from(["near token", "near word"]), st.integers(1, 9)),
              st.just("in"), members, st.booleans()),
)  # fmt: skip
literals = st.one_of(
    in_sets,
    st.builds(Is, distance, st.sampled_from(TOKEN_CLASSES), st.booleans()),
    st.builds(
        Compare, st.sampled_from(QUANTITIES), st.sampled_from(OPERATORS), st.integers(0, 1_000_000), st.booleans()
    ),
    st.builds(State, st.sampled_from(STATES), st.booleans()),
)
strengths = st.floats(0, 1e9, allow_nan=False)
clauses = st.builds(Clause, strengths, st.lists(literals, min_size=1, max_size=4).map(tuple))
rules = st.builds(Rule, st.lists(clauses, max_size=4).map(tuple), strengths)


@settings(max_examples=150, deadline=None)
@given(rules)
def test_parsing_what_was_written_gives_the_same_rule(rule: Rule) -> None:
    assert parse_rule(format_rule(rule)) == rule


def test_written_rules_read_like_the_documentation() -> None:
    rule = parse_rule(TEXT)
    assert format_rule(rule) == TEXT
    assert (rule.n_literals, rule.n_members) == (9, 11)
    assert parse_rule(TEXT.replace("\n", "\r\n")) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1"),
        ("rule v2\nelse 1", "begins with the line 'rule v1'"),
        ("rule v1\n0.3 if tok in {}\nelse 0", "line 2, column 8"),
        ('rule v1\n0.3 if token in {"a", "a"}\nelse 0', "line 2, column 14: a set names a member twice"),
        ('rule v1\n0.3 if before[999] in {"a"}\nelse 0', "line 2, column 15: a distance is from 0 to 64"),
        ('rule v1\n0.3 if token in {"' + "a" * 65 + '"}\nelse 0', "line 2, column 14: a member has 1 to 64"),
        ('rule v1\n0.3 if text in {"a"}\nelse 0', "line 2, column 13: 'text' goes with ends"),
        ('rule v1\n0.3 if token in {"\\q"}\nelse 0', "line 2, column 18"),
        ("rule v1\n1e999 if repeated word\nelse 0", "line 2, column 1: a strength is a finite number"),
        ("rule v1\n-1 if repeated word\nelse 0", "line 2, column 1"),
        ("rule v1\n1 if repeated word", "not expected here"),
        ("rule v1\nelse 1\nelse 2", "line 3, column 1"),
        ("rule v1\nelse __import__('os')", "line 2, column 6"),
        ("rule v1\n1 if position < 99999999999999999999\nelse 0", "line 2, column 17: a number is from 0"),
        ("rule v1\n1 if position < " + "9" * 5000 + "\nelse 0", "line 2, column 17"),
    ],
)
def test_a_malformed_rule_is_told_where_it_is_wrong(text: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule(text)
    assert message in str(caught.value)


def test_sizes_are_limited() -> None:
    state: Literal = State("induction")
    with pytest.raises(RuleError, match="literals"):
        Clause(1.0, (state,) * (MAX_LITERALS + 1))
    with pytest.raises(RuleError, match="clauses"):
        Rule((Clause(1.0, (state,)),) * (MAX_CLAUSES + 1), 0.0)
    with pytest.raises(RuleError, match="characters"):
        parse_rule("rule v1\n" + " " * MAX_RULE_TEXT)
