"""Finds a stretch of the domain where another rule holds than elsewhere, from where a formula's residuals stand out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explainers.symbolic.search import Doubles, Fit, Library, Search, refine
from tools.functions import Expr, evaluate
from tools.functions.expression import const, inside

Mask = npt.NDArray[np.bool_]
#: Stretches that are left out one after another: their width, and the step from one to the next.
_WINDOW, _STRIDE = 32.0, 8.0
_PROMISING = 3
_LEAST_POINTS = 3


@dataclass(frozen=True)
class Stretch:
    """An interval with what holds inside of it."""

    low: float
    """-inf where it begins with the domain."""
    high: float
    inside: Expr
    """A formula, or the mean of the noise."""
    spread: float
    """Root mean square error of `inside` there; large for noise."""
    is_noise: bool


def change_points(x: Doubles, stands_out: Mask) -> tuple[int, int] | None:
    """The run of points (first, one past the last) in which most stand out and outside of which few do.

    It maximises (points in it that stand out) - (points in it that do not): Bentley's maximum-sum segment, which is
    the most likely single changed segment when points stand out with some chance p inside and 1 - p outside.
    """
    best, found = 0, None
    total, begin = 0, 0
    for i, out in enumerate(stands_out.tolist()):
        if total <= 0:
            total, begin = 0, i
        total += 1 if out else -1
        if total > best:
            best, found = total, (begin, i + 1)
    return found if found is not None and best >= _LEAST_POINTS else None


def find_stretch(library: Library, y: Doubles, enough: float, terms: int) -> tuple[Fit, Mask] | None:
    """A stretch that does not obey the formula that holds elsewhere.

    Stretches are left out of the points one after another, and where the rest is told best by a sum of few terms, the
    points that this sum misses are looked at.

    Args:
        library: Of the points, which ascend.
        y: Values there.
        enough: Error at which a fit counts as right.
        terms: Of the sum that holds elsewhere, at most.

    Returns:
        The fit elsewhere, and which points obey it (the others are neighbours); None where there is no such stretch.
    """
    x = library.x
    starts = np.arange(x[0], x[-1] - _WINDOW / 2, _STRIDE)
    masks = [(x < start) | (x >= start + _WINDOW) for start in starts.tolist()]
    rough = [Search(library, mask, y, enough).coarse(terms) for mask in masks]
    best: tuple[Fit, Mask] | None = None
    for i in np.argsort(rough)[:_PROMISING]:
        kept = masks[int(i)]
        fit = Search(library, kept, y, enough).sums(terms)[-1]
        obeys = obeying(fit, x, y, enough)
        if obeys is None:
            continue
        again = refine(fit.terms, x[obeys], y[obeys], 1)
        if again is not None and (best is None or again.rms < best[0].rms):
            best = again, obeys
            if again.rms <= enough:
                break
    return best


def obeying(fit: Fit, x: Doubles, y: Doubles, enough: float) -> Mask | None:
    """Which points obey a formula: all but one stretch of at least `_LEAST_POINTS` and less than half of them."""
    found = change_points(x, np.abs(y - evaluate(fit.formula, x)) > 3.5 * max(fit.rms, enough))
    if found is None or found[1] - found[0] > len(x) // 2:
        return None
    kept = np.ones(len(x), dtype=np.bool_)
    kept[found[0] : found[1]] = False
    return kept


def describe_stretch(x: Doubles, y: Doubles, kept: Mask, enough: float) -> Stretch:
    """What holds where `kept` is false: a constant, a line or a simple formula that is right there, or else noise."""
    held = np.flatnonzero(~kept)
    low = -math.inf if held[0] == 0 else float(x[held[0] - 1] + x[held[0]]) / 2
    high = math.inf if held[-1] == len(x) - 1 else float(x[held[-1]] + x[held[-1] + 1]) / 2
    values = y[held]
    mean = const(float(values.mean()))
    spread = float(values.std())
    if spread <= enough:
        return Stretch(low, high, mean, spread, False)
    # Few points: only one term, which must be nearly right, so that noise is not taken for a formula.
    if len(held) >= 2 * _LEAST_POINTS:
        one = Search(Library(x[held]), np.ones(len(held), dtype=np.bool_), values, enough).sums(1)[-1]
        if one.rms <= max(enough, 0.15 * spread):
            return Stretch(low, high, one.formula, one.rms, False)
    return Stretch(low, high, mean, spread, True)


def joined(outside: Expr, stretch: Stretch | None) -> Expr:
    """One formula for the whole domain."""
    if stretch is None:
        return outside
    return Expr("where", (inside(stretch.low, stretch.high), stretch.inside, outside))
