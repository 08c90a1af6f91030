"""Formulas of one input, a number or a word: as a tree, as text, as JSON, and evaluated on arrays.

A formula's text is a small part of Python's syntax: ``0.5*sin(0.2*x + 1) + where(x < 12.5, 3, 0)`` for numbers,
``starts("b")*length()`` for words, where a truth value counts as 1 or 0. Nothing but what is listed here is understood,
and nothing is ever run as code.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.errors import NeuroglossError
from tools.functions.strings import STRING_FUNCTIONS

DoubleArray = npt.NDArray[np.float64]
Inputs = DoubleArray | Sequence[str]
"""What a formula is evaluated on: numbers, or words."""

_LONGEST = 4_000
_HIGHEST_POWER = 8.0


class FormulaError(NeuroglossError):
    """A text or a JSON value is not a formula, or does not fit its input."""


def _sigmoid(u: DoubleArray) -> DoubleArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * u)))


#: Functions of one number. `step` is 1 above 0 and else 0; `rect` 1 between -1 and 1; `gauss` exp(-u^2/2); `square` the
#: sign of the sine; roots and logarithms of negative numbers are not defined.
NUMBER_FUNCTIONS: dict[str, Callable[[DoubleArray], DoubleArray]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda u: np.maximum(u, 0.0),
    "floor": np.floor,
    "ceil": np.ceil,
    "sign": np.sign,
    "step": lambda u: (u > 0).astype(np.float64),
    "rect": lambda u: (np.abs(u) < 1).astype(np.float64),
    "gauss": lambda u: np.exp(-0.5 * u * u),
    "square": lambda u: np.sign(np.sin(u)),
}
#: Functions of two: `max` is "or" of truth values, as the product is "and".
_PAIRS: dict[str, Callable[[DoubleArray, DoubleArray], DoubleArray]] = {
    "+": np.add,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "max": np.maximum,
    "min": np.minimum,
}


@dataclass(frozen=True)
class Expr:
    """A node of a formula.

    ``op`` is 'x' (the number), 'const' (one float), 'inside' (two floats, perhaps infinite: whether the number lies
    strictly between them), 'where' (condition, value where it holds, value elsewhere), the name of a function of one
    number, '+', '*', '/', '**', 'max', 'min' (two formulas), or the name of a function of the word (with a letter, if
    it takes one).
    """

    op: str
    args: tuple[Expr | float | str, ...] = ()

    def __add__(self, other: Expr | float) -> Expr:
        return Expr("+", (self, _node(other)))

    def __mul__(self, other: Expr | float) -> Expr:
        return Expr("*", (self, _node(other)))

    def __truediv__(self, other: Expr | float) -> Expr:
        return Expr("/", (self, _node(other)))

    def __pow__(self, power: float) -> Expr:
        return Expr("**", (self, const(power)))

    def __str__(self) -> str:
        return _text(self, 0)

    @property
    def parts(self) -> tuple[Expr, ...]:
        """The formulas within this one, one level down."""
        return tuple(arg for arg in self.args if isinstance(arg, Expr))

    def to_json(self) -> list[Any]:
        """Nested lists, operator first; an infinite bound is None."""
        return [self.op, *(_plain(arg) for arg in self.args)]

    @classmethod
    def from_json(cls, data: Any) -> Expr:
        """The formula that `to_json` wrote.

        Raises:
            FormulaError: It is none.
        """
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            raise FormulaError(f"{str(data)[:80]!r} is not a formula; one is a list that begins with an operator.")
        op = data[0]
        if op == "inside":
            low, high = data[1:]
            return inside(-math.inf if low is None else float(low), math.inf if high is None else float(high))
        return _checked(op, tuple(cls.from_json(arg) if isinstance(arg, list) else arg for arg in data[1:]))


def const(value: float) -> Expr:
    """A number as a formula."""
    return Expr("const", (float(value),))


def inside(low: float, high: float) -> Expr:
    """Whether the number lies strictly between two bounds, of which one may be infinite."""
    return Expr("inside", (float(low), float(high)))


def apply(function: str, inner: Expr) -> Expr:
    """A function of one number applied to a formula."""
    return _checked(function, (inner,))


X = Expr("x")


def evaluate(formula: Expr, inputs: Inputs) -> DoubleArray:
    """Values of a formula, float64 [n]; NaN or infinite where it is not defined.

    Raises:
        FormulaError: A formula of words is given numbers, or the reverse.
    """
    count = len(inputs)
    with np.errstate(all="ignore"):
        return np.broadcast_to(_value(formula, inputs), (count,)).astype(np.float64)


def _value(node: Expr, inputs: Inputs) -> DoubleArray:
    if node.op == "const":
        return np.asarray(node.args[0], dtype=np.float64)
    if node.op in STRING_FUNCTIONS:
        if isinstance(inputs, np.ndarray):
            raise FormulaError(f"'{node}' is about words, but the input is a number.")
        function = STRING_FUNCTIONS[node.op]
        return np.array([function(word, *node.args) for word in inputs], dtype=np.float64)
    if node.op in ("x", "inside"):
        if not isinstance(inputs, np.ndarray):
            raise FormulaError(f"'{node}' is about numbers, but the input is a word.")
        if node.op == "x":
            return inputs
        low, high = (float(arg) for arg in node.args if not isinstance(arg, Expr))
        return np.asarray((inputs > low) & (inputs < high), dtype=np.float64)
    values = [_value(part, inputs) for part in node.parts]
    if node.op == "where":
        return np.where(values[0] > 0.5, values[1], values[2])
    if node.op in _PAIRS:
        return _PAIRS[node.op](*values)
    return NUMBER_FUNCTIONS[node.op](values[0])


def parse(text: str) -> Expr:
    """The formula that a text writes.

    Raises:
        FormulaError: It writes none; the message says what is not understood.
    """
    if len(text) > _LONGEST:
        raise FormulaError(f"A formula has at most {_LONGEST} characters; this one has {len(text)}.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _read(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"'{text[:80]}' is not a formula ({type(error).__name__}).") from error


_OPERATORS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}


def _read(node: ast.expr) -> Expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return const(node.value)
    if isinstance(node, ast.Name) and node.id == "x":
        return X
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if isinstance(node.operand, ast.Constant):
            return const(-_number(node.operand))
        return _negated(_read(node.operand))
    if isinstance(node, ast.BinOp):
        left, right = _read(node.left), _read(node.right)
        if isinstance(node.op, ast.Sub):
            return left + _negated(right)
        if type(node.op) in _OPERATORS:
            return _checked(_OPERATORS[type(node.op)], (left, right))
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        letters = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if node.func.id in STRING_FUNCTIONS and len(letters) == len(node.args):
            return _checked(node.func.id, tuple(letters))
        return _checked(node.func.id, tuple(_read(arg) for arg in node.args))
    raise FormulaError(f"'{ast.unparse(node)[:80]}' is not understood in a formula.")


def _comparison(node: ast.Compare) -> Expr:
    """``a < x``, ``x < b``, ``a < x < b``, and the same with > (and with equality, which is taken as strict)."""
    terms = [node.left, *node.comparators]
    rising = all(isinstance(op, ast.Lt | ast.LtE) for op in node.ops)
    if not rising:
        if not all(isinstance(op, ast.Gt | ast.GtE) for op in node.ops):
            raise FormulaError(f"'{ast.unparse(node)}' is not understood: compare x by < or by >.")
        terms.reverse()
    places = [i for i, term in enumerate(terms) if isinstance(term, ast.Name) and term.id == "x"]
    if len(places) != 1 or len(terms) > 3 or (len(terms) == 3 and places != [1]):
        raise FormulaError(f"'{ast.unparse(node)}' is not understood: write a < x < b, x < a or x > a.")
    bounds = [math.nan if i == places[0] else _constant(_read(term)) for i, term in enumerate(terms)]
    low = bounds[0] if places[0] == 1 else -math.inf
    high = bounds[-1] if places[0] < len(terms) - 1 else math.inf
    return inside(low, high)


def _negated(formula: Expr) -> Expr:
    """The formula times -1, by the sign of its leading number where it has one."""
    if formula.op == "const":
        return const(-_constant(formula))
    if formula.op in ("*", "/") and _leads_with_number(formula):
        return Expr(formula.op, (_negated(formula.parts[0]), formula.parts[1]))
    return Expr("*", (const(-1), formula))


def _leads_with_number(formula: Expr) -> bool:
    return formula.op == "const" or (formula.op in ("*", "/") and _leads_with_number(formula.parts[0]))


def _number(node: ast.Constant) -> float:
    if not isinstance(node.value, int | float):
        raise FormulaError(f"{node.value!r} is not a number.")
    return float(node.value)


def _constant(node: Expr) -> float:
    value = node.args[0] if node.op == "const" else None
    if not isinstance(value, float):
        raise FormulaError(f"'{node}' stands where a number is needed.")
    return value


def _checked(op: str, args: tuple[Any, ...]) -> Expr:
    """A node with the right number and kind of arguments."""
    if op in STRING_FUNCTIONS:
        wanted = STRING_FUNCTIONS[op].letters
        if len(args) != wanted or not all(isinstance(arg, str) and len(arg) == 1 for arg in args):
            raise FormulaError(f"'{op}' takes {'one letter' if wanted else 'nothing'}, not {args!r}.")
        return Expr(op, args)
    if op == "const":
        if len(args) != 1 or not isinstance(args[0], int | float):
            raise FormulaError(f"A constant is one number, not {args!r}.")
        return const(args[0])
    sizes = {"x": 0, "where": 3, **dict.fromkeys(_PAIRS, 2), **dict.fromkeys(NUMBER_FUNCTIONS, 1)}
    if op not in sizes:
        raise FormulaError(f"'{op}' is not known in formulas. There are {', '.join([*NUMBER_FUNCTIONS, 'where'])}.")
    if len(args) != sizes[op] or not all(isinstance(arg, Expr) for arg in args):
        raise FormulaError(f"'{op}' takes {sizes[op]} formulas, not {len(args)}.")
    if op == "**" and not (args[1].op == "const" and abs(_constant(args[1])) <= _HIGHEST_POWER):
        raise FormulaError(f"A power is a number up to {_HIGHEST_POWER:g}, not '{args[1]}'.")
    return Expr(op, args)


def _node(value: Expr | float) -> Expr:
    return value if isinstance(value, Expr) else const(value)


def _plain(arg: Expr | float | str) -> Any:
    if isinstance(arg, Expr):
        return arg.to_json()
    return None if isinstance(arg, float) and math.isinf(arg) else arg


def _figure(value: float) -> str:
    """Six digits: enough that rounding never decides a score, few enough to read."""
    return f"{value:.6g}"


def _text(node: Expr, strength: int) -> str:
    """`strength`: of the operator around: 0 none, 1 sum, 2 product, 3 power."""
    if node.op == "const":
        value = _figure(_constant(node))
        return f"({value})" if value.startswith("-") and strength > 2 else value
    if node.op == "x":
        return "x"
    if node.op == "inside":
        low, high = (float(arg) for arg in node.args if not isinstance(arg, Expr))
        told = f"{_figure(low)} < x < {_figure(high)}"
        if math.isinf(low) or math.isinf(high):
            told = f"x < {_figure(high)}" if math.isinf(low) else f"x > {_figure(low)}"
        return f"({told})" if strength else told
    if node.op in ("+", "*", "/", "**"):
        own = {"+": 1, "*": 2, "/": 2, "**": 3}[node.op]
        left, right = node.parts
        # The right side of a division, and both of a power, must bind more tightly than the operator.
        first = _text(left, own + (node.op == "**"))
        second = _text(right, own + (node.op in ("/", "**")))
        if node.op == "+":
            joined = f"{first} - {second[1:]}" if second.startswith("-") else f"{first} + {second}"
        else:
            joined = f"{first}{node.op}{second}"
        return f"({joined})" if own < strength else joined
    inner = ", ".join(f'"{arg}"' if isinstance(arg, str) else _text(_node(arg), 0) for arg in node.args)
    return f"{node.op}({inner})"
