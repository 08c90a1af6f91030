"""Does a description say what the unit does? Its rule read as a causal claim, and tested on sealed text.

Texts in which the rule holds are given twins, with one token replaced, in which it does not; the unit's content is
carried from one to the other, and what follows is compared (`scorers.interchange`). It costs some thousand texts for
each description, so it is asked for (`interchange: true`), and no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.bench import Bench
from agent.triage import Tail
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from explainers.types import Explanation
from scorers.interchange import Interchange, interchange, interchange_scores, replaced_pairs
from scorers.types import ScoreSet
from tools.attribution.impute import PairImputer
from tools.effects import not_measurable
from tools.errors import NeuroglossError
from tools.index import SplitView
from tools.subject import Subject
from tools.types import FloatArray, UnitId
from tools.unhooked import unhooked

#: Texts, each of another document, that are given a twin; and tokens of the longest.
TEXTS, LONGEST = 16, 96
#: Contexts of the explore split by whose pairs of tokens replacements are drawn.
REFERENCE = 400
#: Other units that are interchanged beside it.
DRAWS = 32


class _OneText:
    """A text as a rule reads it; it is its only context."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
        """Text of its tokens."""
        return self._pieces[start:stop]


def interchange_test(
    bench: Bench, unit: UnitId, tail: Tail, explanation: Explanation, view: SplitView, *, seed: int
) -> ScoreSet:
    """`interchange_shift` and `interchange_switch` of a description's rule; without a value, and with the reason, where
    there is no rule or nothing to exchange.

    Args:
        bench: Of the investigation.
        unit: The unit that the description is tested on.
        tail: Its tail.
        explanation: The description.
        view: The sealed split.
        seed: Of texts, replacements and other units.
    """
    reason = bench.no_output_test or not_measurable(bench.subject, unit)
    if reason is None and explanation.rule is None:
        reason = "it has no rule that says in which texts it holds"
    before = bench.passes.tokens
    found: Interchange | None = None
    if reason is None:
        assert explanation.rule is not None
        try:
            with unhooked(bench.subject):
                found = _measured(bench, unit, RulePredictor(parse_rule(explanation.rule)), tail, view, seed=seed)
        except NeuroglossError as error:
            reason = str(error).rstrip(".")
    if found is None:
        found = Interchange.nothing((unit,), reason or "")
    cost = {"subject_tokens": float(bench.passes.tokens - before)}
    return interchange_scores(found, split=str(view.split), predictor="rule", cost=cost)


def _measured(
    bench: Bench, unit: UnitId, rule: RulePredictor, tail: Tail, view: SplitView, *, seed: int
) -> Interchange:
    subject = bench.subject

    def holds(ids: Sequence[int], position: int) -> bool:
        return bool(_predicted(rule, subject, ids)[position] > tail.threshold)

    places = _places(rule, view, tail.threshold, np.random.default_rng(seed))
    pairs = replaced_pairs(subject, places, holds, _imputer(bench), seed=seed)
    return interchange(subject, [unit], pairs, draws=DRAWS, resamples=bench.spec.resamples, seed=seed)


def _predicted(rule: RulePredictor, subject: Subject, ids: Sequence[int]) -> FloatArray:
    text = _OneText(subject.pieces(list(ids)))
    return rule.predict(text, np.zeros(len(ids), dtype=np.int64), np.arange(len(ids)))


def _places(
    rule: RulePredictor, view: SplitView, threshold: float, rng: np.random.Generator
) -> list[tuple[list[int], int]]:
    """Texts of the split with a position in each at which the rule says that the unit is on."""
    found: dict[int, tuple[list[int], int]] = {}
    for context in rng.permutation(view.texts.contexts).tolist():
        document = view.texts.document(context)
        if document in found:
            continue
        positions = np.arange(1, min(view.texts.length(context), LONGEST))
        predicted = rule.predict(view.texts, np.full(len(positions), context), positions)
        on = positions[predicted > threshold]
        if len(on):
            found[document] = (view.texts.ids(context).tolist(), int(rng.choice(on)))
        if len(found) == TEXTS:
            break
    return list(found.values())


def _imputer(bench: Bench) -> PairImputer:
    """Replacements by pairs of tokens in open text, for all units."""

    def made() -> PairImputer:
        contexts = bench.explore.texts.contexts
        chosen = contexts[np.unique(np.linspace(0, len(contexts) - 1, REFERENCE).round().astype(int))]
        return PairImputer(bench.subject, [bench.explore.texts.ids(context).tolist() for context in chosen.tolist()])

    return bench.shared("imputer", made)
