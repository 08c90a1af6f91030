"""Texts that look like those a unit fires on, and on which it is silent.

Two kinds need no model of meaning: texts with the very tokens that the unit fires on, and texts on which the units that
fire along with it (of those compared) fire without it. See `explainers.prompted.negatives` for those alike in meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from explainers.prompted.evidence import WINDOW, Excerpt, Panel, distinct
from explainers.types import Evidence
from tools.types import IntArray

QUIET = 0.5
"""A text is silent when no token of it is above this share of the threshold."""
_CONTEXTS = 400
"""Contexts that are searched for tokens, at most."""
_NEIGHBOURS = 4
"""Units whose texts are used: those that fire along most."""


def silent(evidence: Evidence, excerpt: Excerpt) -> bool:
    """Whether the unit is silent throughout a text."""
    return excerpt.strongest <= QUIET * evidence.threshold


def same_tokens(
    evidence: Evidence, panel: Panel, active: Sequence[Excerpt], n: int, window: int = WINDOW
) -> list[Excerpt]:
    """Silent texts with tokens that the unit fires on elsewhere; first those that follow the same token, too.

    Args:
        evidence: Of the unit.
        panel: Of the same evidence.
        active: Texts on which it fires.
        n: How many at most.
        window: Tokens of each.
    """
    before = {e.pieces[e.peak - 1] for e in active if e.peak}
    found: dict[str, list[tuple[bool, float, int]]] = {
        piece: [] for piece, _ in Counter(e.pieces[e.peak] for e in active).most_common()
    }
    rng = np.random.default_rng([evidence.seed, int(evidence.sign > 0)])
    for context in np.sort(rng.permutation(np.unique(panel.contexts))[:_CONTEXTS]).tolist():
        pieces = panel.texts.pieces(context)
        first, last = np.searchsorted(panel.contexts, [context, context + 1])
        for row in range(int(first), int(last)):
            at = int(panel.positions[row])
            if pieces[at] in found and panel.magnitudes[row] <= QUIET * evidence.threshold:
                found[pieces[at]].append((pieces[at - 1] not in before, float(rng.random()), row))
    # Tokens take turns, so that one that is everywhere does not fill the list.
    ranked = [sorted(rows) for rows in found.values()]
    rows = [rows[rank][-1] for rank in range(4 * n) for rows in ranked if rank < len(rows)]
    return _first_silent(evidence, panel, np.array(rows, np.int64), n, window)


def co_active(evidence: Evidence, panel: Panel, n: int, window: int = WINDOW) -> list[Excerpt]:
    """Silent texts on which the units most correlated with this one (of `evidence.others`) are strongest."""
    if not evidence.others or n < 1:
        return []
    others = evidence.explore.panel_matrix(list(evidence.others)).astype(np.float32)
    ours = panel.magnitudes - panel.magnitudes.mean()
    centred = others - others.mean(-1, keepdims=True)
    size = np.linalg.norm(centred, axis=-1) * np.linalg.norm(ours)
    alike = np.divide(centred @ ours, size, out=np.zeros(len(others), np.float32), where=size > 0)
    nearest = [int(i) for i in np.argsort(-np.abs(alike), kind="stable")[:_NEIGHBOURS] if alike[i]]
    found: list[list[Excerpt]] = []
    for i in nearest:
        order = np.argsort(-np.sign(alike[i]) * others[i], kind="stable")[: 50 * n]
        found.append(_first_silent(evidence, panel, order, n, window))
    turns = [excerpt for rank in range(n) for texts in found for excerpt in texts[rank : rank + 1]]
    return distinct(turns)[:n]


def _first_silent(evidence: Evidence, panel: Panel, rows: IntArray, n: int, window: int) -> list[Excerpt]:
    """The first n silent texts around some rows, each of another context."""
    kept: dict[int, Excerpt] = {}
    for row in rows.tolist():
        if len(kept) == n:
            break
        context = int(panel.contexts[row])
        if context in kept or panel.magnitudes[row] > QUIET * evidence.threshold:
            continue
        excerpt = panel.excerpt(row, window)
        if silent(evidence, excerpt):
            kept[context] = excerpt
    return distinct(kept.values())
