"""Draws functions of a number: atoms, sums, products and compositions of them, corrupted and noisy ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tools.functions.expression import Expr, X, apply, const, evaluate, inside
from tools.functions.inputs import grid
from tools.functions.truth import Corruption, FunctionTruth

Rng = np.random.Generator


def _place(rng: Rng, reach: int = 90) -> float:
    """A break point, at a quarter so that no number of the grid lies on it."""
    return float(rng.integers(-reach, reach)) + 0.25


def _from(c: float) -> Expr:
    return X + -c if c else X


def _sign(rng: Rng) -> float:
    return float(rng.choice([-1.0, 1.0]))


def _between(rng: Rng, low: float, high: float) -> float:
    """Uniform on the logarithm, with three digits so that formulas read well."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")


def _level(rng: Rng) -> float:
    """An offset for functions of amplitude one."""
    return float(np.round(rng.uniform(-1, 1), 2))


def _wave(rng: Rng, function: str) -> Expr:
    """Periods of 16 to 200; FIND's held-out points lie half a unit from the nearest point of the corpus."""
    turn = 2 * math.pi / _between(rng, 16, 200)
    return apply(function, const(float(f"{turn:.4g}")) * X + float(np.round(rng.uniform(0, 6), 2))) + _level(rng)


def _slope(rng: Rng, function: str, low: float, high: float) -> Expr:
    return apply(function, _from(_place(rng)) / _between(rng, low, high)) * _sign(rng) + _level(rng)


def _polynomial(rng: Rng) -> Expr:
    roots = [_from(_place(rng, 110)) / 64 for _ in range(int(rng.integers(2, 4)))]
    product = roots[0]
    for root in roots[1:]:
        product = product * root
    return product + _level(rng)


def _rounded(rng: Rng, function: str) -> Expr:
    return apply(function, X / _between(rng, 8, 60)) * _sign(rng) + _level(rng)


#: Atoms by family; each is drawn with an amplitude of about one.
ATOMS: dict[str, Callable[[Rng], Expr]] = {
    "linear": lambda rng: X * (_sign(rng) * _between(rng, 0.005, 0.05)) + _level(rng),
    "polynomial": _polynomial,
    "abs": lambda rng: apply("abs", _from(_place(rng))) * (_sign(rng) / 64) + _level(rng),
    "root": lambda rng: apply("sqrt", apply("abs", _from(_place(rng)))) * (_sign(rng) / 8) + _level(rng),
    "reciprocal": lambda rng: (
        const(_sign(rng) * 8) / (apply("abs", _from(_place(rng))) + _between(rng, 3, 30)) + _level(rng) / 4
    ),
    "log": lambda rng: apply("log", apply("abs", _from(_place(rng))) + _between(rng, 1, 20)) * _sign(rng) + -3.0,
    "exponential": lambda rng: apply("exp", X / (_sign(rng) * _between(rng, 40, 200))) * _sign(rng) + _level(rng),
    "power": lambda rng: apply("abs", X / 64) ** float(rng.choice([1.5, 2.5, 3.0])) * _sign(rng) + _level(rng),
    "step": lambda rng: apply("step", _from(_place(rng))) * (2 * _sign(rng)) + _level(rng),
    "rectangle": lambda rng: _slope(rng, "rect", 10, 60),
    "relu": lambda rng: apply("relu", _from(_place(rng))) * (_sign(rng) / 64) + _level(rng) / 2,
    "leaky relu": lambda rng: (
        apply("relu", _from(c := _place(rng))) * (_sign(rng) / 64) + _from(c) * (0.1 * _sign(rng) / 64) + _level(rng)
    ),
    "sigmoid": lambda rng: _slope(rng, "sigmoid", 2, 40) * 2.0,
    "tanh": lambda rng: _slope(rng, "tanh", 2, 60),
    "gaussian": lambda rng: _slope(rng, "gauss", 6, 50) * 2.0,
    "sin": lambda rng: _wave(rng, "sin"),
    "cos": lambda rng: _wave(rng, "cos"),
    "square wave": lambda rng: _wave(rng, "square"),
    "floor": lambda rng: _rounded(rng, "floor"),
    "ceil": lambda rng: _rounded(rng, "ceil"),
    "signum": lambda rng: _slope(rng, "sign", 1, 2),
    "constant": lambda rng: const(_sign(rng) * _between(rng, 0.5, 4)),
}
_OUTER: dict[str, Callable[[Expr], Expr]] = {
    "sin": lambda u: apply("sin", u * 2.0),
    "tanh": lambda u: apply("tanh", u * 1.5),
    "sigmoid": lambda u: apply("sigmoid", u * 3.0) * 2.0,
    "abs": lambda u: apply("abs", u),
    "gauss": lambda u: apply("gauss", u * 1.5) * 2.0,
    "relu": lambda u: apply("relu", u),
    "log": lambda u: apply("log", apply("abs", u) + 0.2),
    "floor": lambda u: apply("floor", u * 2.0),
}
_INNER = ("linear", "polynomial", "abs", "sin", "cos", "relu", "power")
COMPOUNDS = ("sum of 2", "sum of 3", "product", "composition")


