"""Testing what a unit is said to do to the output: its effects on sealed text, against chance and random writes.

The arrays come from the caller, who runs the model (`tools.effects`): one row a place, each place in another document.
Tokens were chosen on open text, so no null of a maximum is needed here: what is tested was fixed before.

- `output_shift`: mean change of the claimed tokens' logits, lowered ones with their sign turned. Its null are random
  directions that are written in the unit's place: as often, as strongly, at the same site.
- `output_rank`: how high the claimed tokens stand among all others (area under the ROC curve; chance is one half).
- `output_dose`: Spearman's correlation of shift and strength, a text at a time; p-value by Page's test.
- `output_kl`, `output_later`: how far the next prediction, and those of the tokens that follow, move.
- `output_most`: the largest mean change of any logit. Of a claim that a unit does nothing, this and the two before must
  be small: tests of equivalence, whose null is that the effect is as large as the bound.
- `output_loss`: what the unit is worth for predicting the text, in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import stats

from explainers.output.claim import NOTABLE, NOTABLE_KL, Kind
from scorers.bootstrap import TAIL, mean_resamples
from scorers.errors import ScorerError
from scorers.types import DoubleArray, Null, Score, ScoreSet, protocol_hash
from tools.effects import Effects, RandomEffects, Tokens, rank_auc
from tools.steering.statistics import trend
from tools.types import FloatArray, IntArray, Split

NAME: Final = "output"
VERSION: Final = 1
#: The metric that decides about a claim of each kind.
DECIDES: Final[Mapping[str, str]] = {
    "changes": "output_shift", "varies": "output_kl", "later": "output_later", "nothing": "output_most",
}  # fmt: skip
#: Numbers in one block of resampled mean changes.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class OutputTest:
    """What a test on sealed text brought back."""

    kind: Kind
    """Of the claim."""
    documents: IntArray
    """[n]"""
    effects: Effects
    """Of n places."""
    tokens: Tokens | None = None
    """The claimed ones."""
    few: IntArray | None = None
    """Which places the random writes and doses were tried at, [m]."""
    random: RandomEffects | None = None
    doses: FloatArray | None = None
    """Activations that were set, [dose]."""
    curve: FloatArray | None = None
    """Mean shift of the claimed tokens at each dose, [m, dose]."""


def score_output(
    test: OutputTest, *, split: Split, settings: Mapping[str, Any], resamples: int = 1000, seed: int = 0
) -> ScoreSet:
    """Score an output half.

    Args:
        test: What was measured, at one place at least.
        split: That the places come from.
        settings: What was done, for the protocol's hash: what stood for off, how many random writes.
        resamples: Of the documents.
        seed: Of the resamples.

    Returns:
        Scores of all metrics that bear on the claim, none of them a headline; the one that decides first.

    Raises:
        ScorerError: There is no place, or the claim's kind needs random writes and there are none.
    """
    n = len(test.effects)
    if not n or len(test.documents) != n:
        raise ScorerError(f"{n} places and {len(test.documents)} documents cannot be scored together.")
    if test.kind in ("changes", "varies") and (test.random is None or test.few is None):
        raise ScorerError(f"A claim of kind '{test.kind}' is tested against random writes, and there are none.")
    made = _Maker(test, str(split), dict(settings), resamples, seed)
    effects = test.effects
    scores: list[Score] = []
    if test.kind == "changes":
        assert test.tokens is not None, "a claim of changes names tokens"
        assert test.random is not None, "checked above"
        scores.append(made.mean("output_shift", test.tokens.shift(effects.change), test.random.shift))
        scores.append(made.mean("output_rank", rank_auc(effects.change, test.tokens), test.random.rank))
        if test.curve is not None and test.doses is not None:
            scores.append(made.dose(test.doses, test.curve))
    later = _row_means(effects.later)
    if test.kind in ("changes", "varies"):
        assert test.random is not None, "checked above"
        scores.append(made.mean("output_kl", effects.kl, test.random.kl))
    elif test.kind == "later":
        scores += [made.above("output_later", later), made.below("output_kl", effects.kl)]
    else:
        scores += [made.most(), made.below("output_kl", effects.kl), made.below("output_later", later)]
        scores[0] = _joint(scores)
    if test.kind in ("changes", "varies"):
        scores.append(made.mean("output_later", later))
    scores.append(made.mean("output_loss", effects.loss))
    first = DECIDES[test.kind]
    return tuple(sorted(scores, key=lambda score: score.metric != first))


def _row_means(values: FloatArray) -> FloatArray:
    """Mean of what is known in each row; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(1)
    sums = np.where(known, values, 0).sum(1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _joint(scores: list[Score]) -> Score:
    """The first with the largest p-value of all: each of several statements must hold (intersection-union test)."""
    known = [score.p_value for score in scores if score.p_value is not None]
    return Score(**{**scores[0].__dict__, "p_value": max(known) if scores[0].p_value is not None else None})


@dataclass(frozen=True)
class _Maker:
    """Makes the scores of one test."""

    test: OutputTest
    split: str
    settings: dict[str, Any]
    resamples: int
    seed: int

    def mean(self, metric: str, values: FloatArray, random: FloatArray | None = None) -> Score:
        """A mean over places, against random writes at some of them."""
        nulls: tuple[Null, ...] = ()
        if random is not None:
            assert self.test.few is not None, "random writes were tried at some places"
            observed = float(values[self.test.few].mean(dtype=np.float64))
            nulls = (Null.of("random", observed, random.mean(1, dtype=np.float64), keep=True),)
        return self._score(metric, values, nulls)

    def above(self, metric: str, values: FloatArray) -> Score:
        """A mean that is said to be above the bound of what counts."""
        return self._score(metric, values, self._bounded(values, 1.0))

    def below(self, metric: str, values: FloatArray) -> Score:
        """A mean that is said to be below the bound."""
        return self._score(metric, values, self._bounded(values, -1.0))

    def most(self) -> Score:
        """The largest mean change of any logit."""
        change = self.test.effects.change.astype(np.float64)
        value = float(np.abs(change.mean(0)).max())
        if len(change) < 2:
            return self._make("output_most", value, None, (), len(change))
        drawn = self._largest(change)
        null = _bound_null(value, drawn, NOTABLE, -1.0)
        ends = float(np.quantile(drawn, TAIL)), float(np.quantile(drawn, 1 - TAIL))
        return self._make("output_most", value, ends, (null,), len(change))

    def dose(self, doses: FloatArray, curve: FloatArray) -> Score:
        """The trend of the tokens' shift with the unit's strength."""
        amounts = np.abs(doses).astype(np.float64)
        value, p = trend(amounts.tolist(), curve, 1, self.seed)
        each = _spearman(amounts, curve)
        assert self.test.few is not None, "doses were tried at some places"
        ends = self._ends(each, self.test.documents[self.test.few])
        return self._make("output_dose", value, ends, (), len(curve), p=p)

    def _largest(self, change: DoubleArray) -> DoubleArray:
        """Largest absolute mean change when places are drawn anew, [resamples]."""
        n, vocabulary = change.shape
        counts = np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), size=self.resamples) / n
        size = max(1, _BLOCK // vocabulary)
        parts = [np.abs(counts[i : i + size] @ change).max(1) for i in range(0, len(counts), size)]
        return np.concatenate(parts)

    def _bounded(self, values: FloatArray, direction: float) -> tuple[Null, ...]:
        known = np.isfinite(values)
        if known.sum() < 2:
            return ()
        drawn = self._resampled(values[known].astype(np.float64), self.test.documents[known])
        return (_bound_null(float(values[known].mean(dtype=np.float64)), drawn, NOTABLE_KL, direction),)

    def _score(self, metric: str, values: FloatArray, nulls: tuple[Null, ...]) -> Score:
        known = np.isfinite(values)
        if not known.any():
            return self._make(metric, None, None, (), 0, reason="the texts end at these places")
        value = float(values[known].mean(dtype=np.float64))
        ends = self._ends(values[known].astype(np.float64), self.test.documents[known])
        return self._make(metric, value, ends, nulls, int(known.sum()))

    def _resampled(self, values: DoubleArray, documents: IntArray) -> DoubleArray:
        rng = np.random.default_rng(self.seed)
        return mean_resamples(values, documents, resamples=self.resamples, rng=rng)

    def _ends(self, values: DoubleArray, documents: IntArray) -> tuple[float, float] | None:
        if len(np.unique(documents)) < 2:
            return None
        low, high = np.quantile(self._resampled(values, documents), [TAIL, 1 - TAIL])
        return float(low), float(high)

    def _make(
        self, metric: str, value: float | None, ends: tuple[float, float] | None, nulls: tuple[Null, ...], n: int, *,
        p: float | None = None, reason: str | None = None,
    ) -> Score:  # fmt: skip
        return Score(
            scorer=NAME,
            metric=metric,
            value=value,
            low=None if ends is None else ends[0],
            high=None if ends is None else ends[1],
            n_examples=n,
            n_documents=n,
            n_active=n,
            null_mean=nulls[0].mean if nulls else None,
            p_value=nulls[0].p_value if nulls else p,
            split=self.split,
            predictor="intervention",
            protocol_hash=protocol_hash(
                NAME, VERSION, {**self.settings, "claim": self.test.kind, "resamples": self.resamples}, metric
            ),
            headline=False,
            reason=reason,
            nulls=nulls,
        )


def _spearman(amounts: DoubleArray, responses: FloatArray) -> DoubleArray:
    """Spearman's correlation of each row [row, amount] with the amounts; 0 where nothing changes."""
    ranks = [stats.rankdata(values, axis=-1) for values in (amounts, responses)]
    x, y = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    spread = np.sqrt((y * y).sum(-1) * (x * x).sum())
    return np.asarray(np.divide(y @ x, spread, out=np.zeros(len(y)), where=spread > 0))


def _bound_null(value: float, drawn: DoubleArray, bound: float, direction: float) -> Null:
    """The null that an effect is as large as a bound, from resamples moved there.

    Args:
        value: Observed.
        drawn: Resamples of it.
        bound: What counts.
        direction: 1: it is said to be above; -1: below.
    """
    at_bound = bound + (drawn - value)
    reached = int((direction * at_bound >= direction * value - 1e-12).sum())
    q95 = float(np.quantile(at_bound, 0.95 if direction > 0 else 0.05))
    return Null("bound", value, bound, q95, (1 + reached) / (1 + len(drawn)), len(drawn))
