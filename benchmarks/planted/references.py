"""Reference explainers that stand beside those under test. Importing this module registers them by name.

- `oracle` is told the truth of a planted subject. What it does not reach, no explainer can: the benchmark is broken.
- `random` states a rule that has nothing to do with the unit but is of its density. What it reaches is chance.
- `token-table` and `pair-table` look up the mean activation of the current token, or of the last two. They explain
  nothing, but they show how much of a unit short context decides.

All speak through the protocol of explainers, so that a campaign runs them like any other.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted.translate import in_words, rule_of
from explainers.registry import register
from explainers.rules.ast import Clause, InSet, Place, Rule
from explainers.rules.english import condition, head_phrase
from explainers.rules.evaluate import group_by_context, reading_of
from explainers.rules.language import format_rule
from explainers.tables import TablePredictor
from explainers.types import Evidence, Explanation, Predictor, Recorder, TextSource
from tools.planted import UnitTruth, load_truth
from tools.types import FloatArray, IntArray

REFERENCES = ("oracle", "random", "token-table", "pair-table")
"""Their names."""
KEPT = 0.1
"""A table keeps the entries that predict at least this share of the threshold; below it, they are all one default."""
DENSE = 0.25
"""A random rule for a unit that is on more often looks at the current token alone."""


class TruthPredictor:
    """Predicts what is true. Its name says so."""

    name = "truth"

    def __init__(self, truth: UnitTruth):
        self.truth = truth

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """The expected magnitude at each (context, position), float32 [n]."""
        out = np.zeros(len(contexts), np.float32)
        for context, rows in group_by_context(np.asarray(contexts)):
            out[rows] = self.truth.expected(reading_of(texts, context).pieces)[np.asarray(positions)[rows]]
        return out


@register("oracle")
class OracleExplainer:
    """Says what is true of a planted unit.

    Args:
        truth: folder of the planted subject, in which its truth lies.
    """

    name = "oracle"

    def __init__(self, *, truth: str):
        self._truth = load_truth(Path(truth))

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The truth; that there is nothing to say, of a tail that was not planted and of units without a rule."""
        key = f"{evidence.unit}{evidence.polarity}"
        truth = self._truth.get(key)
        if truth is None or not truth.has_rule or not truth.cases:
            nothing = {"literals": 0, "members": 0}
            return [Explanation(self.name, "no rule", "It fires without a rule.", None, None, None, nothing)]
        rule = rule_of(truth)
        size = {"literals": rule.n_literals, "members": rule.n_members} if rule is not None else {}
        return [
            Explanation(
                # What it does is left to what is measured, as with all that state no claim of their own.
                self.name, truth.family, in_words(truth), None,
                None if rule is None else format_rule(rule), None, {"truth": key, **size},
            )
        ]  # fmt: skip

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """Predicts by the predicate itself, so that an error in the translation to a rule could not hide."""
        key = explanation.details.get("truth")
        return None if key is None else TruthPredictor(self._truth[key])


@register("random")
class RandomExplainer:
    """States a rule drawn by the unit's seed: tokens at a place, about as frequent as the unit's activity.

    Args:
        places: how far back the rule may look, in tokens; 0 is the current token.
    """

    name = "random"

    def __init__(self, *, places: int = 3):
        if not 0 <= places <= 8:
            raise ValueError("places is from 0 to 8")
        self.places = places

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """One rule: a set of tokens at a place, or (always for rare units) two such sets at once."""
        rng = np.random.default_rng(evidence.seed % 2**63)
        sample = evidence.explore.sample(evidence.unit)
        magnitude = np.maximum(evidence.sign * sample.values.astype(np.float64), 0)
        active = magnitude > evidence.threshold
        density = float(np.average(active, weights=sample.weights))
        frequency = _frequencies(evidence)
        pair = (rng.random() < 0.5 and density < DENSE) or density < np.median(list(frequency.values()))
        # A look back tells the beginning of a context from the rest, as do most units that are nearly always on.
        first = int(rng.integers(0, self.places + 1)) if density < DENSE else 0
        offsets = (first, first + 1) if pair else (first,)
        literals = [
            InSet(Place("token", offset), "in", _draw(rng, frequency, density ** (1 / len(offsets))))
            for offset in offsets
        ]
        strength = float(f"{max(np.median(magnitude[active]) if active.any() else 0.0, 1.01 * evidence.threshold):.4g}")
        rule = Rule((Clause(strength, tuple(literals)),), 0.0)
        text = " ".join([head_phrase(literals[0]), *(condition(literal) for literal in literals[1:])])
        details = {"literals": rule.n_literals, "members": rule.n_members}
        return [
            Explanation(self.name, "a rule by chance", f"Fires {text}.", None, format_rule(rule), None, details)
        ]  # fmt: skip


def _frequencies(evidence: Evidence) -> dict[str, float]:
    """Share of each token among those of the explore panel, position 0 left out."""
    counts: Counter[str] = Counter()
    for context in evidence.explore.panel_contexts.tolist():
        counts.update(evidence.explore.texts.pieces(context)[1:])
    total = max(sum(counts.values()), 1)
    return {piece: count / total for piece, count in sorted(counts.items()) if 0 < len(piece) <= 64}


def _draw(rng: np.random.Generator, frequency: dict[str, float], density: float) -> tuple[str, ...]:
    """Random tokens, at least one, that together come as near to a density as the order of drawing allows."""
    pieces = list(frequency)
    chosen: list[str] = []
    share = 0.0
    for i in rng.permutation(len(pieces)).tolist():
        added = share + frequency[pieces[i]]
        if abs(added - density) < abs(share - density):
            chosen.append(pieces[i])
            share = added
    if not chosen:  # all are more than twice as frequent
        nearest = sorted(pieces, key=lambda piece: frequency[piece])[:5]
        chosen = [nearest[int(rng.integers(len(nearest)))]]
    return tuple(sorted(chosen))


class _TableExplainer:
    """Fills a lookup table on explore and predicts by it."""

    name = ""
    width = 0

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """One description, whose details hold the table: all that tells it from its default."""
        texts, sample = evidence.explore.texts, evidence.explore.sample(evidence.unit)
        table = TablePredictor(self.width, texts, sample, evidence.sign)
        cut = KEPT * evidence.threshold
        kept = {key: mean for key, mean in table.means.items() if mean >= cut}
        entries = table.entries_above(evidence.threshold)
        details: dict[str, Any] = {
            "table": [[*key, round(mean, 6)] for key, mean in sorted(kept.items())],
            "default": round(min(table.default, cut), 6),
            "members": entries,
        }
        unit = "token" if self.width == 1 else f"{self.width} tokens"
        text = f"Fires by a table of the last {unit}: {entries} entries call it active."
        return [Explanation(self.name, f"{entries} table entries", text, None, None, None, details)]

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """The table, as its details hold it."""
        details = explanation.details
        means = {tuple(row[:-1]): float(row[-1]) for row in details["table"]}
        return TablePredictor.of_means(self.width, means, float(details["default"]))


@register("token-table")
class TokenTableExplainer(_TableExplainer):
    """The mean activation of the current token."""

    name, width = "token-table", 1


@register("pair-table")
class PairTableExplainer(_TableExplainer):
    """The mean activation of the last two tokens together."""

    name, width = "pair-table", 2
