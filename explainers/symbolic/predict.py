"""A formula as a predictor of activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explainers.symbolic.asking import as_number
from explainers.types import TextSource
from tools.functions import Expr, evaluate
from tools.types import FloatArray, IntArray


@dataclass
class FormulaPredictor:
    """Predicts the value of a formula at the token itself, on one side of zero."""

    formula: Expr
    domain: str
    """'numeric' or 'string'."""
    elsewhere: float
    """Value at tokens that are no input of the function."""
    sign: float
    name: str = "formula"

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Magnitude on the description's polarity; NaN where the formula is not defined."""
        pieces = {int(context): texts.pieces(int(context)) for context in np.unique(contexts)}
        found = [pieces[int(c)][int(p)].strip() for c, p in zip(contexts, positions, strict=True)]
        values = {text: self.elsewhere for text in set(found)}
        if self.domain == "numeric":
            numbers = {text: number for text in values if (number := as_number(text)) is not None}
            x = np.array(list(numbers.values()), dtype=np.float64)
            values.update(zip(numbers, evaluate(self.formula, x).tolist(), strict=True))
        else:
            words = [text for text in values if text.isalnum() and as_number(text) is None]
            values.update(zip(words, evaluate(self.formula, words).tolist(), strict=True))
        predicted = np.array([values[text] for text in found], dtype=np.float64)
        predicted[~np.isfinite(predicted)] = np.nan
        return np.maximum(self.sign * predicted, 0.0).astype(np.float32)
