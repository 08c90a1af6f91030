"""Fits sums of templates, products and compositions to values of a unit at some numbers.

Terms are added one at a time (orthogonal matching pursuit, Pati et al. 1993): the start of any template that leaves the
least residual beside the terms that are there; then all non-linear parameters are refined together, with amplitudes
solved for at every step (variable projection, Golub and Pereyra 1973) by the simplex method (Nelder and Mead 1965),
which does not mind jumps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from explainers.symbolic.templates import COMPOSITIONS, PRODUCTS, TEMPLATES, Parameters, Template
from tools.functions import Expr, evaluate
from tools.functions.expression import const

Doubles = npt.NDArray[np.float64]
_TERMS = 3
_BEAM = 2
_HUGE = 1e300
_CONDITION = 1e-3
"""Columns that are alike up to this are one: amplitudes a thousand times the values would not survive rounding."""


@dataclass(frozen=True)
class Term:
    """A template with parameters."""

    template: Template
    parameters: Parameters


@dataclass(frozen=True)
class Fit:
    """A formula with the error it leaves on the points that it was fitted to."""

    terms: tuple[Term, ...]
    formula: Expr
    rms: float
    """Root mean square of the residuals, corrected for the number of parameters."""

    @property
    def size(self) -> int:
        """Parameters: amplitudes, the offset, and those inside of the terms."""
        return 1 + sum(len(term.parameters) + len(term.template.build(term.parameters) or ()) for term in self.terms)


def columns_of(terms: Iterable[Term], x: Doubles) -> tuple[list[Expr], Doubles] | None:
    """Formulas of all columns and their values [n, columns], the offset's first; None where one is not finite."""
    formulas: list[Expr] = []
    for term in terms:
        built = term.template.build(term.parameters)
        if built is None:
            return None
        formulas += built
    values = np.stack([np.ones(len(x)), *(evaluate(formula, x) for formula in formulas)], axis=1)
    return (formulas, values) if np.isfinite(values).all() and np.abs(values).max() < 1e12 else None


def solve(columns: Doubles, y: Doubles) -> tuple[Doubles, float]:
    """Coefficients by least squares, and the sum of squared residuals."""
    size = np.sqrt((columns**2).mean(0))
    scale = np.where(size > 1e-12, size, 1.0)
    coefficients = np.linalg.lstsq(columns / scale, y, rcond=_CONDITION)[0] / scale
    residual = y - columns @ coefficients
    return coefficients, float(residual @ residual)


def combined(offset: float, parts: Iterable[tuple[float, Expr]]) -> Expr:
    """offset + sum of coefficient * formula, without what is zero and without factors of one."""
    total: Expr | None = None if abs(offset) < 1e-9 else const(offset)
    for coefficient, formula in parts:
        if abs(coefficient) > 1e-12:
            part = formula if abs(coefficient - 1) < 1e-9 else const(coefficient) * formula
            total = part if total is None else total + part
    return const(0.0) if total is None else total


def _quick_loss(columns: Doubles, y: Doubles) -> float:
    """The residual of `solve` by the normal equations: several times faster, and exact enough to walk downhill."""
    size = np.sqrt((columns**2).mean(0))
    scaled = columns / np.where(size > 1e-12, size, 1.0)
    gram = scaled.T @ scaled + _CONDITION**2 * len(y) * np.eye(scaled.shape[1])
    residual = y - scaled @ np.linalg.solve(gram, scaled.T @ y)
    return float(residual @ residual)


def fit_terms(terms: Sequence[Term], x: Doubles, y: Doubles) -> Fit | None:
    """The best amplitudes of given terms; None where a term is not defined."""
    found = columns_of(terms, x)
    if found is None:
        return None
    formulas, columns = found
    coefficients, rss = solve(columns, y)
    coefficients = _without_idle(columns, coefficients)
    total = combined(float(coefficients[0]), zip(coefficients[1:].tolist(), formulas, strict=True))
    used = len(coefficients) + sum(len(term.parameters) for term in terms)
    return Fit(tuple(terms), total, float(np.sqrt(rss / max(len(x) - used, 1))))


def _without_idle(columns: Doubles, coefficients: Doubles) -> Doubles:
    """Coefficients of columns that add nothing (a millionth of the whole) are set to 0, for formulas to be read."""
    parts = np.abs(columns * coefficients).max(0)
    return np.where(parts > 1e-6 * max(float(parts.max()), 1e-12), coefficients, 0.0)


