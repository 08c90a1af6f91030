from __future__ import annotations

import pytest

from explainers.prompted.answers import joined, one_line, read_rule, scaled
from explainers.rules.language import format_rule, parse_rule

RULE = 'rule v1\n10 if token in {" the"} and before[1] in {" of"}\n2.5 if token is newline\nelse 0'


@pytest.mark.parametrize(
    "text",
    [RULE, f"```\n{RULE}\n```", f"```text\n{RULE}```", RULE.removeprefix("rule v1\n"), f"  {RULE}\n\n"],
    ids=["plain", "fenced", "fenced with a name", "without its first line", "with white space"],
)
def test_a_rule_is_read_with_levels_turned_into_magnitudes(text: str) -> None:
    read = read_rule(text, 3.0)
    assert read.error is None
    assert read.rule is not None
    assert [clause.strength for clause in read.rule.clauses] == [3.0, 0.75]
    assert read.text == format_rule(parse_rule(RULE.replace("10 if", "3 if").replace("2.5", "0.75")))
    assert read.details == {"literals": 3, "members": 3}


def test_line_ends_in_a_rule_may_be_written_as_they_were_shown() -> None:
    read = read_rule('rule v1\n8 if token in {"⏎⇥"}\nelse 0', 10.0)
    assert read.rule == parse_rule('rule v1\n8 if token in {"\\n\\t"}\nelse 0')


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("fires on the", "line 2, column 1"),
        ("rule v1\n8 if token in {the}\nelse 0", "line 2"),
        ('rule v1\n8 if token in {" a", " a"}\nelse 0', "a set names a member twice"),
        ("rule v1\n-1 if token is upper\nelse 0", "line 2"),
        ("rule v1\nelse 3", "no clause"),
        ("rule v1\n8 if token is upper", "line 2"),
    ],
)
def test_what_is_no_rule_is_an_error_of_the_rule_alone(text: str, error: str) -> None:
    read = read_rule(text, 1.0)
    assert read.rule is None
    assert read.text is None
    assert error in str(read.error)
    assert read.details == {"rule_error": read.error}


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_no_rule_is_no_error(text: str | None) -> None:
    assert read_rule(text, 1.0).details == {}


def test_joined_rules_are_active_where_one_of_them_is() -> None:
    one = parse_rule('rule v1\n2 if token in {" a"}\nelse 0.5')
    other = parse_rule('rule v1\n5 if token in {" b"}\n1 if token in {" a"}\nelse 0.25')
    assert joined([one, other]) == parse_rule(
        'rule v1\n5 if token in {" b"}\n2 if token in {" a"}\n1 if token in {" a"}\nelse 0.25'
    )
    long = parse_rule("rule v1\n" + "\n".join(f"1 if position = {i}" for i in range(200)) + "\nelse 0")
    other = parse_rule("rule v1\n" + "\n".join(f"1 if column = {i}" for i in range(200)) + "\nelse 0")
    assert joined([long, other]) is None


def test_strengths_keep_four_digits() -> None:
    assert scaled(parse_rule("rule v1\n1 if token is upper\nelse 0"), 1 / 3).clauses[0].strength == 0.3333


def test_words_come_on_one_line_without_control_characters() -> None:
    assert one_line(" Fires\n on \x1b[31m it\u2028 ") == "Fires on \\x1b[31m it"
    assert one_line(" \n") is None
    assert one_line(None) is None
