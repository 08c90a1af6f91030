"""Rules as text: `format_rule` writes 'rule v1', `parse_rule` reads it (with lark; nothing is ever run as code)."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import LarkError, UnexpectedInput, VisitError

from explainers.rules.ast import VERSION, Clause, Compare, InSet, Is, Literal, Place, Rule, RuleError, State

MAX_RULE_TEXT = 400_000
"""Characters of a rule's text; longer input is refused before it is parsed."""


def format_rule(rule: Rule) -> str:
    """The rule's text, one clause a line. ``parse_rule(format_rule(rule)) == rule``."""
    lines = [VERSION]
    lines += [f"{_number(c.strength)} if {' and '.join(map(format_literal, c.literals))}" for c in rule.clauses]
    lines.append(f"else {_number(rule.default)}")
    return "\n".join(lines) + "\n"


def format_literal(literal: Literal) -> str:
    """One literal's text, e.g. ``before[1] in {" of"}``."""
    negation = "not " if literal.negated else ""
    if isinstance(literal, InSet):
        quoted = [json.dumps(member) for member in literal.members]
        single = len(quoted) == 1 and literal.relation != "in"
        return f"{negation}{_place(literal.place)} {literal.relation} " + (
            quoted[0] if single else "{" + ", ".join(quoted) + "}"
        )
    if isinstance(literal, Is):
        return f"{negation}{_place(Place('token', literal.offset))} is {literal.token_class}"
    if isinstance(literal, Compare):
        return f"{negation}{literal.quantity} {literal.operator} {literal.value}"
    return f"{negation}{literal.name}"


def parse_rule(text: str) -> Rule:
    """Reads a rule.

    Raises:
        RuleError: naming line and column, when the text is not a rule of this version or breaks one of its limits.
    """
    if len(text) > MAX_RULE_TEXT:
        raise RuleError(f"a rule's text has at most {MAX_RULE_TEXT} characters, not {len(text)}")
    text = text.strip() + "\n"
    if not text.startswith(VERSION + "\n") and not text.startswith(VERSION + "\r\n"):
        raise RuleError(f"line 1, column 1: a rule begins with the line '{VERSION}'")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        shown = text.splitlines()[error.line - 1][max(error.column - 1, 0) :][:30] if error.line > 0 else "the end"
        raise RuleError(f"line {error.line}, column {error.column}: not expected here: {shown!r}") from error
    except LarkError as error:
        raise RuleError(str(error)) from error
    try:
        rule: Rule = _Builder().transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, RuleError):
            raise error.orig_exc from error
        raise
    return rule


def _number(value: float) -> str:
    return repr(float(value))


def _place(place: Place) -> str:
    if place.kind == "token":
        return f"before[{place.offset}]" if place.offset else "token"
    if place.kind == "word":
        return f"word[{place.offset}]" if place.offset else "word"
    if place.kind == "text":
        return "text"
    return f"within[{place.offset}] {place.kind.removeprefix('near ')}"


@functools.cache
def _parser() -> Lark:
    grammar = files("explainers.rules").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="rule", parser="lalr", lexer="contextual")


class _Builder(Transformer[Token, Rule]):
    """Turns the parse tree into the values of `explainers.rules.ast`; their limits raise `RuleError`."""

    def rule(self, children: list[Any]) -> Rule:
        clauses = tuple(child for child in children if isinstance(child, Clause))
        return Rule(clauses, float(children[-1]))

    def clause(self, children: list[Any]) -> Clause:
        try:
            return Clause(float(children[0]), tuple(children[1:]))
        except RuleError as error:
            raise _at(children[0], error) from error

    def negated(self, children: list[Any]) -> Literal:
        body: Literal = children[1]
        if isinstance(body, InSet):
            return InSet(body.place, body.relation, body.members, True)
        if isinstance(body, Is):
            return Is(body.offset, body.token_class, True)
        if isinstance(body, Compare):
            return Compare(body.quantity, body.operator, body.value, True)
        return State(body.name, True)

    def in_set(self, children: list[Any]) -> InSet:
        place, relation, members = children
        try:
            return InSet(place, str(relation), members)
        except RuleError as error:
            raise _at(relation, error) from error

    def is_class(self, children: list[Any]) -> Is:
        return Is(children[0].offset, str(children[1]))

    def compare(self, children: list[Any]) -> Compare:
        quantity, operator, value = children
        try:
            return Compare(str(quantity), str(operator), int(value))
        except (RuleError, ValueError) as error:
            raise _at(value, error) from error

    def state(self, children: list[Any]) -> State:
        return State(str(children[0]))

    def place(self, children: list[Any]) -> Place:
        place: Place = children[0]
        return place

    def current(self, children: list[Any]) -> Place:
        return Place("token")

    def before(self, children: list[Any]) -> Place:
        return self._placed("token", children)

    def word(self, children: list[Any]) -> Place:
        return self._placed("word", children) if children else Place("word")

    def text(self, children: list[Any]) -> Place:
        return Place("text")

    def near_token(self, children: list[Any]) -> Place:
        return self._placed("near token", children)

    def near_word(self, children: list[Any]) -> Place:
        return self._placed("near word", children)

    def distance(self, children: list[Any]) -> Token:
        token: Token = children[0]
        return token

    def set_of(self, children: list[Any]) -> tuple[str, ...]:
        return tuple(_unquote(child) for child in children)

    def _placed(self, kind: str, children: list[Any]) -> Place:
        number = children[0]
        try:
            return Place(kind, int(number))
        except (RuleError, ValueError) as error:
            raise _at(number, error) from error


def _unquote(token: Token) -> str:
    try:
        text = json.loads(str(token))
    except json.JSONDecodeError as error:
        raise _at(token, RuleError(f"{str(token)!r} is not a text in JSON's notation")) from error
    return str(text)


def _at(token: Token, error: Exception) -> RuleError:
    return RuleError(f"line {token.line}, column {token.column}: {error}")
