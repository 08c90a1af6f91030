"""`pattern-llm`: a rule found without a language model, handed to one to keep, mend or reject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from explainers.llm.kit import LlmKit
from explainers.pattern.explainer import PatternExplainer
from explainers.prompted.answers import scaled
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import WINDOW, Excerpt, Panel, distinct, scale_of
from explainers.prompted.forms import Described
from explainers.prompted.quantiles import mixed
from explainers.registry import register
from explainers.rules.ast import InSet, Literal, Rule, members
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import format_rule, parse_rule
from explainers.types import Evidence, Explanation, Recorder

MOST_CLAUSES = 10
"""Of the rule that are shown, the first ones."""
MOST_CHARACTERS = 1200
"""Of the rule that are shown: sets are cut to what there is room for."""
KEEP = "keep"
"""What the answer's rule says when the rule stays as it is."""


@register("pattern-llm")
class PatternLlm(Prompted):
    """Runs `pattern` first and asks a language model to keep, mend or reject its rule, given the texts where it errs.

    Args:
        kit: The model and its prompts.
        top: How many of the strongest texts to show.
        tail: How many texts at quantiles of the tail.
        errors: How many texts of each kind of error to show: active where the rule is not, and the other way round.
        edits: Whether `pattern` tests its rule by editing inputs.
        window: Tokens of each text.
        n: Samples of the answer.
    """

    name = "pattern-llm"
    prompt = "explain-pattern"

    def __init__(
        self, *, kit: LlmKit, top: int = 5, tail: int = 5, errors: int = 5, edits: bool = True, window: int = WINDOW,
        n: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(kit=kit, n=n)
        self.top, self.tail, self.errors = (
            at_least(top, 1, "top"),
            at_least(tail, 0, "tail"),
            at_least(errors, 0, "errors"),
        )
        self.window = at_least(window, 4, "window")
        self.pattern = PatternExplainer(edits=edits)

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """Texts, the rule with its figures, and where it errs."""
        shown = mixed(evidence, self.top, self.tail, self.window)
        if not shown:
            return "no text of the explore split fires it"
        found = self.pattern.explain(evidence, recorder)[0]
        assert found.rule is not None, "`pattern` always has a rule"
        rule = parse_rule(found.rule)
        missed, wrong = self._errors(evidence, rule)
        shown = distinct([*shown, *missed])
        scale = scale_of(shown)
        part = shortened(scaled(rule, 10 / scale))
        figures = found.details.get("explore")
        variables = {
            **evidence_variables(evidence, shown, wrong),
            "rule": format_rule(part) if rule.clauses else "",
            "left_out": rule.n_members - part.n_members,
            "words": found.input_half,
            "precision": None if figures is None else f"{figures['precision']:.0%}",
            "recall": None if figures is None else f"{figures['recall']:.0%}",
        }
        return Gathered(
            variables, scale, tuple(shown),
            {
                "hypothesis": {"label": found.label, "rule": found.rule, "explore": figures},
                "missed": len(missed), "silent": len(wrong),
            },
        )  # fmt: skip

    def described(self, answer: Described, evidence: Evidence, gathered: Gathered) -> Explanation:
        """The words, with the rule as it was when the answer keeps it, by that word or by copying what was shown."""
        hypothesis = gathered.details["hypothesis"]
        said = "" if answer.rule is None else answer.rule.strip()
        keeps = said.strip(".\"'`").casefold() == KEEP or (said and said == gathered.variables["rule"].strip())
        if not keeps:
            return super().described(answer, evidence, gathered)
        explanation = super().described(answer.model_copy(update={"rule": None}), evidence, gathered)
        rule = parse_rule(hypothesis["rule"])
        if not rule.clauses:
            return replace(explanation, details={**explanation.details, "rule_error": "there was no rule to keep"})
        size = {"literals": rule.n_literals, "members": rule.n_members, "kept": True}
        return replace(explanation, rule=hypothesis["rule"], details={**explanation.details, **size})

    def _errors(self, evidence: Evidence, rule: Rule) -> tuple[list[Excerpt], list[Excerpt]]:
        """Texts of the panel on which the unit is active and the rule not, and the other way round, the worst first."""
        if not self.errors:
            return [], []
        panel = Panel(evidence)
        predicted = RulePredictor(rule).predict(panel.texts, panel.contexts, panel.positions)
        active, claimed = panel.magnitudes > evidence.threshold, predicted > evidence.threshold
        missed = np.where(active & ~claimed, panel.magnitudes, 0.0)
        wrong = np.where(claimed & ~active, predicted - panel.magnitudes, 0.0)
        return self._worst(panel, missed), self._worst(panel, wrong)

    def _worst(self, panel: Panel, errors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[Excerpt]:
        """The largest errors, each in another context."""
        found: dict[int, Excerpt] = {}
        for row in np.argsort(-errors, kind="stable")[: 20 * self.errors].tolist():
            if len(found) == self.errors or errors[row] <= 0:
                break
            context = int(panel.contexts[row])
            if context not in found:
                found[context] = panel.excerpt(row, self.window)
        return distinct(found.values())


def shortened(rule: Rule) -> Rule:
    """The rule with the clauses, and in their sets the members, that there is room for; itself a rule."""
    clauses = rule.clauses[:MOST_CLAUSES]
    most = max((members(literal) for clause in clauses for literal in clause.literals), default=0)
    while True:
        cut = (
            replace(clause, literals=tuple(_cut(literal, most) for literal in clause.literals)) for clause in clauses
        )
        part = Rule(tuple(cut), rule.default)
        if len(format_rule(part)) <= MOST_CHARACTERS or most <= 4:
            return part
        most = max(4, most * 3 // 4)


def _cut(literal: Literal, most: int) -> Literal:
    return replace(literal, members=literal.members[:most]) if isinstance(literal, InSet) else literal