def refine(terms: Sequence[Term], x: Doubles, y: Doubles, rounds: int = 2) -> Fit | None:
    """`fit_terms` with the parameters inside of the terms moved to where the residual is least."""
    start = np.array([value for term in terms for value in term.parameters])
    if not len(start):
        return fit_terms(terms, x, y)

    def placed(values: Doubles) -> list[Term]:
        numbers = iter(values.tolist())
        return [Term(t.template, tuple(next(numbers) for _ in t.parameters)) for t in terms]

    def loss(values: Doubles) -> float:
        found = columns_of(placed(values), x)
        return _HUGE if found is None else _quick_loss(found[1], y)

    steps = np.array([step for term in terms for step in term.template.steps])
    for turn in range(rounds):
        # A simplex collapses in front of a jump; a second, smaller one begins where the first one ended.
        simplex = np.vstack([start, start + np.diag(steps / 2**turn)])
        options = {"initial_simplex": simplex, "maxfev": 50 * len(start), "xatol": 1e-4, "fatol": 1e-12}
        start = minimize(loss, start, method="Nelder-Mead", options=options).x
    return fit_terms(placed(start), x, y)


class Library:
    """Columns of all starts of all templates at some numbers, computed once for all units that are asked there."""

    def __init__(self, x: Doubles) -> None:
        self.x = x
        self._factors: dict[int, Doubles] = {}
        self.sums = [self._table(template) for template in TEMPLATES]

    def _table(self, template: Template) -> Doubles:
        """[start, column, point]; starts that are not defined somewhere are zero."""
        tables = []
        for parameters in template.starts:
            columns = template.build(parameters)
            assert columns is not None, "starts make sense"
            values = np.stack([evaluate(column, self.x) for column in columns])
            tables.append(np.where(np.isfinite(values).all(), values, 0.0))
        return np.stack(tables)

    @cached_property
    def compositions(self) -> list[Doubles]:
        """As `sums`, of compositions."""
        return [self._table(template) for template in COMPOSITIONS]

    def factor(self, template: Template) -> Doubles:
        """Table of one side of a product."""
        if id(template) not in self._factors:
            self._factors[id(template)] = self._table(template)
        return self._factors[id(template)]


def _orthogonal(columns: Doubles) -> Doubles:
    """An orthonormal basis [n, m] of some columns [n, m]."""
    size = np.sqrt((columns**2).mean(0))
    return np.linalg.qr(columns / np.where(size > 1e-12, size, 1.0))[0]


def gains(table: Doubles, basis: Doubles, residual: Doubles) -> Doubles:
    """By how much each start would lower the sum of squares beside `basis`; table [start, column, n] -> [start]."""
    rest = table - (table @ basis) @ basis.T
    size = np.sqrt((table**2).mean(-1, keepdims=True))
    rest = rest / np.where(size > 1e-12, size, 1.0)
    gram = rest @ rest.transpose(0, 2, 1)
    k = gram.shape[1]
    gram = gram + 1e-9 * len(residual) * np.eye(k)
    beside = rest @ residual
    return np.asarray((beside * np.linalg.solve(gram, beside[..., None])[..., 0]).sum(-1))


