"""Every planted unit of a campaign against its truth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agent.triage import DENSE
from benchmarks.planted import figures
from benchmarks.planted.claims import Claim
from benchmarks.planted.texts import FreshText
from benchmarks.planted.translate import rule_of
from explainers.predictors import predictor_of
from explainers.rules.language import parse_rule
from explainers.types import Explainer
from tools.planted import PlantedSpec, UnitTruth, documents, near_misses
from tools.subject import Subject
from tools.types import BoolArray, FloatArray, UnitId


@dataclass(frozen=True)
class UnitMarks:
    """How one planted tail of a unit was described. None where a figure does not apply."""

    key: str
    family: str
    rule_bearing: bool
    """Whether it has a rule that a campaign should state; not so for dead and random units, nor for those that are on
    at more than a quarter of all positions, which campaigns leave out by design."""
    in_language: bool
    """Whether the rule can be said in the rule language."""
    how: str
    """'described', 'as its copy' (by the description of the unit that it duplicates), or why not: 'dead', 'dense',
    'no such tail' (the campaign saw no activity of this sign), 'no prediction'."""
    verdict: str
    f1: float | None
    """Against the predicate, on fresh text at true prevalence; 0 for a rule-bearing unit without a description."""
    above_chance: float | None
    near_f1: float | None
    recovered: bool
    recall: float | None
    """Share of the positions where the predicate holds on fresh text that are predicted to be active."""
    concepts: int
    concepts_hit: int
    exception_recall: float | None
    literals: int | None
    members: int | None
    """Elementary tests of the rule, or entries of the table."""
    words: int | None
    true_value: float | None
    """F1 of the description against the unit's own activations on fresh text: what the stored interval is about."""
    stored: float | None
    low: float | None
    high: float | None
    q_value: float | None
    false: bool
    """Whether it would be wrong to accept the description; see `figures.is_false`."""
    seconds: float
    forward_passes: int
    tokens: int
    inert: bool

    @property
    def supported(self) -> bool:
        """Whether the campaign accepted it."""
        return self.verdict == "supported"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Ground:
    """The truth of one planted subject on fresh text; computed once, for all explainers.

    Args:
        subject: The planted subject.
        spec: Which it is.
        truths: The tails to measure.
        context: Tokens of a context, as in the campaign's index.
        tokens: Fresh tokens, about.
        near: Near-miss texts for each tail.
    """

    def __init__(
        self, subject: Subject, spec: PlantedSpec, truths: Sequence[UnitTruth], *, context: int, tokens: int, near: int
    ):
        self.subject, self.spec, self.truths = subject, spec, list(truths)
        self._context, self._near_texts = context, near
        self.fresh = FreshText.of_documents(subject, documents(spec, fresh=1), context=context, tokens=tokens)
        units = list(dict.fromkeys(UnitId.parse(truth.unit) for truth in self.truths))
        self._rows = {str(unit): row for row, unit in enumerate(units)}
        self._activations = self.fresh.activations(subject, units)
        self._active: dict[str, BoolArray] = {}
        self._near: dict[str, tuple[FreshText, BoolArray]] = {}
        self._concepts: dict[str, list[BoolArray]] = {}
        self._excepted: dict[str, tuple[BoolArray, BoolArray]] = {}

    def activation(self, unit: str, polarity: str) -> FloatArray:
        """Signed so that the tail is positive, at each fresh position, [n]."""
        values: FloatArray = self._activations[self._rows[unit]] * np.float32(1 if polarity == "+" else -1)
        return values

    def active(self, truth: UnitTruth) -> BoolArray:
        """Where the unit should be active on fresh text, [n]."""
        if truth.key not in self._active:
            self._active[truth.key] = self.fresh.active(truth)
        return self._active[truth.key]

    def near(self, truth: UnitTruth) -> tuple[FreshText, BoolArray]:
        """Texts in which the predicate just holds or just fails, and where it holds."""
        if truth.key not in self._near:
            texts = near_misses(truth, self.spec, self._near_texts, seed=1)
            cut = FreshText.of(self.subject, texts, context=self._context)
            self._near[truth.key] = cut, cut.active(truth)
        return self._near[truth.key]

    def concepts(self, truth: UnitTruth) -> list[BoolArray]:
        """Where each concept of a polysemantic unit holds on fresh text."""
        if truth.key not in self._concepts:
            self._concepts[truth.key] = [self.fresh.holds(concept) for concept in truth.concepts]
        return self._concepts[truth.key]

    def excepted(self, truth: UnitTruth) -> tuple[BoolArray, BoolArray]:
        """Where the exception keeps the unit silent: on fresh text, and on the near-misses."""
        assert truth.exception is not None
        if truth.key not in self._excepted:
            near, near_active = self.near(truth)
            self._excepted[truth.key] = (
                self.fresh.holds(truth.exception) & ~self.active(truth),
                near.holds(truth.exception) & ~near_active,
            )
        return self._excepted[truth.key]


