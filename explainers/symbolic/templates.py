"""Shapes of functions of a number that are tried, each with parameters that enter it non-linearly.

A template gives one or more columns for its parameters; amplitudes and the offset come from linear least squares, so a
sine needs a frequency alone and no phase. Products and compositions are templates too: (g + p)(h + q) is linear in the
columns gh, g and h.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.functions import Expr
from tools.functions.expression import X, apply, inside

Parameters = tuple[float, ...]
Columns = tuple[Expr, ...]


@dataclass(frozen=True)
class Template:
    """A shape with parameters; for each of them, where to start and how large a first step is."""

    name: str
    build: Callable[[Parameters], Columns | None]
    """Columns, or None where the parameters make no sense."""
    starts: tuple[Parameters, ...]
    steps: Parameters


def _shift(c: float) -> Expr:
    return X + -c


def _positive(
    build: Callable[[Parameters], Columns], place: int = -1, least: float = 0.5
) -> Callable[[Parameters], Columns | None]:
    """`build` for parameters of which one (a width) must not be narrower than what the numbers asked could show."""
    return lambda p: build(p) if p[place] > least else None


def _grid(*axes: Sequence[float]) -> tuple[Parameters, ...]:
    return tuple(itertools.product(*axes))


_CENTRES = tuple(float(c) + 0.25 for c in range(-124, 128, 8))
_FINE = tuple(float(c) + 0.5 for c in range(-126, 126, 4))
_WIDTHS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_TURNS = tuple(2 * math.pi / period for period in (14 * 1.045**i for i in range(72)))
_COARSE_TURNS = tuple(2 * math.pi / period for period in (15 * 1.12**i for i in range(24)))


def _wave(p: Parameters) -> Columns:
    return apply("sin", X * p[0]), apply("cos", X * p[0])


def _power(p: Parameters) -> Columns | None:
    return (apply("abs", X) ** p[0],) if 0.1 < p[0] < 6 else None


def _exponential(p: Parameters) -> Columns | None:
    return (apply("exp", X * p[0]),) if 1e-4 < abs(p[0]) < 0.1 else None


#: One after another in order of simplicity: of two that fit as well, the first is taken.
TEMPLATES = (
    Template("linear", lambda p: (X,), ((),), ()),
    Template("step", lambda p: (apply("step", _shift(p[0])),), _grid(_FINE), (2.0,)),
    Template("abs", lambda p: (apply("abs", _shift(p[0])),), _grid(_CENTRES), (4.0,)),
    Template("relu", lambda p: (apply("relu", _shift(p[0])),), _grid(_CENTRES), (4.0,)),
    Template("root", lambda p: (apply("sqrt", apply("abs", _shift(p[0]))),), _grid(_CENTRES), (4.0,)),
    Template("quadratic", lambda p: (X, X**2), ((),), ()),
    Template("exponential", _exponential, _grid((-0.03, -0.02, -0.01, -0.005, 0.005, 0.01, 0.02, 0.03)), (0.003,)),
    Template("power", _power, _grid((0.5, 1.5, 2.5, 3.0)), (0.3,)),
    Template("wave", _positive(_wave, least=0.005), _grid(_TURNS), (0.003,)),
    Template("tanh", _positive(lambda p: (apply("tanh", _shift(p[0]) / p[1]),)), _grid(_CENTRES, _WIDTHS), (3.0, 2.0)),
    Template("bump", _positive(lambda p: (apply("gauss", _shift(p[0]) / p[1]),)), _grid(_CENTRES, _WIDTHS), (3.0, 2.0)),
    Template("rectangle", _positive(lambda p: (inside(p[0] - p[1], p[0] + p[1]),)),
             _grid(_FINE, (6.0, 10.0, 14.0, 18.0, 24.0, 32.0, 40.0, 50.0, 60.0)), (2.0, 2.0)),
    Template("reciprocal", _positive(lambda p: ((apply("abs", _shift(p[0])) + p[1]) ** -1.0,)),
             _grid(_CENTRES, (3.0, 8.0, 20.0)), (3.0, 2.0)),
    Template("log", _positive(lambda p: (apply("log", apply("abs", _shift(p[0])) + p[1]),)),
             _grid(_CENTRES, (1.0, 5.0, 20.0)), (3.0, 1.0)),
    Template("floor", _positive(lambda p: (apply("floor", X / p[0]),)),
             _grid([7.5 * 1.02**i for i in range(106)]), (0.2,)),
    Template("cubic", lambda p: (X, X**2, X**3), ((),), ()),
    Template("leaky relu", lambda p: (apply("relu", _shift(p[0])), X), _grid(_CENTRES), (4.0,)),
    Template("square wave", _positive(lambda p: (apply("square", X * p[0] + p[1]),), 0, 0.005),
             _grid(_TURNS, [i * math.pi / 8 for i in range(16)]), (0.003, 0.2)),
)  # fmt: skip


def _coarse(template: Template) -> Template:
    """Fewer starts, for products."""
    starts = template.starts
    if template.name == "wave":
        starts = _grid(_COARSE_TURNS[::2])
    elif len(starts) > 16:
        starts = tuple(p for i, p in enumerate(starts) if i % max(1, len(starts) // 14) == 0)
    return Template(template.name, template.build, starts, template.steps)


def _product(first: Template, second: Template) -> Template:
    cut = len(first.steps)

    def build(p: Parameters) -> Columns | None:
        left, right = first.build(p[:cut]), second.build(p[cut:])
        if left is None or right is None:
            return None
        return (*(a * b for a in left for b in right), *left, *right)

    starts = tuple((*p, *q) for p in first.starts for q in second.starts)
    return Template(f"{first.name} times {second.name}", build, starts, (*first.steps, *second.steps))


_FACTORS = tuple(
    _coarse(t) for t in TEMPLATES
    if t.name in ("linear", "step", "abs", "relu", "exponential", "wave", "tanh", "bump", "rectangle", "reciprocal")
)  # fmt: skip
#: Pairs of factors, and the template of their product, whose starts are those of the first times those of the second.
PRODUCTS = tuple(
    (first, second, _product(first, second))
    for i, first in enumerate(_FACTORS)
    for second in _FACTORS[i:]
    if (first.name, second.name) != ("linear", "linear")
)

_INNER: tuple[tuple[str, Callable[[Parameters], Expr | None], tuple[Parameters, ...], Parameters], ...] = (
    ("x", lambda p: X / 64, ((),), ()),
    ("square", lambda p: ((X + -p[0]) / 64) ** 2, _grid(range(-120, 121, 12)), (4.0,)),
    ("abs", lambda p: apply("abs", X + -p[0]) / 64, _grid(range(-112, 113, 16)), (4.0,)),
    ("relu", lambda p: apply("relu", X + -p[0]) / 64, _grid(range(-96, 97, 16)), (4.0,)),
    ("wave", lambda p: apply("sin", X * p[0] + p[1]), _grid(_COARSE_TURNS[::2], [i * math.pi / 3 for i in range(6)]),
     (0.003, 0.2)),
)  # fmt: skip
_OUTER: tuple[tuple[str, Callable[[Expr], Expr]], ...] = (
    ("sin", lambda u: apply("sin", u)),
    ("tanh", lambda u: apply("tanh", u)),
    ("abs", lambda u: apply("abs", u)),
    ("bump", lambda u: apply("gauss", u)),
    ("relu", lambda u: apply("relu", u)),
    ("log", lambda u: apply("log", apply("abs", u) + 0.2)),
    ("floor", lambda u: apply("floor", u)),
)


def _composition(outer: tuple[str, Callable[[Expr], Expr]], inner: int) -> Template:
    name, function, (of, argument, starts, steps) = outer[0], outer[1], _INNER[inner]

    def build(p: Parameters) -> Columns | None:
        inside_it = argument(p[2:])
        return None if inside_it is None or p[0] <= 0 else (function(inside_it * p[0] + p[1]),)

    all_starts = tuple((a, b, *p) for a in (0.8, 2.0) for b in (-1.8, -0.9, -0.3, 0.3, 0.9, 1.8) for p in starts)
    return Template(f"{name} of {of}", build, all_starts, (0.3, 0.3, *steps))


COMPOSITIONS = tuple(_composition(outer, inner) for outer in _OUTER for inner in range(len(_INNER)))
