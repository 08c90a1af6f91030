"""Input success: is the unit stronger on texts written to fire it than on texts written to keep it silent?

Gur-Arieh et al. (2025, arXiv 2501.08319) have five sentences of each kind written and count a success when the mean of
their largest activations is larger for those that should fire. One such draw says nothing about one unit: chance is a
half. So more texts are written, and the value is the probability that a draw of the published size would succeed, ties
counted half: the share of all pairs of five texts of each kind (a U-statistic, Hoeffding 1948). Over many units its
mean estimates the published share, and for five texts of each kind it is the published success.

The null shuffles which text was written for which purpose. The interval resamples texts, with one more of each kind
than was seen in half of the resamples, as in `scorers.bootstrap`: the worst of all texts for the lower end, the best
for the upper one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from scorers.bootstrap import PHANTOM_SHARE, TAIL
from scorers.diagnostics.cost import billed
from scorers.diagnostics.outcome import Outcome, Protocol, scored
from scorers.diagnostics.ranks import against_others
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
from scorers.types import DoubleArray, Null, ScoreSet
from tools.subject import Subject
from tools.types import IntArray

NAME: Final = "input_success"
VERSION: Final = 1
DRAW: Final = 5
"""Texts of each kind in one draw, as published."""
LEAST: Final = 10
"""Different texts of each kind without which there is no score."""
_DRAWS: Final = 400
"""Pairs of draws by which shuffled labels are judged; the value itself counts all."""
_RESAMPLED: Final = 1000
"""Draws with replacement by which a resample is judged."""


def score_input_success(claim: Claim, setting: Setting) -> ScoreSet:
    """See the module. Value None, with a reason, without a subject, with too few texts, or where nothing varies."""
    settings = {"prompt": prompt_of(setting).digest, "texts": TEXTS, "draw": DRAW, "longest": LONGEST}
    with billed() as bill:
        if setting.subject is None:
            outcome, ran = Outcome(NAME, reason=NO_SUBJECT), 0
        else:
            outcome, ran = _outcome(claim, setting, setting.subject)
    cost = {**bill.cost, "subject_tokens": float(ran)}
    return (scored(outcome, claim, setting, Protocol(NAME, VERSION, settings), began=bill.began, cost=cost),)


def _outcome(claim: Claim, setting: Setting, subject: Subject) -> tuple[Outcome, int]:
    """Input success, and the tokens run through the subject for it."""
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
        NAME, n_examples=total, unparseable=sum(missing) / max(1, total),
        n_active=int(sum((side > claim.threshold).sum() for side in own)),
    )  # fmt: skip
    for (texts, _), count, what in zip(kinds, counts, ("texts that fire", "texts that stay silent"), strict=True):
        reason = too_few(texts, count, LEAST, what)
        if reason:
            return replace(base, reason=reason), ran
    if np.ptp(np.concatenate(own)) == 0:
        return replace(base, reason="the activation is the same in every text"), ran
    rng = generator(setting.seed, claim.unit, claim.polarity)
    value = success(*own)
    low, high = interval(*own, resamples=setting.resamples, rng=rng)
    nulls = [permutation(*own, draws=setting.resamples, rng=rng)]
    theirs = [success(*_both(kinds, missing, row)) for row in range(1, len(units))]
    pairing = against_others("pairing", value, theirs, MIN_DRAWS)
    nulls += [pairing] if pairing else []
    return replace(base, value=value, low=min(low, value), high=max(high, value), nulls=nulls), ran


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
    """Share of pairs of `DRAW` texts of each kind in which the mean is larger for those that should fire, ties half.

    Args:
        fires: [n] peaks, at least `DRAW`.
        silent: [m].
    """
    left, right = (np.sort(_sums(side)) for side in (fires, silent))
    # Equal multisets in another order of addition differ in their last digits; they are ties.
    slack = 1e-9 * float(np.abs(np.concatenate([left, right])).max(initial=0))
    below = np.searchsorted(right, left - slack, side="left")
    up_to = np.searchsorted(right, left + slack, side="right")
    return float((below + up_to).mean() / (2 * len(right)))


def _sums(peaks: DoubleArray) -> DoubleArray:
    chosen = np.array(list(itertools.combinations(range(len(peaks)), DRAW)))
    sums: DoubleArray = peaks[chosen].sum(axis=1)
    return sums


def permutation(fires: DoubleArray, silent: DoubleArray, *, draws: int, rng: np.random.Generator) -> Null:
    """The success when texts are dealt to the two kinds at random, judged by some draws, the same in each shuffle."""
    peaks = np.concatenate([fires, silent])
    slots = [_choose(n, _DRAWS, rng) for n in (len(fires), len(silent))]
    orders = rng.permuted(np.tile(np.arange(len(peaks)), (draws, 1)), axis=1)
    # The labels as they are come first and are judged by the same draws.
    dealt = peaks[np.concatenate([np.arange(len(peaks))[None], orders])]
    left = dealt[:, slots[0]].sum(axis=2)
    right = dealt[:, len(fires) + slots[1]].sum(axis=2)
    slack = 1e-9 * float(np.abs(peaks).max()) * DRAW
    values = ((left > right + slack) + 0.5 * (np.abs(left - right) <= slack)).mean(axis=1)
    return Null.of("permutation", float(values[0]), values[1:])


def _choose(n: int, draws: int, rng: np.random.Generator) -> IntArray:
    """[draws, DRAW] of n, without replacement."""
    return rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)[:, :DRAW].astype(np.int64)


def interval(
    fires: DoubleArray, silent: DoubleArray, *, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the success when texts are resampled."""
    everything = np.concatenate([fires, silent])
    worst, best = float(everything.min()), float(everything.max())
    lots = rng.random((2, _RESAMPLED * DRAW))
    counts = [rng.multinomial(len(side), np.full(len(side), 1 / len(side)), size=resamples) for side in (fires, silent)]
    extra = rng.exponential(size=(2, resamples)) * (rng.random((2, resamples)) < PHANTOM_SHARE)
    ends = []
    for phantoms in ((worst, best), (best, worst)):
        values = np.empty(resamples)
        for k in range(resamples):
            sums = []
            for kind, side in enumerate((fires, silent)):
                steps = np.cumsum(np.append(counts[kind][k], extra[kind, k]))
                drawn = np.searchsorted(steps, lots[kind] * steps[-1], side="right")
                sums.append(np.append(side, phantoms[kind])[drawn].reshape(_RESAMPLED, DRAW).sum(axis=1))
            slack = 1e-9 * max(abs(worst), abs(best)) * DRAW
            values[k] = ((sums[0] > sums[1] + slack) + 0.5 * (np.abs(sums[0] - sums[1]) <= slack)).mean()
        ends.append(values)
    return (
        float(np.quantile(ends[0], TAIL, method="inverted_cdf")),
        float(np.quantile(ends[1], 1 - TAIL, method="inverted_cdf")),
    )


DIAGNOSTICS.add(NAME, score_input_success)