class Search:
    """The search for a formula of one unit on some points.

    Args:
        library: Of a superset of the points.
        kept: Which of the library's points to use.
        y: Values at all of the library's points; only those kept are looked at.
        enough: Root mean square error at which the search ends.
    """

    def __init__(self, library: Library, kept: npt.NDArray[np.bool_], y: Doubles, enough: float) -> None:
        self.library, self.kept, self.enough = library, kept, enough
        self.x, self.y = library.x[kept], y[kept]

    def coarse(self, terms: int) -> float:
        """Root mean square error of the best sum of so many unrefined terms: fast, to compare sets of points."""
        basis = np.ones((len(self.x), 1)) / np.sqrt(len(self.x))
        residual = self.y - self.y.mean()
        for _ in range(terms):
            best = max(
                ((float(g.max()), t, int(g.argmax())) for t, g in enumerate(self._gains(basis, residual))),
                key=lambda entry: entry[0],
            )
            columns = self.library.sums[best[1]][best[2]][:, self.kept].T
            basis = _orthogonal(np.hstack([basis, columns]))
            residual = self.y - basis @ (basis.T @ self.y)
        return float(np.sqrt(np.mean(residual**2)))

    def _gains(self, basis: Doubles, residual: Doubles) -> list[Doubles]:
        return [gains(table[..., self.kept], basis, residual) for table in self.library.sums]

    def sums(self, terms: int = _TERMS, chain: Sequence[Fit] = ()) -> list[Fit]:
        """Sums of no, one, two, … terms, the best of each number; ends with the first that is good enough.

        Args:
            terms: How many at most.
            chain: What an earlier call with fewer terms found, to go on from.
        """
        found = list(chain)
        if not found:
            plain = fit_terms((), self.x, self.y)
            assert plain is not None
            found.append(plain)
        beam = [found[-1]]
        while found[-1].rms > self.enough and len(found[-1].terms) < terms:
            grown = [fit for base in beam for fit in self._grow(base)]
            if not grown:
                break
            beam = sorted(grown, key=lambda fit: fit.rms)[:_BEAM]
            # Of those that are good enough, the one with the fewest parameters.
            found.append(min(beam, key=lambda fit: (fit.rms > self.enough, fit.size if fit.rms <= self.enough else 0)))
        return found

    def _grow(self, base: Fit, tried: int = 3) -> list[Fit]:
        """A term more, of the templates that promise most."""
        columns = columns_of(base.terms, self.x)
        assert columns is not None, "a fit is defined on its points"
        basis = _orthogonal(columns[1])
        residual = self.y - basis @ (basis.T @ self.y)
        promise = sorted(
            ((-float(g.max()), t, int(g.argmax())) for t, g in enumerate(self._gains(basis, residual))),
        )
        fits = []
        for _, t, start in promise[: tried if base.terms else 2 * tried]:
            fit = refine((*base.terms, Term(TEMPLATES[t], TEMPLATES[t].starts[start])), self.x, self.y)
            if fit is not None:
                fits.append(fit)
                if fit.rms <= self.enough:
                    break
        return fits

    def products(self, tried: int = 6) -> Fit | None:
        """The best product of two factors."""
        basis = np.ones((len(self.x), 1)) / np.sqrt(len(self.x))
        residual = self.y - self.y.mean()
        promise: list[tuple[float, int, Parameters]] = []
        for number, (first, second, template) in enumerate(PRODUCTS):
            left, right = self.library.factor(first)[..., self.kept], self.library.factor(second)[..., self.kept]
            both = left[:, None, :, None] * right[None, :, None, :]
            shape = (*both.shape[:2], -1, both.shape[-1])
            table = np.concatenate(
                [
                    both.reshape(shape),
                    np.broadcast_to(left[:, None], (*both.shape[:2], *left.shape[1:])),
                    np.broadcast_to(right[None], (*both.shape[:2], *right.shape[1:])),
                ],
                axis=2,
            )
            gain = gains(table.reshape(-1, *table.shape[2:]), basis, residual)
            promise += [(-float(gain[i]), number, template.starts[i]) for i in np.argsort(-gain)[:2]]
        return self._best([Term(PRODUCTS[n][2], start) for _, n, start in sorted(promise)[:tried]])

    def compositions(self, tried: int = 6) -> Fit | None:
        """The best function of a function."""
        basis = np.ones((len(self.x), 1)) / np.sqrt(len(self.x))
        residual = self.y - self.y.mean()
        promise: list[tuple[float, int, Parameters]] = []
        for number, table in enumerate(self.library.compositions):
            gain = gains(table[..., self.kept], basis, residual)
            promise += [(-float(gain[i]), number, COMPOSITIONS[number].starts[i]) for i in np.argsort(-gain)[:2]]
        return self._best([Term(COMPOSITIONS[n], start) for _, n, start in sorted(promise)[:tried]])

    def _best(self, starts: Sequence[Term]) -> Fit | None:
        best: Fit | None = None
        for term in starts:
            fit = refine((term,), self.x, self.y, rounds=3)
            if fit is not None and (best is None or fit.rms < best.rms):
                best = fit
                if fit.rms <= self.enough:
                    break
        return best

    def others(self) -> list[Fit]:
        """Products and compositions; ends with one that is good enough."""
        found: list[Fit] = []
        for kind in (self.products, self.compositions):
            fit = kind()
            if fit is not None:
                found.append(fit)
                if fit.rms <= self.enough:
                    break
        return found
