"""Generative accuracy: of the texts written from the description, how many does the unit really fire in?

A text counts when the unit's largest activation in it reaches half of the mean of the unit's ten largest maxima in the
split (one a document). SAGE (arXiv 2511.20820) asks for an absolute 8.0, which means something else for every unit;
this does not change when a unit is scaled.

The interval is the binomial one (Clopper & Pearson 1934, mid-p: Lancaster 1961) over texts. Texts of one answer may
resemble each other, so it can be too short for a model that writes the same text over and over in other words. The null
shuffles which text is a written one and which is ordinary text of like length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.ranks import share_interval
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import LONGEST, NATURAL, NO_SUBJECT, TEXTS, Trial, prompt_of, too_few, try_out
from scorers.simulation import HeldOut, generator
from scorers.types import Null

NAME: Final = "generative"
METRIC: Final = "generative_accuracy"
VERSION: Final = 1
STRONGEST: Final = 10
"""Maxima whose mean a text must reach half of."""
SHARE: Final = 0.5
LEAST: Final = 5


def generative(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`generative_accuracy`. Value None, with a reason, without a subject, with too few texts, for a silent unit."""
    settings = {
        "prompt": prompt_of(setting).digest, "texts": TEXTS, "windows": NATURAL, "longest": LONGEST,
        "strongest": STRONGEST, "share": SHARE,
    }  # fmt: skip
    trial = try_out(claim, setting)
    return [Outcome(METRIC, reason=NO_SUBJECT) if trial is None else accuracy_of(trial, claim, setting)], settings


def accuracy_of(trial: Trial, claim: Claim, setting: Setting) -> Outcome:
    """Generative accuracy of texts that were tried out."""
    written = trial.written.peaks[0, trial.written.usable]
    ordinary = trial.natural.peaks[0, trial.natural.usable]
    n = len(written) + trial.missing
    known = [window.document for window, read in zip(trial.windows, trial.natural.usable, strict=True) if read]
    base = Outcome(
        METRIC, n_examples=n + len(ordinary), n_documents=len(set(known)), unparseable=trial.unparseable,
        cost=trial.cost,
    )  # fmt: skip
    top = strongest(trial.held)
    reason = too_few(trial.texts, len(written), LEAST)
    if reason is None and top <= 0:
        reason = f"the unit never fires on this polarity in the {setting.view.split} split"
    if reason:
        return replace(base, reason=reason)
    reached = int((written >= SHARE * top).sum())
    low, high = share_interval(reached, n)
    nulls = []
    if len(ordinary) >= LEAST:
        hits = reached + int((ordinary >= SHARE * top).sum())
        rng = generator(setting.seed, claim.unit, claim.polarity)
        draws = rng.hypergeometric(hits, n + len(ordinary) - hits, n, size=setting.resamples) / n
        nulls.append(Null.of("permutation", reached / n, draws))
    return replace(base, value=reached / n, low=low, high=high, nulls=nulls, n_active=reached)


def strongest(held: HeldOut) -> float:
    """Mean of the ten largest activations of a sample, one a document."""
    documents, number = np.unique(held.documents, return_inverse=True)
    maxima = np.full(len(documents), -np.inf)
    np.maximum.at(maxima, number, held.values)
    return float(np.sort(maxima)[-STRONGEST:].mean())


#: Gives its scores.
score_generative = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, [METRIC], work=generative))
