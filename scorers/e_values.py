"""Evidence that may be looked at at any time: e-values by betting, from p-values, and the false discoveries they allow.

An e-value is a non-negative statistic whose mean is at most 1 when the null hypothesis is true: the wealth of somebody
who bets against it, starting from 1, at odds that are fair or worse (Shafer 2021, "Testing by betting"). Wealth that is
reinvested as data come in is an *e-process*; by Ville's inequality it ever reaches 1/alpha with probability at most
alpha, however often one looks and whatever decides when to stop. A p-value has no such property: looked at twenty times
it falls below 0.05 about every fourth time although nothing is there (`benchmarks.error_control` shows both).

Over many claims, e-BH (Wang & Ramdas 2022) controls the false-discovery rate under any dependence between them.

A p-value turns into an e-value by a *calibrator* (Vovk & Wang 2021). That is a currency with a loss: p = 0.001 becomes
16 and p = 0.00004 becomes 79, while e-BH over 200 claims asks the first discovery for 200/alpha = 4000. So e-BH on
p-values calibrated once has next to no power; calibrators are for multiplying p-values of several rounds. Where
e-values decide, take them from `scorers.sequential`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from scorers.errors import ScorerError
from scorers.types import DoubleArray

#: Shares of what could be lost at most that a mixture of constant bets stakes. Small ones gain where the mean is near
#: the null's, large ones where it is far above; the best of them is reached up to a factor of their number.
STAKES: Final = (0.05, 0.2, 0.45, 0.7, 0.95)


def log_growth(values: DoubleArray, null_mean: DoubleArray | float, lower: float) -> DoubleArray:
    """What each observation multiplies the wealth of each stake by, as logarithms.

    With stake c, the factor is 1 + c (x - m) / (m - lower) = 1 - c + c (x - lower) / (m - lower), which is never
    negative, and whose mean is at most 1 where the mean of x is at most m: the capital process of Waudby-Smith &
    Ramdas 2024 (eq. 18, one-sided) with the constant bet c / (m - lower).

    Args:
        values: [n], each at least `lower`.
        null_mean: m, a number or an array [...]; the null says that the mean of `values` is at most m. Where m is below
            `lower` no such values exist; there the growth is infinite.
        lower: least possible value.

    Returns:
        [n, ..., stakes]; -inf is not among them, as no stake is everything.
    """
    room = np.asarray(null_mean, dtype=np.float64) - lower
    stakes = np.array(STAKES)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.multiply.outer(np.maximum(values - lower, 0), 1 / room)
    # At m = lower the null allows the least value only: seeing it tells nothing, seeing any other excludes the null.
    ratio = np.where(np.isnan(ratio), 1.0, ratio)
    ratio = np.where(room < 0, np.inf, ratio)
    growth: DoubleArray = np.log(1 - stakes + stakes * ratio[..., None])
    return growth


def mixed(log_wealth: DoubleArray) -> DoubleArray:
    """log of the mean wealth over the stakes (last axis): an average of e-processes is one."""
    top = log_wealth.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        mean = top[..., 0] + np.log(np.exp(log_wealth - top).mean(axis=-1))
    result: DoubleArray = np.where(np.isinf(top[..., 0]), top[..., 0], mean)
    return result


def betting(values: DoubleArray, null_mean: float, *, lower: float, method: str = "mixture",
            upper: float | None = None) -> DoubleArray:  # fmt: skip
    """The e-process against "the mean of these values, given those before, is at most `null_mean`".

    Args:
        values: [..., n] in the order in which they came, each at least `lower`. Larger values than `upper` count as
            `upper`, which can only make the e-process smaller.
        null_mean: greater than `lower`.
        lower: least possible value. There has to be one: no bet is safe against an unbounded loss.
        method: 'mixture' of constant bets (`STAKES`); or 'agrapa', the bet that is nearly best for the mean and the
            variance seen so far (approximate GRAPA, Waudby-Smith & Ramdas 2024, section B.3), at most half of the
            largest.
        upper: cap.

    Returns:
        [..., n]: the e-process after each value.

    Raises:
        ScorerError: a value below `lower`, no room between it and `null_mean`, an unknown method.
    """
    x = np.asarray(values, dtype=np.float64)
    if not null_mean > lower:
        raise ScorerError(f"A bet needs a null mean above the least value, not {null_mean:g} and {lower:g}.")
    if x.size and not (x >= lower).all():
        raise ScorerError(f"The value {np.nanmin(x):g} lies below the bound {lower:g} on which the bets rest.")
    x = x if upper is None else np.minimum(x, upper)
    if method == "mixture":
        return np.exp(mixed(np.cumsum(log_growth(x, null_mean, lower), axis=-2)))
    if method == "agrapa":
        return _agrapa(x, null_mean, lower)
    raise ScorerError(f"There is no way of betting '{method}'. Known: mixture, agrapa.")


def _agrapa(x: DoubleArray, null_mean: float, lower: float) -> DoubleArray:
    count = np.arange(1, x.shape[-1])
    # One made-up value at the null's mean, of a quarter of the room's square, keeps the first estimates finite.
    room = null_mean - lower
    mean = (null_mean + np.cumsum(x, axis=-1)[..., :-1]) / (1 + count)
    square = (null_mean**2 + room**2 / 4 + np.cumsum(x * x, axis=-1)[..., :-1]) / (1 + count)
    gain = mean - null_mean
    bet = gain / (np.maximum(square - mean**2, 1e-12 * room**2) + gain**2)
    # The first bet knows nothing and is small; every other uses the values before its own alone.
    bets = np.concatenate([np.full((*x.shape[:-1], 1), 0.1 / room), np.clip(bet, 0, 0.5 / room)], axis=-1)
    wealth: DoubleArray = np.exp(np.cumsum(np.log1p(bets * (x - null_mean)), axis=-1))
    return wealth


def power_calibrator(p_values: DoubleArray, kappa: float = 0.5) -> DoubleArray:
    """kappa p^(kappa - 1), for 0 < kappa < 1 (Vovk & Wang 2021, eq. 1; POPPER, arXiv 2502.09858, with kappa = 0.5)."""
    if not 0 < kappa < 1:
        raise ScorerError(f"kappa is {kappa:g}; it must lie between 0 and 1.")
    return kappa * _probabilities(p_values) ** (kappa - 1)


def mixture_calibrator(p_values: DoubleArray) -> DoubleArray:
    """(1 - p + p ln p) / (p (ln p)^2): the mean of the power calibrators over kappa (Vovk & Wang 2021, eq. 2)."""
    p = _probabilities(p_values)
    log = np.log(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Near p = 1 the quotient is 0/0; its series there is 1/2 - ln p / 3.
        return np.where(log > -1e-4, 0.5 - log / 3, (1 - p + p * log) / (p * log**2))


CALIBRATORS: Final[dict[str, Callable[[DoubleArray], DoubleArray]]] = {
    "power": power_calibrator,
    "mixture": mixture_calibrator,
}


def e_bh(e_values: Sequence[float] | DoubleArray, alpha: float) -> list[bool]:
    """Which claims e-BH discovers: the k largest, for the largest k whose k-th is at least m / (alpha k).

    The false-discovery rate is at most `alpha` times the share of false claims, under any dependence (Wang & Ramdas
    2022, theorem 2).

    Args:
        e_values: [m], 0 or more.
        alpha: greater than 0.
    """
    e = _evidence(e_values)
    largest = np.sort(e)[::-1]
    enough = np.flatnonzero(largest * alpha * np.arange(1, len(e) + 1) >= len(e))
    if not len(enough):
        return [False] * len(e)
    return [bool(value >= largest[enough[-1]]) for value in e]


def e_q_values(e_values: Sequence[float] | DoubleArray) -> DoubleArray:
    """For each claim the smallest alpha, at most 1, at which e-BH discovers it; [m].

    min over k from its rank on of m / (k E_(k)): Benjamini and Hochberg's adjustment of 1/E.
    """
    e = _evidence(e_values)
    order = np.argsort(-e, kind="stable")
    with np.errstate(divide="ignore"):
        need = len(e) / (np.arange(1, len(e) + 1) * e[order])
    result = np.empty(len(e))
    result[order] = np.minimum(1, np.minimum.accumulate(need[::-1])[::-1])
    return result


def _probabilities(p_values: DoubleArray) -> DoubleArray:
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p > 0) & (p <= 1)).all():
        raise ScorerError("Only p-values above 0 and at most 1 can be calibrated; a p-value of 0 is none.")
    return p


def _evidence(e_values: Sequence[float] | DoubleArray) -> DoubleArray:
    e = np.asarray(e_values, dtype=np.float64)
    if not (e >= 0).all():
        raise ScorerError("e-values must be 0 or more.")
    return e
