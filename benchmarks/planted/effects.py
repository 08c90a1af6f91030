"""What campaigns say of planted units' effects on the output, against what was planted and what fresh text shows.

The truth about an effect is known in two ways. `tools.planted` says of many units which tokens they raise or lower, and
by how much at least, or that they change nothing. And every claimed change is measured again, on fresh text, by whole
runs with the unit set to zero at one position: no code of the campaign's measurement has a part in it.

- *called inert*: units that fire and change no logit by more than 0.02, whose description says that they do nothing,
  and is supported.
- *false causal claim*: a supported claim that a unit has an effect, where none was planted and certainly none is, or
  whose named tokens move by less than half of what counts on fresh text.
- *false no-effect claim*: a supported claim of no effect for a unit with a planted one.
- *token precision* and *recall*: claimed tokens that are among those planted with that sign, and planted ones that are
  claimed, of as many as a claim can name.
- *dose*: tails with a planted effect of at least 0.5 logits whose trend over doses is positive with p ≤ 0.05 on sealed
  text; *weak dose*: the same on fresh text where the strongest dose is so weak that it moves the planted tokens by half
  a logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.planted.claims import Claim
from explainers.output.claim import NOTABLE, OutputClaim, claim_in
from tools.effects import DOSES, FEW_PLACES, MOST_TOKENS, Places, Tokens, dose_curve
from tools.interventions import Where, run, set_unit
from tools.planted import UnitTruth
from tools.steering.statistics import trend
from tools.subject import Subject
from tools.types import FloatArray, UnitId

Json = dict[str, Any]

#: Fresh positions at which a claimed change is measured.
PLACES = 16
#: A named token must move by so much on fresh text, or a supported claim about it is false.
REAL = NOTABLE / 2
#: Planted effects from this on must show in a dose-response curve.
DOSED = 0.5
LEVEL = 0.05


@dataclass(frozen=True)
class OutputMarks:
    """How one planted tail's effect was described."""

    key: str
    family: str
    inert: bool
    """Whether it fires and is certain to change nothing."""
    least: float | None
    """Logits by which its tokens change at least; None where no effect is planted, or none is claimed to be."""
    kind: str | None
    """Of the claim; None for a tail that was not described."""
    verdict: str
    shift: float | None
    """Of the claimed tokens on fresh text; None where none are named."""
    precision: float | None
    recall: float | None
    dose_p: float | None
    dose_trend: float | None
    weak_p: float | None
    """Of the trend of the planted tokens up to `DOSED` logits, on fresh text."""

    @property
    def supported(self) -> bool:
        return self.verdict == "supported"

    @property
    def causal(self) -> bool:
        """Whether an effect was asserted."""
        return self.supported and self.kind in ("changes", "varies", "later")

    @property
    def called_inert(self) -> bool:
        return self.supported and self.kind == "nothing"

    @property
    def false_causal(self) -> bool:
        return self.causal and (self.inert or (self.shift is not None and self.shift < REAL))

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True)
class FreshRuns:
    """Fresh text on which claimed changes are measured again."""

    subject: Subject
    contexts: Sequence[Sequence[int]]
    activations: Mapping[str, list[FloatArray]]
    """By unit, of each context [pos]."""

    def shift(self, truth: UnitTruth, tokens: Tokens, threshold: float) -> float | None:
        """Mean shift of some tokens when a tail's unit is set to zero where it is on, by whole runs.

        Returns:
            None where it never is on.
        """
        subject, unit, sign = self.subject, UnitId.parse(truth.unit), 1.0 if truth.polarity == "+" else -1.0
        changes: list[FloatArray] = []
        for context, values in zip(self.contexts, self.activations[truth.unit], strict=True):
            places = 1 + np.flatnonzero(sign * values[1:] > threshold)
            if not len(places) or len(changes) == PLACES:
                continue
            position = int(places[len(places) // 2])
            text = torch.tensor([list(context[: position + 1])])
            edit = set_unit(subject, unit, 0.0, Where(positions=position))
            on, off = run(subject, text).logits, run(subject, text, None, [edit]).logits
            assert on is not None
            assert off is not None
            change = (on - off)[0, position, : len(subject.tokenizer)].double()
            changes.append((change - change.mean()).float().numpy())
        return float(tokens.shift(np.stack(changes)).mean()) if changes else None

    def weak_trend(self, truth: UnitTruth, tokens: Tokens, threshold: float) -> float | None:
        """p-value of the trend of tokens over doses of which the strongest moves them by `DOSED` logits.

        Returns:
            None where the unit is on in too few contexts.
        """
        assert truth.effect is not None
        sign = 1.0 if truth.polarity == "+" else -1.0
        found: list[tuple[tuple[int, ...], int]] = []
        for context, values in zip(self.contexts, self.activations[truth.unit], strict=True):
            on = 1 + np.flatnonzero(sign * values[1:] > threshold)
            if len(on) and len(found) < FEW_PLACES:
                found.append((tuple(context), int(on[len(on) // 2])))
        if len(found) < FEW_PLACES:
            return None
        texts, positions = zip(*found, strict=True)
        n = len(found)
        places = Places(texts, np.array(positions), np.zeros(n, np.float32), np.arange(n))
        doses = [sign * truth.level * (DOSED / truth.effect.least) * share for share in DOSES]
        curve = dose_curve(self.subject, UnitId.parse(truth.unit), places, doses, tokens)
        return trend([abs(dose) for dose in doses], curve, 1)[1]


def measure_outputs(fresh: FreshRuns, truths: Sequence[UnitTruth], claims: Mapping[str, Claim]) -> list[OutputMarks]:
    """Marks of every tail, in the order of the truths.

    Args:
        fresh: Fresh text.
        truths: The tails.
        claims: By key, those of the campaign.
    """
    subject = fresh.subject
    ids = {piece: number for number, piece in enumerate(subject.pieces(range(len(subject.tokenizer))))}
    return [_marks(fresh, truth, claims.get(truth.key), ids) for truth in truths]


def _marks(fresh: FreshRuns, truth: UnitTruth, claim: Claim | None, ids: Mapping[str, int]) -> OutputMarks:
    said = None if claim is None or claim.triaged else claim_in(claim.explanation.details)
    shift: float | None = None
    precision: float | None = None
    recall: float | None = None
    if said is not None and claim is not None and said.kind == "changes":
        shift = fresh.shift(truth, said.tokens, claim.threshold or 0.0)
        if truth.effect is not None:
            precision, recall = _overlap(said, truth, ids)
    weak = None
    if truth.effect is not None and truth.effect.least >= DOSED and said is not None and claim is not None:
        planted = np.array([ids[token] for token in truth.effect.tokens])
        signs = np.full(len(planted), truth.effect.sign, np.float32)
        weak = fresh.weak_trend(truth, Tokens(planted, signs), claim.threshold or 0.0)
    dose = claim.outputs.get("output_dose") if claim is not None else None
    return OutputMarks(
        key=truth.key, family=truth.family, inert=truth.inert,
        least=None if truth.effect is None else truth.effect.least,
        kind=None if said is None else said.kind,
        verdict="untested" if claim is None else claim.verdict_output,
        shift=shift, precision=precision, recall=recall,
        dose_p=None if dose is None else dose[1], dose_trend=None if dose is None else dose[0], weak_p=weak,
    )  # fmt: skip


def _overlap(said: OutputClaim, truth: UnitTruth, ids: Mapping[str, int]) -> tuple[float, float]:
    assert truth.effect is not None
    planted = {ids[token] for token in truth.effect.tokens}
    right = {token.id for token in (said.raised if truth.effect.sign > 0 else said.lowered)}
    named = len(said.raised) + len(said.lowered)
    return len(right & planted) / named, len(right & planted) / min(len(planted), MOST_TOKENS)


def summarise_outputs(marks: Sequence[OutputMarks]) -> Json:
    """Figures over many tails."""
    described = [mark for mark in marks if mark.kind is not None]
    inert = [mark for mark in described if mark.inert]
    planted = [mark for mark in described if mark.least is not None]
    dosed = [mark for mark in planted if (mark.least or 0) >= DOSED and mark.verdict != "untested"]
    causal = [mark for mark in described if mark.causal]
    return {
        "described": len(described),
        "tested": sum(mark.verdict != "untested" for mark in described),
        "inert": {"units": len(inert), "called": sum(mark.called_inert for mark in inert)},
        "false_causal": {"claims": len(causal), "false": sum(mark.false_causal for mark in causal)},
        "false_none": {"units": len(planted), "false": sum(mark.called_inert for mark in planted)},
        "planted": {
            "units": len(planted),
            "found": sum(mark.supported and mark.kind == "changes" for mark in planted),
            "precision": _mean([mark.precision for mark in planted]),
            "recall": _mean([mark.recall for mark in planted]),
        },
        "dose": {
            "units": len(dosed),
            "detected": sum(
                mark.dose_p is not None and mark.dose_p <= LEVEL and (mark.dose_trend or 0) > 0 for mark in dosed
            ),
        },
        "weak_dose": {
            "units": sum(mark.weak_p is not None for mark in described),
            "detected": sum(mark.weak_p is not None and mark.weak_p <= LEVEL for mark in described),
        },
        "kinds": {
            kind: sum(mark.kind == kind for mark in described)
            for kind in sorted({mark.kind for mark in described if mark.kind})
        },
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
