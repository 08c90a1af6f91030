"""Rules in plain English. White space is made visible; long sets are cut to their first members 'and 23 more'."""

from __future__ import annotations

import re
from collections.abc import Sequence

from explainers.rules.ast import Clause, Compare, InSet, Is, Literal

SHOWN_MEMBERS = 6
_NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CLASS = {
    "upper": ("an all-capitals token", "in capitals"),
    "title": ("a capitalised token", "capitalised"),
    "lower": ("a lower-case token", "in lower case"),
    "mixed": ("an identifier or mixed-case token", "mixed-case"),
    "digit": ("a number", "a number"),
    "punct": ("punctuation", "punctuation"),
    "space": ("white space", "white space"),
    "newline": ("a line break", "a line break"),
    "indentation": ("indentation", "indentation"),
    "word-start": ("the first token of a word", "the start of a word"),
    "word-inside": ("a token that continues a word", "the continuation of a word"),
}
_STATE = {
    "repeated token": "the token has occurred before in the context",
    "repeated word": "the word has occurred before in the context",
    "induction": "the last two tokens have occurred together before",
    "inside quotes": "inside quotation marks",
    "inside ()": "inside parentheses",
    "inside []": "inside square brackets",
    "inside {}": "inside braces",
    "inside comment": "inside a comment",
    "inside string": "inside a string literal",
    "inside docstring": "inside a docstring",
    "at sentence start": "in the first word of a sentence",
    "at line start": "in the first word of a line",
}


def show(text: str) -> str:
    """One member, quoted, with its white space made visible."""
    if text and not text.strip(" \n\t\r"):
        return _white(text)
    inner = text.replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")
    inner = re.sub("  +", lambda run: "␣" * len(run.group()), inner)
    return f"“{inner}”"


def _white(text: str) -> str:
    parts = []
    for run in re.finditer(r"( +|\n+|\t+|\r+)", text):
        kind, count = run.group()[0], len(run.group())
        name = {" ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return"}[kind]
        parts.append(f"a {name}" if count == 1 else f"{_number(count)} {name}s")
    return " followed by ".join(parts)


def _number(n: int) -> str:
    return _NUMBERS[n] if 0 < n < len(_NUMBERS) else str(n)


def listing(members: Sequence[str], shown: int = SHOWN_MEMBERS, joint: str = "or") -> str:
    """“a”, “b” or “c”; when there are many, the first few 'and 23 more'."""
    names = [show(member) for member in members]
    if len(names) > shown + 1:
        return ", ".join(names[:shown]) + f" and {len(names) - shown} more"
    if len(names) == 1:
        return names[0]
    return ", ".join(names[:-1]) + f" {joint} {names[-1]}"


def head_phrase(literal: Literal, shown: int = SHOWN_MEMBERS) -> str:
    """A literal as what the unit fires on: 'on “ the” or “ a”'."""
    if isinstance(literal, InSet):
        names = listing(literal.members, shown)
        if literal.place.kind == "token" and literal.place.offset == 0:
            return {
                "in": f"on {names}", "starts": f"on tokens that start with {names}",
                "ends": f"on tokens that end in {names}",
            }[literal.relation]  # fmt: skip
        if literal.place.kind == "text":
            return f"on text that ends in {names}"
        if literal.place.kind == "word" and literal.place.offset == 0:
            return {
                "in": f"in words read so far as {names}", "starts": f"in words that begin with {names}",
                "ends": f"in words read up to {names}",
            }[literal.relation]  # fmt: skip
    if isinstance(literal, Is) and literal.offset == 0:
        return f"on {_CLASS[literal.token_class][0]}"
    return condition(literal, shown)


