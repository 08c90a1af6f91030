"""From values at some words to a formula of their features, and perhaps a kind of words for which another one holds."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explainers.symbolic.search import Doubles, combined, solve
from tools.functions import Expr, evaluate
from tools.functions.expression import const
from tools.functions.strings import STRING_FUNCTIONS

_RIGHT = 0.003
_LEAST_WORDS = 4


@dataclass(frozen=True)
class WordFit:
    """A formula and the error it leaves."""

    formula: Expr
    rms: float
    terms: int


@dataclass(frozen=True)
class OtherWords:
    """A kind of words for which another rule holds."""

    where: Expr
    inside: Expr
    spread: float
    is_noise: bool


class Features:
    """Columns of all features of some words, computed once for all units that are asked about them."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        singles: list[tuple[Expr, Doubles]] = []
        for name, function in STRING_FUNCTIONS.items():
            for letters in [(c,) for c in string.ascii_lowercase] if function.letters else [()]:
                formula = Expr(name, letters)
                column = evaluate(formula, self.words)
                if column.min() < column.max():
                    singles.append((formula, column))
        self.truths = [one for one in singles if STRING_FUNCTIONS[one[0].op].truth]
        pairs = []
        for (first, a), (second, b) in itertools.combinations(self.truths, 2):
            both, either = a * b, np.maximum(a, b)
            if both.sum() >= 2 and both.sum() < min(a.sum(), b.sum()):
                pairs.append((first * second, both))
            if max(a.sum(), b.sum()) < either.sum() < len(a):
                pairs.append((Expr("max", (first, second)), either))
        self.formulas = [formula for formula, _ in (*singles, *pairs)]
        self.columns = np.stack([column for _, column in (*singles, *pairs)])
        self.n_singles = len(singles)

    def best(self, y: Doubles, kept: npt.NDArray[np.bool_], enough: float, terms: int = 2) -> WordFit:
        """The simplest formula that is right: a constant, a feature, two truth values joined, a sum; else the best."""
        values = y[kept]
        plain = WordFit(const(float(values.mean())), float(values.std()), 0)
        if plain.rms <= enough:
            return plain
        single = self._grow((), values, kept, self.n_singles)
        if single.rms <= enough:
            return single
        found = [plain, single, self._grow((), values, kept, None)]
        if found[-1].rms > enough and terms > 1:
            first = self._pick((), values, kept, None)
            for base in {self._pick((), values, kept, self.n_singles), first}:
                found.append(self._grow((base,), values, kept, self.n_singles))
        right = [fit for fit in found if fit.rms <= enough]
        return right[0] if right else min(found, key=lambda fit: fit.rms * (1 + 0.03 * fit.terms))

    def _pick(self, given: tuple[int, ...], y: Doubles, kept: npt.NDArray[np.bool_], limit: int | None) -> int:
        """The column that lowers the sum of squares most beside those given."""
        columns = self.columns[:limit, kept]
        basis = np.stack([np.ones(len(y)), *(self.columns[i, kept] for i in given)], axis=1)
        q = np.linalg.qr(basis)[0]
        rest = columns - (columns @ q) @ q.T
        size = (rest**2).sum(1)
        gain = np.where(size > 1e-6, (rest @ (y - q @ (q.T @ y))) ** 2 / np.maximum(size, 1e-6), 0.0)
        # Of columns that are alike on these words the first, which is the simplest.
        return int(np.flatnonzero(gain >= gain.max() * (1 - 1e-9))[0])

    def _grow(self, given: tuple[int, ...], y: Doubles, kept: npt.NDArray[np.bool_], limit: int | None) -> WordFit:
        chosen = (*given, self._pick(given, y, kept, limit))
        columns = np.stack([np.ones(len(y)), *(self.columns[i, kept] for i in chosen)], axis=1)
        coefficients, rss = solve(columns, y)
        coefficients = np.where(np.abs(coefficients) > 1e-9, coefficients, 0.0)
        parts = zip(coefficients[1:].tolist(), (self.formulas[i] for i in chosen), strict=True)
        total = combined(float(coefficients[0]), parts)
        rms = float(np.sqrt(rss / max(len(y) - len(chosen) - 1, 1)))
        return WordFit(total, rms, sum(1 + (i >= self.n_singles) for i in chosen))

    def exception(self, y: Doubles, enough: float, whole: WordFit) -> tuple[WordFit, OtherWords] | None:
        """A feature without whose words the rest is told much better; None where there is none."""
        best: tuple[float, WordFit, Expr, npt.NDArray[np.bool_]] | None = None
        for formula, column in self.truths:
            held = column > 0.5
            if not _LEAST_WORDS <= held.sum() <= 0.3 * len(y):
                continue
            fit = self.best(y, ~held, enough, terms=1)
            # Of kinds of words without which the rest is told as well, the one with the fewest words.
            error = max(fit.rms, enough) * (1 + 0.03 * fit.terms + 0.1 * float(held.mean()))
            if best is None or error < best[0]:
                best = error, fit, formula, held
        if best is None or best[1].rms > max(0.5 * whole.rms, enough):
            return None
        _, fit, where, held = best
        inside = self.best(y, held, enough, terms=1)
        spread = float(y[held].std())
        if inside.terms and inside.rms > max(enough, 0.1 * spread):
            inside = WordFit(const(float(y[held].mean())), spread, 0)
        return fit, OtherWords(where, inside.formula, inside.rms, inside.rms > 3 * enough and not inside.terms)


def find_word_formula(
    features: Features, y: Doubles, noise: float
) -> tuple[Expr, OtherWords | None, float, tuple[str, ...]]:
    """Formula, the exception that is part of it, error outside of the exception, and what was tried."""
    enough = max(1.2 * noise, _RIGHT * float(y.std()), 1e-6 * float(np.abs(y).max()), 1e-9)
    whole = features.best(y, np.ones(len(y), dtype=np.bool_), enough)
    steps = [f"sum of up to 2 features: error {whole.rms:.3g}"]
    if whole.rms > enough or whole.terms > 2:
        found = features.exception(y, enough, whole)
        # A formula that is right gives way only to a simpler one that is right too.
        if (
            found is not None
            and whole.rms <= enough
            and (found[0].rms > enough or found[1].is_noise or found[0].terms + 1 >= whole.terms)
        ):
            found = None
        steps.append(f"with a kind of words left out: {'none' if found is None else f'error {found[0].rms:.3g}'}")
        if found is not None:
            fit, exception = found
            joined = Expr("where", (exception.where, exception.inside, fit.formula))
            return joined, exception, fit.rms, tuple(steps)
    return whole.formula, None, whole.rms, tuple(steps)
