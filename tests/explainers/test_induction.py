from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from explainers.pattern.explainer import PatternExplainer
from explainers.pattern.learn import learn
from explainers.pattern.plan import Part, PlanClause, Rows, size
from explainers.pattern.prune import Pruner, correlation, weighted_f1
from explainers.rules.evaluate import RulePredictor
from explainers.rules.features import FAMILIES, FeatureTable
from explainers.rules.language import format_rule, parse_rule
from explainers.types import Evidence, Explanation, NullRecorder
from tools.types import UnitId

Splits = Callable[..., Any]


def noise(position: int, pieces: list[str]) -> float:
    """Something below the threshold that depends on nothing a rule sees."""
    return 0.2 * (crc32(f"{position} {len(pieces)}".encode()) % 97) / 97


def jumps(text: str, position: int, pieces: list[str]) -> float:
    """On the word 'jumping', which is two tokens, at its last."""
    return 2.0 if text.endswith(" jumping") else noise(position, pieces)


def article_after(text: str, position: int, pieces: list[str]) -> float:
    """On 'the' and 'a' after 'in' and 'of'."""
    return 1.5 if pieces[position] in (" the", " a") and pieces[position - 1] in (" in", " of") else 0.1


def two_strengths(text: str, position: int, pieces: list[str]) -> float:
    """Strong on 'king', weaker on 'queen', below the threshold of 1 on 'bird'."""
    return 3.0 if text.endswith(" king") else 1.5 if text.endswith(" queen") else 0.9 if text.endswith("bird") else 0.0


def evidence_of(views: Any, threshold: float, polarity: str = "+") -> Evidence:
    explore, refine, _, unit = views
    return Evidence(unit, polarity, None, explore, refine, threshold, seed=0)


def held_out_f1(explanation: Explanation, views: Any, threshold: float, sign: float = 1.0) -> float:
    view, unit = views[2], views[3]
    sample = view.sample(unit)
    assert explanation.rule is not None
    called = (
        RulePredictor(parse_rule(explanation.rule)).predict(view.texts, sample.contexts, sample.positions) > threshold
    )
    active = sign * sample.values > threshold
    return float(2 * (called & active).sum() / max(called.sum() + active.sum(), 1))


@pytest.mark.parametrize("activation", [jumps, article_after, two_strengths])
def test_a_planted_function_is_found_and_holds_on_new_documents(splits: Splits, activation: Any) -> None:
    views = splits(activation)
    best = PatternExplainer().explain(evidence_of(views, 1.0), NullRecorder())[0]
    assert held_out_f1(best, views, 1.0) > 0.99
    assert best.details["members"] <= 12


def test_the_words_name_what_was_planted(splits: Splits) -> None:
    best = PatternExplainer().explain(evidence_of(splits(article_after), 1.0), NullRecorder())[0]
    for piece in (" the”", " a”", "f", "n"):
        assert piece in best.input_half
    assert "one" not in best.input_half
    assert best.label


def test_members_of_different_strength_become_clauses_of_their_own(splits: Splits) -> None:
    best = PatternExplainer().explain(evidence_of(splits(two_strengths), 1.0), NullRecorder())[0]
    assert best.rule is not None
    strengths = [clause.strength for clause in parse_rule(best.rule).clauses]
    assert strengths[:2] == pytest.approx([3.0, 1.5], rel=0.05)
    assert strengths[2] == pytest.approx(0.9, rel=0.1)  # below the threshold: said to be weaker, not to fire
    assert "most strongly" in best.input_half
    assert "Weaker" in best.input_half


def test_the_negative_tail_is_explained_on_its_own(splits: Splits) -> None:
    views = splits(lambda text, position, pieces: -jumps(text, position, pieces))
    best = PatternExplainer().explain(evidence_of(views, 1.0, "-"), NullRecorder())[0]
    assert held_out_f1(best, views, 1.0, -1.0) > 0.99


