"""A formula and its domain in words."""

from __future__ import annotations

from explainers.symbolic.inquiry import Inquiry
from tools.functions import Expr
from tools.functions.strings import STRING_FUNCTIONS


def told_condition(condition: Expr) -> str:
    """A truth value of a word in English: ``starts with 'b'``."""
    function = STRING_FUNCTIONS[condition.op]
    return function.words.format(*condition.args)


def label_of(inquiry: Inquiry) -> str:
    """A few words: the formula, cut where it is long."""
    formula = inquiry.formula
    text = str(formula.parts[2] if formula.op == "where" else formula)
    kind = "of a number" if inquiry.domain == "numeric" else "of a word"
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{short} {kind}" + (", with an exception" if formula.op == "where" else "")


def sentence_of(inquiry: Inquiry, *, exceptions: bool = False) -> str:
    """The input half, or (with `exceptions`) what holds on a part of the domain; empty when that is nothing."""
    formula = inquiry.formula
    outside, inside, condition = formula, None, None
    if formula.op == "where":
        condition, inside, outside = formula.parts
    if exceptions:
        if inside is None or condition is None:
            return ""
        return f"{_where(inquiry, condition)} its value is {_value(inquiry, inside)}."
    of = "a number x" if inquiry.domain == "numeric" else "a word"
    text = f"Its value at {of} is {outside}"
    if condition is not None:
        where = _where(inquiry, condition)
        text += f", except {where[0].lower()}{where[1:]}"
    text += "."
    if inquiry.noise:
        text += f" Asked again it varies by {inquiry.noise:.2g}."
    if inquiry.domain == "string" and outside.op in STRING_FUNCTIONS:
        text += (
            f" That is, {'whether the word ' if STRING_FUNCTIONS[outside.op].truth else ''}{told_condition(outside)}."
        )
    return text


def _where(inquiry: Inquiry, condition: Expr) -> str:
    if inquiry.domain == "numeric":
        return f"Where {condition}"
    return f"For a word that {told_condition(condition)}"


def _value(inquiry: Inquiry, inside: Expr) -> str:
    if inquiry.other_is_noise:
        return f"noise around {inside}, with a standard deviation of {inquiry.other_spread:.2g}"
    return f"{inside} instead"
