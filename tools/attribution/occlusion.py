"""Occlusion by imputed tokens: replace each token by others that could stand there, and look at the target again.

The part of a token is F(text) less the mean of F over the replacements. Whether it matters at all is a test of
feature j (Burns et al. 2019, arXiv 1904.00045, IRT): under the hypothesis that the target does not depend on it, the
text's own value is a draw like the others, so that the share of draws at least as large is a p-value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.attribution.impute import Imputer
from tools.attribution.targets import Array, Reader
from tools.types import IntArray


@dataclass(frozen=True)
class Occluded:
    """What became of the target; parallel to the places."""

    scores: Array
    """[place] F(text) less the mean over replacements."""
    spread: Array
    """[place] standard error of that mean."""
    p_values: Array
    """[place] two-sided; 2 / (draws + 1) is the smallest there can be."""
    value: float
    """F(text)."""


def occlude(reader: Reader, places: IntArray, imputer: Imputer, *, draws: int = 8, seed: int = 0) -> Occluded:
    """Replace the token at each place by `draws` others, one place at a time; all variants run in shared batches."""
    rng = np.random.default_rng(seed)
    text = np.array(reader.ids, dtype=np.int64)
    variants = np.tile(text, (1 + len(places) * draws, 1))
    for i, place in enumerate(places):
        rows = slice(1 + i * draws, 1 + (i + 1) * draws)
        variants[rows, place] = imputer.others(reader.ids, int(place), draws, rng)
    values = reader.evaluate(variants)
    value, replaced = float(values[0]), values[1:].reshape(len(places), draws)
    above, below = (replaced >= value - 1e-9).sum(1), (replaced <= value + 1e-9).sum(1)
    p_values = np.minimum(1.0, 2 * (1 + np.minimum(above, below)) / (1 + draws))
    spread = replaced.std(1, ddof=1) / draws**0.5 if draws > 1 else np.full(len(places), np.nan)
    return Occluded(value - replaced.mean(1), spread, p_values, value)
