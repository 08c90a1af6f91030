"""Input success: is the unit stronger on texts written to fire it than on texts written to keep it silent?

Gur-Arieh et al. (2025, arXiv 2501.08319) have five sentences of each kind written and count a success when the mean of
their largest activations is larger for those that should fire. One such draw says little about one unit: chance is a
half. So more texts are written, and the value is the probability that a draw of the published size would succeed: the
share of all pairs of five texts of each kind (a U-statistic, Hoeffding 1948). Over many units its mean estimates the
published share, and for five texts of each kind it is the published success. A tie is no success, as published: a
description by which no text fires the unit has 0, not a half.

The null shuffles which text was written for which purpose. The interval resamples texts, with one more of each kind
than was seen in half of the resamples, as in `scorers.bootstrap`: the worst of all texts for the lower end, the best
for the upper one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final

import numpy as np

from scorers.bootstrap import PHANTOM_SHARE, TAIL
from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.ranks import against_others
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import (
    LONGEST,
    NO_SUBJECT,
    TEXTS,
    Readings,
    Texts,
    encoded,
    prompt_of,
    read,
    too_few,
    write,
)
from scorers.permutation import MIN_DRAWS
from scorers.simulation import generator
from scorers.types import DoubleArray, Null
from tools.subject import Subject
from tools.types import IntArray

NAME: Final = "input_success"
VERSION: Final = 1
DRAW: Final = 5
"""Texts of each kind in one draw, as published."""
LEAST: Final = 10
"""Different texts of each kind without which there is no score."""
_DRAWS: Final = 400
"""Pairs of draws by which shuffled labels and resamples are judged; the value itself counts all."""


def input_success(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`input_success`. Value None, with a reason, without a subject and with too few texts."""
    settings = {"prompt": prompt_of(setting).digest, "texts": TEXTS, "draw": DRAW, "longest": LONGEST}
    if setting.subject is None:
        return [Outcome(NAME, reason=NO_SUBJECT)], settings
    return [_outcome(claim, setting, setting.subject)], settings


def _outcome(claim: Claim, setting: Setting, subject: Subject) -> Outcome:
    others = [other for other in setting.others if other != claim.unit]
    units = [claim.unit, *others]
    kinds: list[tuple[Texts, Readings]] = []
    for fires in (True, False):
        texts = write(claim, setting, fires=fires)
        readings = read(subject, units, claim.polarity, encoded(subject, texts.texts))
        kinds.append((texts, readings))
    missing = [texts.missing + int((~readings.usable).sum()) for texts, readings in kinds]
    counts = [int(readings.usable.sum()) for _, readings in kinds]
    total = sum(counts) + sum(missing)
    ran = sum(int(readings.lengths.sum()) for _, readings in kinds)
    own = _both(kinds, missing, 0)
    base = Outcome(
        NAME, n_examples=total, unparseable=sum(missing) / max(1, total), cost={"subject_tokens": float(ran)},
        n_active=int(sum((side > claim.threshold).sum() for side in own)),
    )  # fmt: skip
    for (texts, _), count, what in zip(kinds, counts, ("texts that fire", "texts that stay silent"), strict=True):
        reason = too_few(texts, count, LEAST, what)
        if reason:
            return replace(base, reason=reason)
    rng = generator(setting.seed, claim.unit, claim.polarity)
    value = success(*own)
    low, high = interval(*own, typical=2 * claim.threshold or 1.0, resamples=setting.resamples, rng=rng)
    nulls = [permutation(*own, draws=setting.resamples, rng=rng)]
    # Units are compared by some draws only, all by the same.
    slots = [_choose(len(side), _DRAWS, rng) for side in own]
    compared = [_share(*(side[at] for side, at in zip(_both(kinds, missing, row), slots, strict=True)))
                for row in range(len(units))]  # fmt: skip
    pairing = against_others("pairing", compared[0], compared[1:], MIN_DRAWS)
    nulls += [pairing] if pairing else []
    return replace(base, value=value, low=min(low, value), high=max(high, value), nulls=nulls)