def measure(ground: Ground, claims: Iterable[Claim], explainer: Explainer | None) -> list[UnitMarks]:
    """Marks of every tail of `ground.truths`, by the claims of one campaign, in the order of the truths.

    Args:
        ground: The truth on fresh text.
        claims: Of the campaign's own units; its blind controls are no planted units.
        explainer: Who wrote the descriptions.
    """
    by_key = {claim.key: claim for claim in claims if claim.control is None}
    return [_marks(ground, truth, *_claim_for(truth, by_key), explainer) for truth in ground.truths]


def _claim_for(truth: UnitTruth, claims: dict[str, Claim]) -> tuple[Claim | None, str]:
    """The claim that speaks for a planted tail, and how."""
    own = claims.get(truth.key)
    # The stub of a dead, dense or duplicate unit bears the sign of its first tail only, and speaks of all of them.
    other = claims.get(f"{truth.unit}{'-' if truth.polarity == '+' else '+'}")
    stub = own or (other if other is not None and other.triaged else None)
    if stub is None:
        return None, "no such tail"
    if not stub.triaged:
        return stub, "described"
    if stub.state == "duplicate":
        original = claims.get(f"{stub.duplicate_of}{truth.polarity}")
        if original is not None and not original.triaged:
            return original, "as its copy"
    return None, stub.state


def _marks(ground: Ground, truth: UnitTruth, claim: Claim | None, how: str, explainer: Explainer | None) -> UnitMarks:
    rule_bearing = truth.has_rule and bool(truth.cases) and not truth.noise
    if rule_bearing and how == "dense" and float(ground.active(truth).mean()) > DENSE:
        rule_bearing = False  # rightly left out: a campaign does not describe what is on so often
    in_language = rule_bearing and rule_of(truth) is not None
    predictor = predictor_of(explainer, claim.explanation) if claim is not None else None
    cut = claim.threshold if claim is not None else None
    base: dict[str, Any] = {
        "key": truth.key, "family": truth.family, "rule_bearing": rule_bearing, "in_language": in_language,
        "how": how if claim is None or predictor is not None else "no prediction",
        "verdict": claim.verdict if claim is not None else "untested",
        "concepts": len(truth.concepts), "inert": truth.inert,
        **_sizes(claim),
        "stored": claim.f1 if claim else None, "low": claim.low if claim else None,
        "high": claim.high if claim else None, "q_value": claim.q_value if claim else None,
        "seconds": claim.seconds if claim else 0.0, "forward_passes": claim.forward_passes if claim else 0,
        "tokens": claim.tokens if claim else 0,
    }  # fmt: skip
    nothing = 0.0 if rule_bearing else None
    empty: dict[str, Any] = {
        "f1": nothing, "above_chance": nothing, "near_f1": nothing, "recall": nothing, "recovered": False,
        "concepts_hit": 0, "exception_recall": None, "true_value": None,
    }  # fmt: skip
    if claim is None or predictor is None or cut is None:
        return UnitMarks(**base, **empty, false=not rule_bearing)
    prediction = ground.fresh.predictions(predictor)
    firing = ground.activation(claim.unit, claim.polarity) > cut
    true_value = figures.f1(figures.called(prediction, cut, firing), firing)
    if not rule_bearing:
        return UnitMarks(**base, **{**empty, "true_value": true_value}, false=True)
    active = ground.active(truth)
    predicted = figures.called(prediction, cut, active)
    f1 = figures.f1(predicted, active) or 0.0
    above = figures.above_chance(f1, predicted, active)
    near, near_active = ground.near(truth)
    near_predicted = figures.called(near.predictions(predictor), cut, near_active)
    near_f1 = figures.f1(near_predicted, near_active) or 0.0
    silent = None
    if truth.exception is not None:
        fresh_excepted, near_excepted = ground.excepted(truth)
        both = np.concatenate([predicted, near_predicted]), np.concatenate([fresh_excepted, near_excepted])
        silent = figures.exception_recall(*both)
    return UnitMarks(
        **base,
        f1=f1,
        above_chance=above,
        near_f1=near_f1,
        recovered=min(f1, near_f1, above) >= figures.RECOVERED,
        recall=float(predicted[active].mean()) if active.any() else None,
        concepts_hit=figures.concepts_hit(predicted, active, ground.concepts(truth)),
        exception_recall=silent,
        true_value=true_value,
        false=figures.is_false(rule_bearing=True, true_above_chance=above),
    )


def _sizes(claim: Claim | None) -> dict[str, int | None]:
    """Length of a description: literals and members of its rule (entries of its table), words of its text."""
    if claim is None:
        return {"literals": None, "members": None, "words": None}
    explanation = claim.explanation
    words = len(re.findall(r"\S+", explanation.input_half))
    if explanation.rule is None:
        return {"literals": None, "members": explanation.details.get("members"), "words": words}
    rule = parse_rule(explanation.rule)
    return {"literals": rule.n_literals, "members": rule.n_members, "words": words}
