"""Whether an attribution is true of the model: take away, or leave alone, what it ranks first, and run the model.

Attributions that satisfy every axiom can be no better than chance at telling what a model depends on (Bilodeau et al.
2024, arXiv 2212.11870), so each comes with the test by evaluation. Sufficiency and comprehensiveness are means over the
first 1, 5, 10, 20 and 50 % (DeYoung et al. 2020, arXiv 1911.03429); the areas under the insertion and the deletion
curve (Petsiuk et al. 2018, arXiv 1806.07421) are compared with those of random orders. All are on the scale from 0, the
target with everything replaced, to 1, the target as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tools.attribution.targets import Array
from tools.types import BoolArray, IntArray

#: Shares of the ranked parts at which curves are measured; those up to a half make sufficiency and comprehensiveness.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
_ERASER = (0.01, 0.05, 0.1, 0.2, 0.5)
#: A change of the target smaller than this, relative to its size, is nothing to explain.
_LEAST = 1e-4


@dataclass(frozen=True)
class Faithfulness:
    """The test of one order of parts."""

    sizes: tuple[int, ...]
    """How many of the first parts, from none to all."""
    inserted: tuple[float, ...]
    """The target with only so many in place."""
    deleted: tuple[float, ...]
    """The target with so many replaced."""
    orders: int
    """Random orders that were tried."""
    sufficiency: float | None = None
    """1 less the target with only the first parts in place: 0 when they are all it takes. None, as all that follows,
    where replacing everything changes nothing."""
    comprehensiveness: float | None = None
    """1 less the target without the first parts: 1 when it is gone with them."""
    insertion: float | None = None
    """Area under the insertion curve, over the share of parts: near 1 for a good order."""
    deletion: float | None = None
    """Area under the deletion curve: near 0 for a good order."""
    random_insertion: float | None = None
    """Mean over random orders."""
    random_deletion: float | None = None
    p_insertion: float | None = None
    """Share of orders, this one among them, that are as good."""
    p_deletion: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def faithfulness(
    scores: Array,
    evaluate: Callable[[BoolArray], Array],
    *,
    draws: int = 8,
    orders: int = 24,
    seed: int = 0,
) -> Faithfulness:
    """Test the order of parts by their scores, largest first (smallest first where the target is below its baseline).

    Args:
        scores: [part].
        evaluate: The target with only some of the parts in place and the others replaced: bool [row, part] to [row].
            Replacements may be drawn at random, anew in each row.
        draws: Rows over which each point of the curves of this order is a mean.
        orders: Random orders, each with one row a point.
        seed: Of the random orders.
    """
    n, rng = len(scores), np.random.default_rng(seed)
    ends = evaluate(np.repeat(np.array([[True], [False]]), [1, draws], 0) & np.ones((1, n), dtype=bool))
    value, empty = float(ends[0]), float(ends[1:].mean())
    sizes = sorted({0, *(math.ceil(share * n) for share in SHARES), n})
    inner = sizes[1:-1]
    order = np.argsort(-scores if value >= empty else scores, kind="stable")
    rows = [_first(order, n, k, draws) for k in inner]
    shuffled = [_first(other, n, k, 1) for other in (rng.permutation(n) for _ in range(orders)) for k in inner]
    present = np.concatenate([np.zeros((0, n), dtype=bool), *rows, *shuffled])
    found = evaluate(np.concatenate([present, ~present])).reshape(2, -1)
    own = found[:, : len(inner) * draws].reshape(2, len(inner), draws).mean(-1)
    random = found[:, len(inner) * draws :].reshape(2, orders, len(inner))
    inserted, deleted = [empty, *own[0].tolist(), value], [value, *own[1].tolist(), empty]
    curves = Faithfulness(tuple(sizes), tuple(inserted), tuple(deleted), orders)
    span = value - empty
    if abs(span) <= _LEAST * max(1.0, abs(value)):
        return curves

    share = np.array(sizes) / n

    def area(points: Array, first: float, last: float) -> Array:
        whole = np.concatenate(
            [np.full((len(points), 1), first), (points - empty) / span, np.full((len(points), 1), last)], 1
        )
        result: Array = np.trapezoid(whole, share, axis=1)
        return result

    mine = float(area(own[:1], 0.0, 1.0)[0]), float(area(own[1:], 1.0, 0.0)[0])
    by_chance = area(random[0], 0.0, 1.0), area(random[1], 1.0, 0.0)
    at = [sizes.index(math.ceil(part * n)) for part in _ERASER]
    return replace(
        curves,
        sufficiency=float(np.mean([1 - (inserted[i] - empty) / span for i in at])),
        comprehensiveness=float(np.mean([1 - (deleted[i] - empty) / span for i in at])),
        insertion=mine[0],
        deletion=mine[1],
        random_insertion=float(by_chance[0].mean()),
        random_deletion=float(by_chance[1].mean()),
        p_insertion=(1 + int((by_chance[0] >= mine[0]).sum())) / (1 + orders),
        p_deletion=(1 + int((by_chance[1] <= mine[1]).sum())) / (1 + orders),
    )


def _first(order: IntArray, n: int, k: int, times: int) -> BoolArray:
    """The first k of an order in place, in so many rows."""
    present = np.zeros((times, n), dtype=bool)
    present[:, order[:k]] = True
    return present
