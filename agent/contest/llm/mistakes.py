"""Where the rivals' rules go wrong on texts of the explore split, which explainers may see: it costs no words to know.

A model that mends a description by what a few trials said does not know what else the description gets wrong. The
corpus does: it is counted for each rival how much of what is active it catches and how much of what it names is
active, and of the best some texts are shown that it misses or names wrongly. Which rival is asserted is decided on
refine; of that nothing is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.contest.policy import Context
from agent.contest.types import Rival
from explainers.llm.show import show
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from tools.index import SplitView
from tools.types import BoolArray, IntArray

#: Texts of each kind of mistake that are shown.
SHOWN = 8
#: Tokens before the place that are shown.
LEFT = 9


@dataclass(frozen=True)
class Standing:
    """How a rival's rule does on explore, at the corpus's prevalence."""

    rival: Rival
    recall: float
    """Share of what is active that it catches."""
    precision: float
    """Share of what it names that is active; 1 where it names nothing."""
    missed: IntArray
    """Rows of the sample that are active and that it does not name."""
    wrong: IntArray
    """Rows that it names and that are silent."""

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def standing(context: Context, rival: Rival) -> Standing | None:
    """How a rival does on explore; None where it has no rule."""
    if rival.explanation.rule is None:
        return None
    view = _view(context)
    sample = view.sample(context.desk.unit)
    threshold = context.evidence.threshold
    active: BoolArray = np.asarray(context.evidence.sign * sample.values > threshold)
    predictor = RulePredictor(parse_rule(rival.explanation.rule))
    named: BoolArray = np.asarray(predictor.predict(view.texts, sample.contexts, sample.positions) > threshold)
    weights = sample.weights.astype(np.float64)

    def share(part: BoolArray, whole: BoolArray) -> float:
        total = float(weights[whole].sum())
        return float(weights[part & whole].sum()) / total if total else 1.0

    return Standing(
        rival, share(named, active), share(active, named), np.flatnonzero(active & ~named),
        np.flatnonzero(named & ~active),
    )  # fmt: skip


def standings_of(context: Context) -> list[Standing]:
    """How the rivals in the running do that have rules, the best first; of equals the one with most weight."""
    found = [one for rival in context.rivals if (one := standing(context, rival)) is not None]
    return sorted(found, key=lambda one: (-round(one.f1, 2), -one.rival.log_weight))


def fit_line(found: Standing) -> str:
    """'+1 catches 71 % of what is active; 90 % of what it names is active'."""
    return f"{found.rival.key} catches {found.recall:.0%} of what is active; {found.precision:.0%} of what it names is"


def mistake_lines(context: Context, found: Standing) -> list[str]:
    """Texts that it misses and texts that it names wrongly, the token in question within « »."""
    generator = np.random.default_rng(context.seed)
    return [
        f"{told} {line}"
        for told, rows in (("missed, is active:", found.missed), ("named, is silent:", found.wrong))
        for line in _various(context, generator.permutation(rows))
    ]


def _various(context: Context, rows: IntArray) -> list[str]:
    """A few of the texts, as many different tokens among them as there are."""
    view = _view(context)
    sample = view.sample(context.desk.unit)
    first = len(context.desk.bench.subject.prefix)
    by_token: dict[str, list[int]] = {}
    for row in rows[: 40 * SHOWN].tolist():
        piece = view.texts.pieces(int(sample.contexts[row]))[int(sample.positions[row])]
        by_token.setdefault(piece, []).append(row)
    turns = [row for rank in range(SHOWN) for own in by_token.values() for row in own[rank : rank + 1]]
    lines = []
    for row in turns[:SHOWN]:
        context_number, position = int(sample.contexts[row]), int(sample.positions[row])
        start = max(first, position - LEFT)
        pieces = view.texts.pieces(context_number)[start : position + 1]
        lines.append(show(pieces, [position - start]).text)
    return lines


def _view(context: Context) -> SplitView:
    view = context.evidence.explore
    assert isinstance(view, SplitView), "a campaign's evidence is views of its index"
    return view
