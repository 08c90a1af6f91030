"""From a language model's answer to an explanation: its words, and its rule where it gave one that parses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from explainers.prompted.forms import Described
from explainers.rules.ast import VERSION, Clause, Rule, RuleError
from explainers.rules.language import format_rule, parse_rule

_FENCE = re.compile(r"\A```\w*\n(?P<inside>.*?)\n?```\Z", re.DOTALL)
_FIRST_LINE = re.compile(rf"\A{VERSION}(?=\s)\s*")


@dataclass(frozen=True)
class RuleOf:
    """What became of the rule of an answer."""

    rule: Rule | None
    error: str | None
    """Why the text was no rule; None where it was one, or there was none."""

    @property
    def text(self) -> str | None:
        """The rule in the rule language."""
        return None if self.rule is None else format_rule(self.rule)

    @property
    def details(self) -> dict[str, Any]:
        """JSON values for the explanation."""
        if self.rule is not None:
            return {"literals": self.rule.n_literals, "members": self.rule.n_members}
        return {} if self.error is None else {"rule_error": self.error}


def read_rule(text: str | None, scale: float) -> RuleOf:
    """The rule of an answer, its strengths turned from levels 0 to 10 into magnitudes.

    The text may stand in a code fence, may leave out the first line, and may write line ends within texts as it was
    shown them (⏎); anything else that is no rule is an error that the explanation keeps.

    Args:
        text: As it was answered; None or white space: no rule was given.
        scale: Magnitude of level 10.
    """
    if text is None or not text.strip():
        return RuleOf(None, None)
    text = text.strip()
    if (fenced := _FENCE.match(text)) is not None:
        text = fenced["inside"].strip()
    text = _FIRST_LINE.sub("", text + "\n").strip()
    text = text.replace("⏎", "\\n").replace("⇥", "\\t")
    try:
        rule = parse_rule(f"{VERSION}\n{text}")
    except RuleError as error:
        return RuleOf(None, str(error))
    if not rule.clauses:
        return RuleOf(None, "it has no clause, and so tells no token from another")
    return RuleOf(scaled(rule, scale / 10), None)


def scaled(rule: Rule, factor: float) -> Rule:
    """The rule with its strengths times a factor, to four digits."""
    clauses = tuple(replace(clause, strength=_times(clause.strength, factor)) for clause in rule.clauses)
    return Rule(clauses, _times(rule.default, factor))


def joined(rules: list[Rule]) -> Rule | None:
    """One rule that is active wherever one of several is: their clauses, strongest first; None beyond the limits."""
    clauses: list[Clause] = sorted((c for rule in rules for c in rule.clauses), key=lambda clause: -clause.strength)
    try:
        return Rule(tuple(dict.fromkeys(clauses)), min(rule.default for rule in rules))
    except RuleError:
        return None


def one_line(text: str | None) -> str | None:
    """A text without line ends and outer spaces, control characters spelled out; None when nothing is left.

    Spaces within a line stay as they are: a token that is quoted may be an indentation.
    """
    if text is None:
        return None
    line = re.sub(r"\s*[\r\n]+\s*", " ", text.strip()).replace("\t", "⇥")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line) or None


def same(one: Described, other: Described) -> bool:
    """Whether two answers say the same."""
    return one_line(one.fires_on) == one_line(other.fires_on) and one.rule == other.rule


def _times(value: float, factor: float) -> float:
    return float(f"{value * factor:.4g}")
