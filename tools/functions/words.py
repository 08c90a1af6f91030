"""Draws functions of a word: features, "and", "or" and sums of them, corrupted and noisy ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tools.functions.expression import Expr, const, evaluate
from tools.functions.truth import Corruption, FunctionTruth

Rng = np.random.Generator
_COMMON = tuple("abcdefghilmnoprstuw")


def _letter(rng: Rng) -> str:
    return str(rng.choice(_COMMON))


#: Features by family.
ATOMS: dict[str, Callable[[Rng], Expr]] = {
    "starts": lambda rng: Expr("starts", (_letter(rng),)),
    "ends": lambda rng: Expr("ends", (_letter(rng),)),
    "contains": lambda rng: Expr("contains", (_letter(rng),)),
    "digit": lambda rng: Expr("digit"),
    "upper": lambda rng: Expr("upper"),
    "palindrome": lambda rng: Expr("palindrome"),
    "vowels": lambda rng: Expr("vowels"),
    "length": lambda rng: Expr("length"),
    "count": lambda rng: Expr("count", (_letter(rng),)),
    "position": lambda rng: Expr("position", (_letter(rng),)),
}
_TRUTHS = ("starts", "ends", "contains", "digit", "upper")
COMPOUNDS = ("and", "or", "not", "sum")


def negated(truth: Expr) -> Expr:
    """1 where a truth value is 0, and the reverse."""
    return const(1) + truth * -1.0


def draw_compound(rng: Rng, kind: str) -> Expr:
    """'and' and 'or' of two truth values, 'not' of one, or the sum of two features of any kind."""
    if kind == "not":
        return negated(ATOMS[str(rng.choice(("contains", "digit", "upper")))](rng))
    pool = tuple(ATOMS) if kind == "sum" else _TRUTHS
    first, second = (ATOMS[str(name)](rng) for name in rng.choice(pool, 2, replace=False))
    if kind == "sum":
        return first * 2.0 + second
    return first * second if kind == "and" else Expr("max", (first, second))


def _corruption(rng: Rng, formula: Expr, words: Sequence[str]) -> Corruption:
    """Words that start with a letter, contain one, have a digit or are in capitals give something else.

    They are between 3 % and 15 % of all words, and differ from what the formula says on most of them.
    """
    values = evaluate(formula, words)
    size = max(float(np.sqrt(np.mean(values**2))), 0.2)
    while True:
        where = ATOMS[str(rng.choice(("starts", "ends", "contains", "digit", "upper")))](rng)
        held = evaluate(where, words) > 0.5
        if not 0.03 <= held.mean() <= 0.15:
            continue
        if rng.random() < 0.5:
            mean = float(np.round(size * rng.uniform(1.5, 3), 3))
            return Corruption(where, None, mean, float(f"{size / 2:.3g}"), int(rng.integers(2**31)))
        other = const(float(np.round(size * rng.choice([-1.5, 2.5, 4.0]), 2)))
        if np.mean(np.abs(evaluate(other, words)[held] - values[held]) > 0.5 * size) > 0.8:
            return Corruption(where, other)


def _is_told(formula: Expr, words: Sequence[str]) -> bool:
    """Whether the corpus can tell the function from a constant: no value has more than 96 % of the words."""
    _, counts = np.unique(evaluate(formula, words), return_counts=True)
    return bool(counts.max() <= 0.96 * len(words))


def _draw(rng: Rng, family: str, words: Sequence[str], known: Sequence[FunctionTruth]) -> Expr | None:
    """A formula that is told by the corpus and none of `known`; None when the family has no other."""
    for _ in range(40):
        formula = draw_compound(rng, family) if family in COMPOUNDS else ATOMS[family](rng)
        # Few words are palindromes; that feature alone may be so rare.
        if (family == "palindrome" or _is_told(formula, words)) and all(
            formula != one.formula for one in known if one.category in ("atom", "compound")
        ):
            return formula
    return None


def string_functions(rng: Rng, count: int, words: Sequence[str]) -> list[FunctionTruth]:
    """`count` functions of a word, in the same proportions as `numeric_functions`."""
    pattern = ("atom", "compound", "atom", "corrupted", "noisy") * 2
    families = [str(name) for name in rng.permutation(list(ATOMS))]
    drawn: list[FunctionTruth] = []
    turns = dict.fromkeys(("atom", "compound", "base"), 0)
    for number in range(count):
        category = pattern[number % len(pattern)]
        compound = category == "compound" or (category in ("corrupted", "noisy") and turns["base"] % 3 == 2)
        which, names = ("compound", list(COMPOUNDS)) if compound else ("atom", families)
        turns["base"] += category in ("corrupted", "noisy")
        formula = None
        while formula is None:
            family = names[turns[which] % len(names)]
            turns[which] += 1
            formula = _draw(rng, family, words, drawn if category in ("atom", "compound") else ())
        corruption = _corruption(rng, formula, words) if category == "corrupted" else None
        size = float(np.sqrt(np.mean(evaluate(formula, words) ** 2)))
        noise = float(f"{size * rng.uniform(0.05, 0.25):.3g}") if category == "noisy" else 0.0
        drawn.append(FunctionTruth(f"fn:string:{number}", category, family, formula, 1.0, corruption, noise))
    return drawn
