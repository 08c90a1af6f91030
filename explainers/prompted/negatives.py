"""Hard negatives by likeness: silent texts that are most like the ones in which a unit is active.

What a text means decides most of what it is mistaken for, so a description that only names the topic is found out by
these and not by random texts (sheet B23: with near negatives, published detection scores fall from 0.8 to chance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from explainers.llm.kit import Likeness, LlmKit
from explainers.prompted.evidence import WINDOW, Excerpt, Panel, distinct, strongest
from explainers.types import Evidence
from tools.types import FloatArray

MODELS: Final = 16
"""Active texts that silent ones are compared with."""
NEAREST: Final = 3
"""Of these, the ones that a silent text is as like as it is counted."""
QUIET: Final = 0.5
"""A text is silent when no token of it is above this share of the threshold."""

Rank = Callable[[Sequence[str], Sequence[str]], FloatArray]


def by_likeness(likeness: Likeness) -> Rank:
    """A ranking of texts by how like active ones they are; `scorers.windows.draw_windows` takes it.

    A text counts by its mean likeness to the `NEAREST` active texts that it is most like, so that a unit of several
    concepts has hard negatives for each. BM25 grows with what a query holds; so each active text's scores are taken
    relative to its largest.

    Returns:
        (texts [n], active texts) → likeness [n]; zeros where there is no active text.
    """

    def rank(texts: Sequence[str], active: Sequence[str]) -> FloatArray:
        if not texts or not active:
            return np.zeros(len(texts), dtype=np.float32)
        scores = likeness.to(active, texts)
        if likeness.lexical:
            largest = scores.max(axis=1, keepdims=True)
            scores = np.divide(scores, largest, out=np.zeros_like(scores), where=largest > 0)
        nearest = min(NEAREST, len(active))
        means: FloatArray = np.sort(scores, axis=0)[-nearest:].mean(axis=0, dtype=np.float32)
        return means

    return rank


def hard_texts(evidence: Evidence, kit: LlmKit, n: int, window: int = WINDOW) -> list[Excerpt]:
    """Silent texts of the explore panel that are most like the unit's strongest ones, most alike first.

    Args:
        evidence: of the unit; only its explore split is looked at.
        kit: has the likeness.
        n: how many at most, each of another context.
        window: tokens of each.
    """
    active = strongest(evidence, MODELS, window)
    panel = Panel(evidence)
    if n < 1 or not active or not len(panel.contexts):
        return []
    silent = [e for e in _cut(panel, window) if e.strongest <= QUIET * evidence.threshold]
    scores = by_likeness(kit.likeness)(["".join(e.pieces) for e in silent], ["".join(e.pieces) for e in active])
    seen = {e.pieces for e in active}
    kept: dict[int, Excerpt] = {}
    for i in np.argsort(-scores, kind="stable").tolist():
        if len(kept) == n:
            break
        if silent[i].context not in kept and silent[i].pieces not in seen:
            kept[silent[i].context] = silent[i]
            seen.add(silent[i].pieces)
    return distinct(kept.values())


def _cut(panel: Panel, window: int) -> list[Excerpt]:
    """The panel's contexts in windows beside each other, each shown for its middle; short ends are left out."""
    contexts, first = np.unique(panel.contexts, return_index=True)
    found = []
    for context, start, stop in zip(
        contexts.tolist(), first.tolist(), [*first.tolist()[1:], len(panel.contexts)], strict=True
    ):
        pieces = panel.texts.pieces(context)
        for row in range(start, stop, window):
            rows = slice(row, min(row + window, stop))
            if rows.stop - row < min(window // 2, stop - start):
                continue
            at = int(panel.positions[row])
            magnitudes = tuple(panel.magnitudes[rows].tolist())
            found.append(
                Excerpt(context, at, len(magnitudes) // 2, tuple(pieces[at : at + len(magnitudes)]), magnitudes)
            )
    return found
