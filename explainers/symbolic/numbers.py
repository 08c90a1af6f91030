"""From values at some numbers to a formula, and perhaps a stretch in which another one holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from explainers.symbolic.piecewise import Mask, Stretch, describe_stretch, find_stretch, joined, obeying
from explainers.symbolic.search import Doubles, Fit, Library, Search, refine
from tools.functions import Expr

#: Error, relative to the spread of the values, at which a formula without noise counts as right.
_RIGHT = 0.003
#: Numbers on either side of a change point that are asked for.
_AROUND = 4.0


@dataclass(frozen=True)
class Found:
    """What was found."""

    formula: Expr
    stretch: Stretch | None
    rms: float
    """Error of the formula on the points asked, outside of the stretch."""
    steps: tuple[str, ...]
    """What was tried in turn, with its error."""


def find_formula(
    x: Doubles, y: Doubles, noise: float, library: Library, ask: Callable[[Doubles], tuple[Doubles, Doubles]]
) -> Found:
    """The simplest formula that is right, else the best one.

    In this order: one term; two; one or two with a stretch left out; three; a product; a composition.

    Args:
        x: Numbers asked, ascending.
        y: The unit's values there.
        noise: Standard deviation of the observation noise, from numbers that were asked repeatedly.
        library: Of `x`.
        ask: Asks for more: numbers -> those of them that can be asked, and their values.
    """
    enough = max(1.2 * noise, _RIGHT * float(y.std()), 1e-6 * float(np.abs(y).max()), 1e-9)
    everywhere = np.ones(len(x), dtype=np.bool_)
    search = Search(library, everywhere, y, enough)
    steps: list[str] = []

    def told(name: str, fit: Fit | None) -> None:
        steps.append(f"{name}: {'none' if fit is None else f'error {fit.rms:.3g}'}")

    chain = search.sums(2)
    told("sum of up to 2 terms", chain[-1])
    if chain[-1].rms <= enough:
        return Found(chain[-1].formula, None, chain[-1].rms, tuple(steps))
    pieces: list[tuple[Fit, Mask]] = []
    for terms in (1, 2):
        piece = find_stretch(library, y, enough, terms)
        told(f"sum of up to {terms} with a stretch left out", piece[0] if piece else None)
        if piece is not None:
            pieces.append(piece)
            if piece[0].rms <= enough:
                return _with_stretch(x, y, piece=piece, enough=enough, ask=ask, steps=steps)
    chain = search.sums(3, chain)
    told("sum of up to 3 terms", chain[-1])
    whole = chain[-1:]
    if whole[0].rms > enough:
        whole += search.others()
        told("product or composition", whole[-1])
    best = min(whole, key=lambda fit: fit.rms * (1 + 0.02 * fit.size))
    if best.rms > enough:
        for fit in whole:
            obeys = obeying(fit, x, y, enough)
            again = None if obeys is None else refine(fit.terms, x[obeys], y[obeys])
            if obeys is not None and again is not None:
                pieces.append((again, obeys))
        told("the same with a stretch left out", pieces[-1][0] if pieces else None)
        piece = min(pieces, key=lambda one: one[0].rms, default=None)
        # Leaving points out always helps a little; a stretch must explain most of what is wrong.
        if piece is not None and piece[0].rms < 0.5 * best.rms:
            return _with_stretch(x, y, piece=piece, enough=enough, ask=ask, steps=steps)
    return Found(best.formula, None, best.rms, tuple(steps))


def _with_stretch(
    x: Doubles, y: Doubles, *, piece: tuple[Fit, Mask], enough: float,
    ask: Callable[[Doubles], tuple[Doubles, Doubles]], steps: list[str],
) -> Found:  # fmt: skip
    """Asks for the numbers in and around a stretch, to find its ends and what holds in it."""
    fit, kept = piece
    held = x[~kept]
    more = np.arange(np.floor(held[0] - _AROUND), np.ceil(held[-1] + _AROUND) + 1)
    added, values = ask(more[~np.isin(more, x)])
    order = np.argsort(np.concatenate([x, added]), kind="stable")
    x, y = np.concatenate([x, added])[order], np.concatenate([y, values])[order]
    steps.append(f"asked for {len(added)} numbers around {held[0]:g} to {held[-1]:g}")
    finer = obeying(fit, x, y, enough)
    if finer is None:
        finer = (x < held[0]) | (x > held[-1])
    again = refine(fit.terms, x[finer], y[finer], 1)
    fit = fit if again is None else again
    stretch = describe_stretch(x, y, finer, enough)
    return Found(joined(fit.formula, stretch), stretch, fit.rms, tuple(steps))
