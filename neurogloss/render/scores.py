"""Scores of a description: those that its verdict rests on as a table, the others in few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, count, fit, interval, probability, score, share

if TYPE_CHECKING:
    from store.rows import ScoreRow

_METRICS = {"weighted_f1": "F1", "average_precision": "average precision", "pearson": "Pearson"}
#: The rule's metrics that are shown of a rule that stands beside words.
_OF_RULE = {"rule_f1": "F1", "rule_average_precision": "average precision", "rule_pearson": "Pearson",
            "rule_agreement": "agreement with the words"}  # fmt: skip
#: Tests that put random and hard texts to a judge -> the figure by which each is known.
_JUDGED = {"detection": "balanced_accuracy", "fuzzing": "balanced_accuracy", "intruder": "accuracy",
           "embedding": "auroc", "surprisal": "auroc"}  # fmt: skip


def scores_table(scores: Sequence[ScoreRow]) -> RenderableType:
    """All scores of a description, within 80 columns."""
    gone = [
        Text(f"{fit(clean(s.metric), 24)} was withdrawn (score:{s.score_id}): {clean(s.withdrawn)}", "red")
        for s in scores
        if s.withdrawn is not None
    ]
    scores = [s for s in scores if s.withdrawn is None]
    headline = [s for s in scores if s.headline]
    if not headline:
        return Group(Text("not scored", "dim"), *gone)
    table = simple_table(
        ("on sealed text", "left"), ("value [95 %]", "left"), ("null", "right"), ("p", "right"), ("q", "right"),
        ("tokens", "right"), ("docs", "right"),
    )  # fmt: skip
    for s in headline:
        name = fit(_METRICS.get(s.metric, clean(s.metric)), 17) + ("" if s.split == "score" else f" ({s.split})")
        table.add_row(
            name, Text(interval(s.value, s.low, s.high), "bold"), score(s.null_mean), probability(s.p_value),
            probability(s.q_value), count(s.n_examples), count(s.n_documents),
        )  # fmt: skip
    wrong = max(s.unparseable for s in headline)
    note = [Text(f"{share(wrong)} of the predictor's answers could not be parsed and count as wrong.", "yellow")]
    return Group(table, *(note if wrong > 0 else []), *_others(scores), *gone)


def _others(scores: Sequence[ScoreRow]) -> list[RenderableType]:
    """Scores that no verdict rests on: of the same predictions, of the rule alone, of tests that ask otherwise."""
    known = {s.metric: s for s in scores if not s.headline and s.value is not None}
    judged = {name for name in known if name.partition("_")[0] in _JUDGED}
    # Those of output halves and of predictions stand elsewhere; see `neurogloss.render.output`, `predictions`.
    beside = [
        _told(name, row)
        for name, row in known.items()
        if name not in judged and not name.startswith(("rule_", "output_", "prediction_"))
    ]
    rule = [f"{name} {score(known[metric].value)}" for metric, name in _OF_RULE.items() if metric in known]
    tests = [
        _told(test, known[f"{test}_{figure}"], known.get(f"{test}_hard_{figure}"))
        for test, figure in _JUDGED.items()
        if f"{test}_{figure}" in known
    ]
    lines = {"beside them": beside, "the rule alone": rule, "put to a judge": tests}
    return [Text(f"{head}  ", "dim").append(", ".join(told), "not dim") for head, told in lines.items() if told]


def _told(name: str, row: ScoreRow, hard: ScoreRow | None = None) -> str:
    """A score, what it is against hard negatives, and what chance reaches."""
    more = [] if hard is None else [f"hard {score(hard.value)}"]
    more += [] if row.null_mean is None else [f"null {score(row.null_mean)}"]
    return f"{fit(clean(name).replace('_', ' '), 36)} {score(row.value)}" + (f" ({', '.join(more)})" if more else "")
