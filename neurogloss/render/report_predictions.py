"""What both forms of a campaign's report say of predictions and of rivals, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurogloss.render.report_words import share_span
from neurogloss.render.text import count, share

if TYPE_CHECKING:
    from agent.reporting.predictions import Disagreement, PredictionUse

HELD = ("foretold", "held", "share [95 %]")
CURVE = ("said", "inputs", "mean said", "came", "95 %")
INPUTS = ("made-up inputs", "number", "calibration error", "Brier score")
CAPTION = "Dashed: what was said came as often. Bars are 95 % intervals."
_NAMES = {
    "f1": "F1 on sealed text", "precision": "precision", "recall": "recall", "density": "share of active tokens",
    "effect": "change of the named tokens",
}  # fmt: skip
_KINDS = {
    "fresh": "the cause behind another text", "edited": "a token of the cause replaced",
    "beside": "another token replaced", "member": "another token that is named",
    "template": "the cause in made-up frames",
    "shuffled": "in another order", "random": "random tokens",
    "fires": "written to fire it", "near miss": "written to miss by little", "border": "written for the border",
    "unrelated": "written of other things",
}  # fmt: skip


def sentences(use: PredictionUse) -> list[str]:
    """What was foretold, and how probabilities came out."""
    told = [
        f"Before sealed text was opened, {count(use.claims)} descriptions foretold what would be seen, on record with "
        "a digest. No verdict rests on it; it says how far descriptions may be relied on."
    ]
    if use.curve is not None:
        told.append(
            f"At {count(use.curve.n)} inputs that no text holds, what they say (active or not) came in "
            f"{share_span(use.right)}; the probabilities that they gave are off by {use.curve.error:.3f} on average "
            f"(expected calibration error), with a Brier score of {use.curve.brier:.3f}."
        )
    return told


def held_rows(use: PredictionUse) -> list[list[str]]:
    """Intervals that held what came."""
    return [
        [_NAMES.get(name, name), f"{count(one.count)} of {count(one.total)}", share_span(one)]
        for name, one in use.held.items()
    ]


def curve_rows(use: PredictionUse) -> list[list[str]]:
    """The calibration curve."""
    if use.curve is None:
        return []
    return [
        [f"{one.low:.1f}–{one.high:.1f}", count(one.n), f"{one.predicted:.3f}", f"{one.observed:.3f}",
         f"{one.observed_low:.2f}–{one.observed_high:.2f}"]
        for one in use.curve.bins
    ]  # fmt: skip


def kind_rows(use: PredictionUse) -> list[list[str]]:
    """By kind of input."""
    return [
        [_KINDS.get(kind, kind), count(one.n), f"{one.error:.3f}", f"{one.brier:.3f}"]
        for kind, one in use.kinds.items()
    ]


def disagreement_sentence(found: Disagreement) -> str:
    """How many descriptions another might have been chosen for."""
    return (
        f"Beside {count(found.contested)} of {count(found.descriptions)} descriptions others are kept that say "
        "something else and do best in some of the resamples of the refine split "
        f"({count(found.runners_up)} of them, untested)."
    )


def contested_lines(found: Disagreement) -> list[str]:
    """The least sure ones, with what might be said instead."""
    return [
        f"{one.name}: {share(one.selection)} {one.label}; or {share(one.other_selection)} {one.other}"
        for one in found.listed
    ]