def condition(literal: Literal, shown: int = SHOWN_MEMBERS) -> str:
    """A literal as a condition beside another: 'after “ of”', 'unless “said” is among the last 8 words'."""
    if isinstance(literal, InSet):
        return _set_condition(literal, shown)
    if isinstance(literal, Is):
        noun = _CLASS[literal.token_class][1]
        where = "the token" if literal.offset == 0 else _back(literal.offset, "token")
        return f"where {where} is {'not ' if literal.negated else ''}{noun}"
    if isinstance(literal, Compare):
        return _comparison(literal)
    text = _STATE[literal.name]
    located = text.startswith(("inside", "in "))
    if literal.negated:
        return f"not {text}" if located else f"unless {text}"
    return text if located else f"where {text}"


def _back(offset: int, noun: str) -> str:
    return f"the {noun} before" if offset == 1 else f"the {noun} {_number(offset)} back"


def _set_condition(literal: InSet, shown: int) -> str:
    names = listing(literal.members, shown)
    place, negated = literal.place, literal.negated
    verb = {"in": "is", "starts": "starts with", "ends": "ends in"}[literal.relation]
    if place.kind.startswith("near"):
        noun = place.kind.removeprefix("near ")
        among = f"among the last {place.offset} {noun}s"
        return f"unless {names} is {among}" if negated else f"with {names} {among}"
    if place.kind == "text":
        return f"{'unless' if negated else 'where'} the text so far ends in {names}"
    if place.offset == 0:
        noun = "the token" if place.kind == "token" else "the word so far"
        return f"{'unless' if negated else 'where'} {noun} {verb} {names}"
    if literal.relation == "in" and place.offset == 1 and not negated:
        return f"after {'the word ' if place.kind == 'word' else ''}{names}"
    return f"{'unless' if negated else 'where'} {_back(place.offset, place.kind)} {verb} {names}"


def _comparison(literal: Compare) -> str:
    operator, value = literal.operator, literal.value
    if literal.negated:
        plain = _comparison(Compare(literal.quantity, operator, value))
        return f"not {plain}"
    if literal.quantity == "position":
        return {
            "<": f"within the first {value} tokens of the context",
            ">": f"after the first {value} tokens of the context",
            "=": f"at position {value} of the context",
        }[operator]  # fmt: skip
    if literal.quantity == "indent":
        how = {"<": "fewer than ", ">": "more than ", "=": ""}[operator]
        exact = f"in lines indented by {how}{value} characters"
        return exact if value or operator != "=" else "in lines without indentation"
    return {
        "<": f"within {_number(value)} tokens of a line break", ">": f"more than {value} tokens after a line break",
        "=": f"{_number(value) if value else 'no'} tokens after a line break",
    }[operator]  # fmt: skip


def main_literal(clause: Clause) -> int:
    """Index of the literal that is the subject of the clause's sentence; the others are conditions on it."""
    return min(range(len(clause.literals)), key=lambda i: (_rank(clause.literals[i]), i))


def clause_phrase(clause: Clause, shown: int = SHOWN_MEMBERS, note: str = "") -> str:
    """A clause: its telling literal first, `note` after it, then the conditions on it."""
    first = main_literal(clause)
    rest = [literal for i, literal in enumerate(clause.literals) if i != first]
    rest.sort(key=lambda literal: literal.negated)
    phrases = [head_phrase(clause.literals[first], shown)] if not clause.literals[first].negated else []
    phrases += [condition(literal, shown) for literal in (rest if phrases else [clause.literals[first], *rest])]
    text = phrases[0] + note
    for phrase in phrases[1:]:
        opening = phrase.split()[0]
        repeated = opening in ("unless", "where") and opening in text
        text += (", and " if repeated else ", " if opening == "unless" else " ") + phrase
    return text


def _rank(literal: Literal) -> int:
    """How telling a literal is as the subject of a sentence; low is first."""
    if literal.negated:
        return 9
    if isinstance(literal, InSet):
        if literal.place.kind == "token" and literal.place.offset == 0:
            return 0
        if literal.place.kind == "text":
            return 1
        return 2 if literal.place.kind == "word" and literal.place.offset == 0 else 5
    return 3 if isinstance(literal, Is) and literal.offset == 0 else 6
