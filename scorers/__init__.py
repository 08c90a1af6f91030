"""Protocols that test a description on held-out text, and the statistics of their verdicts.

A scorer takes a predictor (a description made to predict) and a view of one split, and gives scores; `judge` turns a
claim's scores into a verdict. Metrics and scorers are registries: `METRICS`, `SCORERS`.
"""

from __future__ import annotations

from scorers.e_values import e_bh, e_q_values
from scorers.edges import score_edges
from scorers.error_rates import ERROR_METHODS, q_values, with_q_values
from scorers.errors import ScorerError
from scorers.metrics import METRICS, Comparison, Metric, evaluate
from scorers.permutation import density_strata, max_null, pooled_p_values
from scorers.sanity import may_headline
from scorers.sequential import SequentialResult, score_sequential
from scorers.simulation import SCORERS, Scorer, score_simulation
from scorers.types import Null, Score, ScoreSet, protocol_hash
from scorers.verdict import Judgement, Verdict, VerdictRule, judge
from scorers.windowed import score_windows

__all__ = [
    "ERROR_METHODS",
    "METRICS",
    "SCORERS",
    "Comparison",
    "Judgement",
    "Metric",
    "Null",
    "Score",
    "ScoreSet",
    "Scorer",
    "ScorerError",
    "SequentialResult",
    "Verdict",
    "VerdictRule",
    "density_strata",
    "e_bh",
    "e_q_values",
    "evaluate",
    "judge",
    "max_null",
    "may_headline",
    "pooled_p_values",
    "protocol_hash",
    "q_values",
    "score_edges",
    "score_sequential",
    "score_simulation",
    "score_windows",
    "with_q_values",
]
