"""A rule as a predictor of activations."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict

import numpy as np

from explainers.rules.ast import Clause, Rule
from explainers.rules.reading import Reading
from explainers.types import TextSource
from tools.types import BoolArray, FloatArray, IntArray

KEPT_READINGS = 1024
"""Contexts whose readings are kept in memory for each text source."""

_kept: dict[int, OrderedDict[int, Reading]] = {}
_lock = threading.Lock()


def reading_of(texts: TextSource, context: int) -> Reading:
    """The reading of one context, from memory when it was lately used."""
    with _lock:
        kept = _kept.get(id(texts))
        if kept is None:
            kept = _kept[id(texts)] = OrderedDict()
            weakref.finalize(texts, _kept.pop, id(texts), None)
        reading = kept.pop(context, None)
        if reading is not None:
            kept[context] = reading  # now the most lately used
            return reading
    reading = Reading(texts.pieces(context))
    with _lock:
        kept[context] = reading
        if len(kept) > KEPT_READINGS:
            kept.popitem(last=False)
    return reading


def group_by_context(contexts: IntArray) -> list[tuple[int, IntArray]]:
    """(context, its rows) for each distinct context, in order of context."""
    order = np.argsort(contexts, kind="stable").astype(np.int64)
    found, first = np.unique(contexts[order], return_index=True)
    rows = np.split(order, first[1:]) if len(found) else []
    return [(int(context), part) for context, part in zip(found, rows, strict=True)]


def clause_holds(reading: Reading, clause: Clause) -> BoolArray:
    """For each position of the context whether all of the clause's literals hold."""
    held = np.ones(len(reading), bool)
    for literal in clause.literals:
        held &= reading.holds(literal)
        if not held.any():
            break
    return held


def matches(rule: Rule, texts: TextSource, contexts: IntArray, positions: IntArray) -> IntArray:
    """Index of the first clause that matches at each (context, position), or -1; shape [n]."""
    out = np.full(len(contexts), -1, np.int64)
    for context, rows in group_by_context(np.asarray(contexts)):
        reading = reading_of(texts, context)
        first = np.full(len(reading), -1, np.int64)
        for index, clause in enumerate(rule.clauses):
            first[(first < 0) & clause_holds(reading, clause)] = index
        out[rows] = first[np.asarray(positions)[rows]]
    return out


class RulePredictor:
    """Predicts the strength of the first clause that matches."""

    name = "rule"

    def __init__(self, rule: Rule):
        self.rule = rule
        self._strengths = np.array([*(clause.strength for clause in rule.clauses), rule.default], np.float32)

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Predicted magnitude at each (context, position), float32, shape [n]."""
        return self._strengths[matches(self.rule, texts, contexts, positions)]
