"""`symbolic`: takes a unit for a function of one number or one word, asks for values and states a formula."""

from __future__ import annotations

import math
import threading
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from explainers.registry import register
from explainers.symbolic.asking import BlackBox, Vocabulary, as_number
from explainers.symbolic.english import label_of, sentence_of
from explainers.symbolic.inquiry import Inquiry
from explainers.symbolic.numbers import Found, find_formula
from explainers.symbolic.predict import FormulaPredictor
from explainers.symbolic.search import Doubles, Library
from explainers.symbolic.words import Features, OtherWords, find_word_formula
from explainers.types import Evidence, EvidenceView, Explanation, Predictor, Recorder
from tools.functions import Expr, evaluate, parse
from tools.types import UnitId

_FEWEST = 24
"""Inputs that there must be of a domain."""
_PROBES = 12

T = TypeVar("T")


@register("symbolic")
class SymbolicExplainer:
    """Explains a unit by a formula of the current token, read as a number or as a word.

    Args:
        numbers: how many numbers to ask for at first.
        words: how many words to ask for.
    """

    name = "symbolic"

    def __init__(self, *, numbers: int = 128, words: int = 256):
        if numbers < _FEWEST or words < _FEWEST:
            raise ValueError(f"numbers and words are at least {_FEWEST}")
        self.n_numbers, self.n_words = numbers, words
        self._lock = threading.Lock()
        self._shared: dict[tuple[Any, ...], Any] = {}

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """The formula, on the side of zero that the explanation is about; None when it has found none."""
        details = explanation.details
        if details.get("formula") is None:
            return None
        sign = 1.0 if details["polarity"] == "+" else -1.0
        return FormulaPredictor(parse(details["formula"]), details["domain"], float(details["elsewhere"]), sign)

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """A single explanation. Without a model to ask, or numbers or words to ask for, it finds nothing."""
        # Asking does not depend on the tail, so a unit's second tail reuses what the first has found.
        key = ("inquiry", id(evidence.subject), id(evidence.refine.texts), str(evidence.unit))
        inquiry = self._once(key, lambda: (evidence, self._inquire(evidence)))[1]
        if isinstance(inquiry, str):
            details: dict[str, Any] = {"literals": 0, "formula": None, "reason": inquiry}
            text = f"No formula of a number or a word was found: {inquiry}."
            return [Explanation(self.name, "no formula found", text, None, None, None, details)]
        recorder.event(
            "queries",
            {
                "queries": inquiry.queries, "contexts": inquiry.contexts, "domain": inquiry.domain,
                "asked": [list(pair) for pair in inquiry.asked], "steps": list(inquiry.steps),
                "formula": str(inquiry.formula),
            },
        )  # fmt: skip
        details = {
            "formula": str(inquiry.formula),
            "domain": inquiry.domain,
            "polarity": evidence.polarity,
            "interval": inquiry.stretch,
            "other_words": inquiry.other_words,
            "noise": inquiry.noise,
            "error": inquiry.rms,
            "refine_nmse": inquiry.refine_nmse,
            "elsewhere": inquiry.elsewhere,
            "queries": inquiry.queries,
        }
        exceptions = sentence_of(inquiry, exceptions=True)
        return [
            Explanation(
                self.name, label_of(inquiry), sentence_of(inquiry), None, None, exceptions or None, details
            )
        ]  # fmt: skip

    def _inquire(self, evidence: Evidence) -> Inquiry | str:
        """What asking comes to, or why there is nothing to ask. It does not depend on the tail."""
        subject = evidence.subject
        if subject is None:
            return "there is no model to ask"
        special = frozenset(int(i) for i in subject.tokenizer.all_special_ids)
        vocabulary: Vocabulary = self._once(
            ("vocabulary", id(evidence.explore.texts)),
            lambda: (evidence.explore.texts, Vocabulary.of(evidence.explore, special)),
        )[1]
        # Places of inputs depend on this alone, so that both tails, and a resumed investigation, see the same values.
        box = BlackBox(subject, evidence.unit, vocabulary, 0)
        there = {"numeric": len(vocabulary.numbers), "string": len(vocabulary.words)}
        if max(there.values()) < _FEWEST:
            return f"the corpus has fewer than {_FEWEST} numbers and words"
        inputs, values = _inputs_of(evidence.explore, evidence.unit)
        sizes, means = {}, {}
        for domain, at in (("numeric", inputs == "numeric"), ("string", inputs == "string")):
            sizes[domain] = float(np.mean(values[at] ** 2)) if at.any() and there[domain] >= _FEWEST else -1.0
            means[domain] = float(np.mean(values[at])) if at.any() else 0.0
        if sizes["numeric"] >= sizes["string"]:
            return self._about_numbers(evidence, box, means["string"])
        return self._about_words(evidence, box, means["numeric"])

    def _about_numbers(self, evidence: Evidence, box: BlackBox, elsewhere: float) -> Inquiry:
        known = np.array(list(box.vocabulary.numbers))
        x = np.array(_spread(known.tolist(), self.n_numbers))
        y = box.numbers(x)
        repeated = _spread(known.tolist(), _PROBES)
        noise = box.noise([box.vocabulary.numbers[v] for v in repeated], [f"{v:g}" for v in repeated])

        def ask(more: Doubles) -> tuple[Doubles, Doubles]:
            there = more[np.isin(more, known)]
            return there, box.numbers(there)

        found = find_formula(x, y, noise, self._library(x), ask)
        error = self._on_refine(evidence, found.formula, "numeric")
        worst = max(0.01, 2 * _share(noise, y))
        if error is not None and error > worst and len(x) < len(known):
            # Numbers that were not asked disagree: ask for all, and keep what does better on refine.
            rest = known[~np.isin(known, x)]
            again = find_formula(
                known, np.concatenate([y, box.numbers(rest)])[np.argsort(np.concatenate([x, rest]))], noise,
                self._library(known), ask,
            )  # fmt: skip
            then = self._on_refine(evidence, again.formula, "numeric")
            if then is not None and then < error:
                steps = (*found.steps, "asked for all", *again.steps)
                found, error = Found(again.formula, again.stretch, again.rms, steps), then
        stretch = found.stretch
        ends = None if stretch is None else [_finite(stretch.low), _finite(stretch.high)]
        return Inquiry(
            "numeric", found.formula, ends, None, stretch is not None and stretch.is_noise,
            0.0 if stretch is None else stretch.spread, noise, found.rms, error, elsewhere, box.queries, box.contexts,
            tuple(box.asked), found.steps,
        )  # fmt: skip

    def _about_words(self, evidence: Evidence, box: BlackBox, elsewhere: float) -> Inquiry:
        asked = _spread(list(box.vocabulary.words), self.n_words)
        features: Features = self._once(("features", tuple(asked)), lambda: Features(asked))
        y = box.words(asked)
        repeated = _spread(asked, _PROBES)
        noise = box.noise([box.vocabulary.words[word] for word in repeated], repeated)
        formula, other, rms, steps = find_word_formula(features, y, noise)
        if other is not None:
            held = evaluate(other.where, list(box.vocabulary.words)) > 0.5
            more = [w for w, h in zip(box.vocabulary.words, held, strict=True) if h and w not in set(asked)]
            asked, y = [*asked, *more], np.concatenate([y, box.words(more)])
            formula, other, rms, again = find_word_formula(Features(asked), y, noise)
            steps = (*steps, f"asked for {len(more)} more words of that kind", *again)
        where: OtherWords | None = other
        return Inquiry(
            "string", formula, None, None if where is None else str(where.where), where is not None and where.is_noise,
            0.0 if where is None else where.spread, noise, rms, self._on_refine(evidence, formula, "string"), elsewhere,
            box.queries, box.contexts, tuple(box.asked), steps,
        )  # fmt: skip

    def _library(self, x: Doubles) -> Library:
        library: Library = self._once(("library", x.tobytes()), lambda: Library(x))
        return library

    def _once(self, key: tuple[Any, ...], make: Any) -> Any:
        """What is the same for all units, made once. Holds what its key's ids belong to."""
        with self._lock:
            if key in self._shared:
                return self._shared[key]
        # Made outside of the lock, which it may need itself; two threads that make the same make equal things.
        made = make()
        with self._lock:
            return self._shared.setdefault(key, made)

    def _on_refine(self, evidence: Evidence, formula: Expr, domain: str) -> float | None:
        """Normalised squared error on the refine split's inputs of the domain, which the fit has not seen."""
        sample = evidence.refine.sample(evidence.unit)
        texts: dict[int, list[str]] = {int(c): evidence.refine.texts.pieces(int(c)) for c in np.unique(sample.contexts)}
        pieces = [texts[int(c)][int(p)].strip() for c, p in zip(sample.contexts, sample.positions, strict=True)]
        numbers = [as_number(piece) for piece in pieces]
        held = [i for i, v in enumerate(numbers) if (v is not None) == (domain == "numeric") and pieces[i].isascii()]
        if not held:
            return None
        inputs = np.array([numbers[i] for i in held], dtype=np.float64) if domain == "numeric" else None
        predicted = evaluate(formula, [pieces[i] for i in held] if inputs is None else inputs)
        true, weights = sample.values[held].astype(np.float64), sample.weights[held].astype(np.float64)
        power = float((weights * true**2).sum())
        error = float((weights * (true - predicted) ** 2).sum()) / power if power else math.inf
        return error if math.isfinite(error) else None


def _spread(values: list[T], count: int) -> list[T]:
    """`count` of some values, evenly spread over their order; all of them when there are no more."""
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int)).tolist()]


def _inputs_of(view: EvidenceView, unit: UnitId) -> tuple[npt.NDArray[np.str_], Doubles]:
    """For each sampled position of a split whether it holds a number or a word, and the unit's value there."""
    sample = view.sample(unit)
    texts = {int(c): view.texts.pieces(int(c)) for c in np.unique(sample.contexts)}
    pieces = [texts[int(c)][int(p)].strip() for c, p in zip(sample.contexts, sample.positions, strict=True)]
    kinds = ["numeric" if as_number(t) is not None else "string" if t.isalnum() else "" for t in pieces]
    return np.array(kinds), sample.values.astype(np.float64)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _share(noise: float, y: Doubles) -> float:
    """Part of the values' power that is noise."""
    power = float(np.mean(y**2))
    return noise**2 / power if power else 0.0