def _size(formula: Expr) -> float:
    """Root mean square over the grid."""
    return float(np.sqrt(np.mean(evaluate(formula, grid()) ** 2)))


def _unit_size(formula: Expr) -> Expr:
    return formula * float(f"{1 / max(_size(formula), 1e-6):.4g}")


def draw_atom(rng: Rng, names: tuple[str, ...] = tuple(ATOMS)) -> tuple[str, Expr]:
    """Family and formula of an atom."""
    name = str(rng.choice(names))
    return name, ATOMS[name](rng)


def draw_compound(rng: Rng, kind: str) -> Expr:
    """A sum, product or composition of atoms of equal size, constants left out."""
    moving = tuple(name for name in ATOMS if name != "constant")
    if kind == "composition":
        inner = _unit_size(draw_atom(rng, _INNER)[1])
        return _OUTER[str(rng.choice(list(_OUTER)))](inner)
    chosen = [str(name) for name in rng.choice(moving, 3 if kind == "sum of 3" else 2, replace=False)]
    parts = [_unit_size(ATOMS[name](rng)) for name in chosen]
    total = parts[0]
    for part in parts[1:]:
        total = total * part if kind == "product" else total + part
    return total


def _corruption(rng: Rng, formula: Expr) -> Corruption:
    """One end or an inner stretch of the domain, 8 to 25 wide, gives noise or another function.

    As in FIND the noise has the function's mean (here: mean magnitude) as its standard deviation.
    """
    width = float(rng.integers(8, 26))
    place = str(rng.choice(["below", "above", "within"]))
    low, high = -math.inf, math.inf
    if place == "below":
        high = grid()[0] + width - 0.25
    elif place == "above":
        low = grid()[-1] - width + 0.25
    else:
        low = _place(rng)
        high = low + width
    scale = 1 / _size(formula)
    if rng.random() < 0.5:
        size = float(np.mean(np.abs(evaluate(formula, grid())))) * scale
        mean = float(np.round(rng.uniform(-1, 1) * size, 3))
        return Corruption(inside(low, high), None, mean, float(f"{size:.3g}"), int(rng.integers(2**31)))
    # Another function must be another: far from the first one on most of the stretch.
    held = grid()[(grid() > low) & (grid() < high)]
    for _ in range(100):
        other = _unit_size(draw_atom(rng, ("constant", "linear", "sin", "abs", "relu"))[1]) * float(f"{1 / scale:.4g}")
        if np.mean(np.abs(evaluate(other, held) - evaluate(formula, held)) * scale > 0.5) > 0.7:
            break
    return Corruption(inside(low, high), other)


def numeric_functions(rng: Rng, count: int) -> list[FunctionTruth]:
    """`count` functions of a number: of any ten, four atoms, two compounds, two corrupted and two noisy ones.

    Families of atoms and kinds of compounds take turns, so that a few dozen functions have them all.
    """
    pattern = ("atom", "compound", "atom", "corrupted", "noisy") * 2
    families = [str(name) for name in rng.permutation(list(ATOMS))]
    drawn: list[FunctionTruth] = []
    turns = dict.fromkeys(("atom", "compound", "base"), 0)
    for number in range(count):
        category = pattern[number % len(pattern)]
        if category == "compound" or (category in ("corrupted", "noisy") and turns["base"] % 3 == 2):
            family = COMPOUNDS[turns["compound"] % len(COMPOUNDS)]
            turns["compound"] += 1
            formula = draw_compound(rng, family)
            while not 0.05 < _size(formula) < 50 or float(np.std(evaluate(formula, grid()))) < 0.1 * _size(formula):
                formula = draw_compound(rng, family)
        else:
            family = families[turns["atom"] % len(families)]
            turns["atom"] += 1
            if family == "constant" and category != "atom":  # corrupted or noisy, it would be nothing else
                family = families[turns["atom"] % len(families)]
                turns["atom"] += 1
            formula = ATOMS[family](rng)
            while not 0.05 < _size(formula) < 50:
                formula = ATOMS[family](rng)
        turns["base"] += category in ("corrupted", "noisy")
        corruption = _corruption(rng, formula) if category == "corrupted" else None
        noise = float(np.round(rng.uniform(0.05, 0.25), 3)) if category == "noisy" else 0.0
        drawn.append(
            FunctionTruth(
                f"fn:numeric:{number}", category, family, formula, 1 / _size(formula), corruption, noise
            )
        )  # fmt: skip
    return drawn
