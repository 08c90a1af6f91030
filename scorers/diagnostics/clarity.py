"""Clarity: is the unit stronger on texts written from its description than on ordinary text?

2 * AUROC - 1 between written texts and the split's common windows, as in FADE (arXiv 2502.16994), with its sign: 1 when
every written text is above every natural one, 0 by chance, below 0 for a description of what keeps the unit silent.
FADE takes the absolute value, twice (of activations and of the result), and loses that.

The interval resamples texts and documents. The first null shuffles which text is a written one. The second, where other
units are known, holds the same texts against those: a description by which any unit would fire is clear of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from scorers.diagnostics.outcome import Outcome
from scorers.diagnostics.ranks import AUROC, against_others, rank, values_of
from scorers.diagnostics.run import run
from scorers.diagnostics.types import DIAGNOSTICS, Claim, Setting
from scorers.diagnostics.written import LONGEST, NATURAL, NO_SUBJECT, TEXTS, Trial, prompt_of, too_few, try_out
from scorers.metrics import METRICS, Comparison
from scorers.permutation import MIN_DRAWS
from scorers.simulation import generator
from scorers.types import DoubleArray
from tools.types import UnitId

NAME: Final = "clarity"
VERSION: Final = 1
LEAST: Final = 5
"""Written texts, and windows, below which a ranking says nothing."""


def clarity(claim: Claim, setting: Setting) -> tuple[Sequence[Outcome], Mapping[str, Any]]:
    """`clarity`. Value None, with a reason, without a subject, and with too few texts or windows."""
    settings = {"prompt": prompt_of(setting).digest, "texts": TEXTS, "windows": NATURAL, "longest": LONGEST}
    others = [other for other in setting.others if other != claim.unit]
    trial = try_out(claim, setting, others=others)
    outcome = Outcome(NAME, reason=NO_SUBJECT) if trial is None else clarity_of(trial, claim, setting, others)
    return [outcome], settings


def clarity_of(trial: Trial, claim: Claim, setting: Setting, others: Sequence[UnitId]) -> Outcome:
    """Clarity of texts that were tried out."""
    usable = trial.natural.usable
    documents = np.array([window.document for window in trial.windows], dtype=np.int64)[usable]
    own = _side_by_side(trial, 0)
    n_written = len(own) - int(usable.sum())
    base = Outcome(
        NAME, n_examples=len(own), n_documents=len(np.unique(documents)), n_active=int((own > claim.threshold).sum()),
        unparseable=trial.unparseable, cost=trial.cost,
    )  # fmt: skip
    reason = too_few(trial.texts, int(trial.written.usable.sum()), LEAST)
    if reason is None and len(documents) < LEAST:
        reason = f"the {setting.view.split} split has {len(documents)} windows to compare with"
    if reason:
        return replace(base, reason=reason)
    labelled = np.arange(len(own)) < n_written
    # Written texts are clusters of their own, numbered apart from documents.
    clusters = np.concatenate([-1 - np.arange(n_written), np.unique(documents, return_inverse=True)[1]])
    found = rank(
        own, labelled, clusters, np.ones(len(own)), threshold=claim.threshold, signed=True,
        resamples=setting.resamples, rng=generator(setting.seed, claim.unit, claim.polarity),
    )  # fmt: skip
    nulls = [found.null] if found.null else []
    if found.value is not None:
        metric = METRICS.get(AUROC)
        theirs = []
        for row in range(1, 1 + len(others)):
            peaks = _side_by_side(trial, row)
            if np.isfinite(peaks).all():
                compared = Comparison(np.maximum(peaks, 0), labelled, peaks, peaks > 0, np.ones(len(peaks)))
                theirs.append(2 * float(values_of(metric, compared, labelled[None])[0]) - 1)
        pairing = against_others("pairing", found.value, theirs, MIN_DRAWS)
        nulls += [pairing] if pairing else []
    return replace(base, value=found.value, low=found.low, high=found.high, nulls=nulls, reason=found.reason)


def _side_by_side(trial: Trial, row: int) -> DoubleArray:
    """One unit's peaks on the written texts, the missing ones (lowest of all), and the natural ones."""
    written, natural = trial.written.peaks[row, trial.written.usable], trial.natural.peaks[row, trial.natural.usable]
    everything = np.concatenate([written, natural])
    lowest = float(everything.min()) - 1 if len(everything) else 0.0
    result: DoubleArray = np.concatenate([written, np.full(trial.missing, lowest), natural])
    return result


#: Gives its scores.
score_clarity = DIAGNOSTICS.add(NAME, partial(run, NAME, VERSION, [NAME], work=clarity))