def test_noise_gets_no_rule_that_would_hold(splits: Splits) -> None:
    views = splits(lambda text, position, pieces: float(crc32(text.encode()) % 50 == 0))
    best = PatternExplainer().explain(evidence_of(views, 0.5), NullRecorder())[0]
    assert held_out_f1(best, views, 0.5) < 0.2


def test_a_unit_that_is_never_active_is_said_not_to_be_understood(splits: Splits) -> None:
    best = PatternExplainer().explain(evidence_of(splits(lambda *_: 0.0), 0.5), NullRecorder())[0]
    assert best.label == "no pattern found"
    assert best.rule == "rule v1\nelse 0.0\n"


def test_what_was_explained_before_changes_nothing(splits: Splits) -> None:
    views = splits(article_after)
    other = UnitId("mlp:0", 1)
    views[0].units[other] = views[1].units[other] = jumps
    fresh, used = PatternExplainer(), PatternExplainer()
    used.explain(Evidence(other, "+", None, views[0], views[1], 1.0, seed=0), NullRecorder())
    evidence = evidence_of(views, 1.0)
    assert used.explain(evidence, NullRecorder()) == fresh.explain(evidence, NullRecorder())


def test_short_rules_are_short_and_long_ones_no_worse(splits: Splits) -> None:
    views = splits(two_strengths)
    explainer = PatternExplainer()
    evidence = evidence_of(views, 1.0)
    learned = learn(
        explainer.rows(evidence, views[0]), explainer.rows(evidence, views[1]), explainer.settings, curve=True
    )
    assert learned is not None
    found = [learned.at_most(n) for n in (1, 2, 4, 8)]
    assert all(candidate is not None and candidate.size <= n for candidate, n in zip(found, (1, 2, 4, 8), strict=True))
    objectives = [candidate.objective for candidate in found if candidate is not None]
    assert objectives == sorted(objectives)
    assert learned.at_most(0) is None


def test_pruning_takes_out_what_only_explore_believes(splits: Splits) -> None:
    views = splits(jumps)
    rows = [Rows(FeatureTable(view.texts, view.panel_contexts), view.sample(views[3]), 1.0, 1.0) for view in views[:2]]
    text = next(i for i, family in enumerate(FAMILIES) if family.place is not None and family.place.kind == "text")
    plan = (
        PlanClause((Part(text, (" jumping", " cat")),), True),
        PlanClause((Part(text, (" garden",)),), True),
    )
    pruned = Pruner(rows[0], rows[1], 0.6).prune(plan)
    assert pruned == (PlanClause((Part(text, (" jumping",)),), True),)
    assert size(pruned) == 1


def test_agreement_is_weighted() -> None:
    class Fixed:
        weights = np.array([1.0, 1.0, 8.0])
        threshold = 0.5
        magnitude = np.array([1.0, 0.0, 1.0])
        active = magnitude > 0.5
        active_weight = 9.0

    rows: Any = Fixed()
    predicted = np.array([1.0, 1.0, 0.0], np.float32)
    assert weighted_f1(predicted, rows) == pytest.approx(2 * 1 / (2 + 9))
    assert correlation(np.ones(3, np.float32), rows) == 0.0
    assert correlation(rows.magnitude.astype(np.float32), rows) == pytest.approx(1.0)


def test_a_rule_scores_the_same_through_its_text(splits: Splits) -> None:
    views = splits(two_strengths)
    explainer = PatternExplainer()
    evidence = evidence_of(views, 1.0)
    explore = explainer.rows(evidence, views[0])
    learned = learn(explore, explainer.rows(evidence, views[1]), explainer.settings)
    assert learned is not None
    rule = parse_rule(format_rule(learned.chosen.rule))
    sample = explore.sample
    through_text = RulePredictor(rule).predict(views[0].texts, sample.contexts, sample.positions)
    np.testing.assert_array_equal(through_text, explore.predictions(rule, learned.chosen.plan))