def _both(kinds: Sequence[tuple[Texts, Readings]], missing: Sequence[int], row: int) -> tuple[DoubleArray, DoubleArray]:
    """One unit's peaks on the texts that should fire and on those that should not, a missing text being as wrong as the
    worst that was read."""
    fires, silent = (readings.peaks[row, readings.usable] for _, readings in kinds)
    everything = np.concatenate([fires, silent])
    lowest, highest = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 0.0)
    return (
        np.concatenate([fires, np.full(missing[0], lowest)]),
        np.concatenate([silent, np.full(missing[1], highest)]),
    )


def success(fires: DoubleArray, silent: DoubleArray) -> float:
    """Share of pairs of `DRAW` texts of each kind in which the mean is larger for those that should fire.

    Args:
        fires: [n] peaks, at least `DRAW`.
        silent: [m].
    """
    left, right = (side[_all_draws(len(side))].sum(axis=1) for side in (fires, silent))
    below = np.searchsorted(np.sort(right), left - _slack(left, right), side="left")
    return float(below.mean() / len(right))


@cache
def _all_draws(n: int) -> IntArray:
    """All choices of `DRAW` of n."""
    return np.array(list(itertools.combinations(range(n), DRAW)), dtype=np.int64)


def _share(fires: DoubleArray, silent: DoubleArray) -> float:
    """Share of successes of drawn peaks, [draws, DRAW] each."""
    left, right = fires.sum(axis=1), silent.sum(axis=1)
    return float((left > right + _slack(left, right)).mean())


def _slack(left: DoubleArray, right: DoubleArray) -> float:
    """What sums of the same numbers in another order can differ by."""
    return 1e-9 * max(float(np.abs(left).max()), float(np.abs(right).max()))


def permutation(fires: DoubleArray, silent: DoubleArray, *, draws: int, rng: np.random.Generator) -> Null:
    """The success when texts are dealt to the two kinds at random, judged by some draws, the same in each shuffle."""
    peaks = np.concatenate([fires, silent])
    slots = [_choose(n, _DRAWS, rng) for n in (len(fires), len(silent))]
    # The labels as they are come first and are judged by the same draws.
    dealt = np.tile(peaks, (draws + 1, 1))
    dealt[1:] = rng.permuted(dealt[1:], axis=1)
    left = dealt[:, slots[0]].sum(axis=2)
    right = dealt[:, len(fires) + slots[1]].sum(axis=2)
    values = (left > right + _slack(left, right)).mean(axis=1)
    return Null.of("permutation", float(values[0]), values[1:])


def _choose(n: int, draws: int, rng: np.random.Generator) -> IntArray:
    """[draws, DRAW] of n, without replacement."""
    return rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)[:, :DRAW].astype(np.int64)


def interval(
    fires: DoubleArray, silent: DoubleArray, *, typical: float, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the success when texts are resampled.

    In half of the resamples each kind has a text more, whose weight beside the n others is exponential with mean 1; a
    drawn text is that one with the probability of its weight. In the one the unit is silent, in the other as strong as
    in any that was seen, and no less than `typical`.
    """
    everything = np.concatenate([fires, silent])
    worst, best = min(0.0, float(everything.min())), max(typical, float(everything.max()))
    sums: list[list[DoubleArray]] = []
    for side, (low, high) in ((fires, (worst, best)), (silent, (best, worst))):
        again = side[rng.integers(len(side), size=(resamples, len(side)))]
        extra = rng.exponential(size=resamples) * (rng.random(resamples) < PHANTOM_SHARE)
        drawn = again[:, rng.integers(len(side), size=(_DRAWS, DRAW))]
        unseen = rng.random((_DRAWS, DRAW)) < (extra / (extra + len(side)))[:, None, None]
        sums.append([np.where(unseen, phantom, drawn).sum(axis=2) for phantom in (low, high)])
    low_end, high_end = ((left > right + _slack(left, right)).mean(axis=1) for left, right in zip(*sums, strict=True))
    return (
        float(np.quantile(low_end, TAIL, method="inverted_cdf")),
        float(np.quantile(high_end, 1 - TAIL, method="inverted_cdf")),
    )


#: Gives its scores.
score_input_success = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, [NAME], work=input_success))
