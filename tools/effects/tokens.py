"""Which tokens a unit changes in every text alike."""

from __future__ import annotations

import numpy as np

from tools.effects.measure import Tokens
from tools.types import FloatArray, IntArray

#: Tokens of each sign, at most.
MOST_TOKENS = 10
#: A token counts when its mean change is this share of the strongest one's, and so many standard errors from 0.
SHARE, ERRORS = 0.5, 3.0


def consistent_tokens(change: FloatArray, least: float, most: int = MOST_TOKENS) -> Tokens:
    """The tokens whose logits change most on average, those that rise first, each sign strongest first.

    Args:
        change: Of the logits, on minus off, [n, vocabulary].
        least: A mean change below this is none.
        most: Tokens of each sign.

    Returns:
        None at all where no token changes by `least` or, over several places, by as much as its standard error allows.
    """
    mean = change.mean(0, dtype=np.float64)
    error = change.std(0, ddof=1, dtype=np.float64) / np.sqrt(len(change)) if len(change) > 1 else np.abs(mean)
    bar = np.maximum(max(least, SHARE * float(np.abs(mean).max(initial=0.0))), ERRORS * error)
    ids: list[IntArray] = []
    signs: list[FloatArray] = []
    for sign in (1.0, -1.0):
        size = sign * mean
        found = np.flatnonzero(size >= bar)
        found = found[np.argsort(-size[found], kind="stable")][:most]
        ids.append(found)
        signs.append(np.full(len(found), sign, dtype=np.float32))
    return Tokens(np.concatenate(ids).astype(np.int64), np.concatenate(signs))


def cross_fitted_shift(change: FloatArray, least: float) -> float | None:
    """How far tokens that were chosen on half of the places move on the other half, both ways, as a mean.

    The mean change of tokens at the places on which they were chosen is too large by what chance added; this is not.

    Returns:
        None where a half has no such tokens, or is a single place.
    """
    halves = change[0::2], change[1::2]
    if min(map(len, halves)) < 2:
        return None
    found = []
    for first, second in (halves, halves[::-1]):
        tokens = consistent_tokens(first, least)
        if len(tokens.ids):
            found.append(float(tokens.shift(second).mean()))
    return float(np.mean(found)) if len(found) == 2 else None
