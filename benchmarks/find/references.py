"""Reference explainers for generated functions. Importing this module registers them by name.

- `find-oracle` is told the truth. What it does not reach, no explainer can: the benchmark is broken.
- `find-random` states a function drawn like the true one from another seed. What it reaches is chance.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from explainers.registry import register
from explainers.symbolic.asking import as_number
from explainers.symbolic.predict import FormulaPredictor
from explainers.types import Evidence, Explanation, Predictor, Recorder, TextSource
from tools.functions import Expr, FunctionTruth, evaluate, load_truth, parse
from tools.functions.expression import DoubleArray, Inputs, const
from tools.functions.numeric import ATOMS, draw_atom
from tools.functions.words import ATOMS as WORD_ATOMS
from tools.types import FloatArray, IntArray


class TruthPredictor:
    """Predicts what is true, the noise of corrupted parts (drawn once for each input) included."""

    name = "truth"

    def __init__(self, truth: FunctionTruth, sign: float):
        self.truth, self.sign = truth, sign

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """The true magnitude at each (context, position), float32 [n]; 0 at tokens of the other domain."""
        pieces = {int(context): texts.pieces(int(context)) for context in np.unique(contexts)}
        found = [pieces[int(c)][int(p)].strip() for c, p in zip(contexts, positions, strict=True)]
        values = {text: self._value(text) for text in set(found)}
        return np.maximum(self.sign * np.array([values[text] for text in found]), 0).astype(np.float32)

    def _value(self, text: str) -> float:
        number = as_number(text)
        if (number is None) == (self.truth.domain == "numeric") or text.startswith("<"):
            return 0.0
        return self.truth.value(text if number is None else number)


@register("find-oracle")
class OracleExplainer:
    """Says what is true of a generated function.

    Args:
        truth: folder of the subject, in which its truth lies.
    """

    name = "find-oracle"

    def __init__(self, *, truth: str):
        self._truth = load_truth(Path(truth))

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The true formula, with the part where it is corrupted; noise there is stated by its mean."""
        truth = self._truth[str(evidence.unit)]
        formula: Expr = truth.formula * truth.scale
        interval: list[float | None] | None = None
        other: str | None = None
        if truth.corruption is not None:
            corruption = truth.corruption
            instead = const(corruption.mean) if corruption.instead is None else corruption.instead * truth.scale
            formula = Expr("where", (corruption.where, instead, formula))
            if truth.domain == "numeric":
                interval = corruption.where.to_json()[1:]
            else:
                other = str(corruption.where)
        details: dict[str, Any] = {
            "formula": str(formula), "domain": truth.domain, "polarity": evidence.polarity, "interval": interval,
            "other_words": other, "elsewhere": 0.0, "queries": 0, "unit": str(evidence.unit),
        }  # fmt: skip
        return [Explanation(self.name, truth.family, f"Its value is {formula}.", None, None, None, details)]

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """Predicts the truth itself, so that rounding in the text costs nothing."""
        sign = 1.0 if explanation.details["polarity"] == "+" else -1.0
        return TruthPredictor(self._truth[explanation.details["unit"]], sign)

    def values(self, details: dict[str, Any], inputs: Inputs) -> DoubleArray:
        """True values at inputs, float64 [n]."""
        return self._truth[details["unit"]].values(inputs)


@register("find-random")
class RandomExplainer:
    """Says something else of every function, of the same kind and size."""

    name = "find-random"

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """An atom drawn by a hash of the unit, with an interval or condition drawn likewise."""
        rng = np.random.default_rng(list(hashlib.sha256(f"random {evidence.unit}".encode()).digest()[:8]))
        domain = evidence.unit.where
        details: dict[str, Any] = {"domain": domain, "polarity": evidence.polarity, "elsewhere": 0.0, "queries": 0}
        if domain == "numeric":
            formula = draw_atom(rng, tuple(ATOMS))[1]
            size = float(np.sqrt(np.mean(evaluate(formula, np.arange(-128.0, 128.0)) ** 2)))
            low = float(rng.integers(-128, 110))
            details.update(formula=str(formula * (1 / size)), interval=[low, low + 16], other_words=None)
        else:
            formula = WORD_ATOMS[str(rng.choice(list(WORD_ATOMS)))](rng)
            other = WORD_ATOMS[str(rng.choice(("starts", "contains", "ends")))](rng)
            details.update(formula=str(formula), interval=None, other_words=str(other))
        text = f"Its value is {details['formula']}."
        return [Explanation(self.name, "a guess", text, None, None, None, details)]

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """As the formula says."""
        details = explanation.details
        return FormulaPredictor(
            parse(details["formula"]), details["domain"], 0.0, 1.0 if details["polarity"] == "+" else -1.0
        )  # fmt: skip
