"""Looking twenty times at a description that is not good enough, and stopping at the first success.

The description's F1 is exactly the bar that it should exceed. Twenty times, after another twentieth of the panel's
documents, two tests are made of what has been seen: an ordinary one-sided test at level alpha, clustered by document,
and the e-process, which is to reach 1/alpha.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from benchmarks.error_control.discoveries import rotation_p_values
from benchmarks.error_control.simulate import Corpus, Documents, Truth, draw, source_f1
from scorers.stratified_bets import ACTIVE, SILENT, Bar, Bet, Design
from scorers.types import DoubleArray

LOOKS = 20
DOCUMENTS = 100
ALPHA = 0.05


def counts(drawn: Documents) -> DoubleArray:
    """[documents, 3] hits, misses and false alarms."""
    active, said = drawn.active, drawn.predicted
    return np.stack([(active & said).sum(1), (active & ~said).sum(1), (~active & said).sum(1)], axis=1).astype(float)


def betting(bar: Bar, outcomes: DoubleArray, *, cap: float | None = None) -> DoubleArray:
    """The e-process after each look, [looks]; `cap` as in `Bet`."""
    active = outcomes[:, 0] + outcomes[:, 1]
    if not active.any():
        return np.ones(LOOKS)
    bet = Bet(bar, 1, Design(tuple(active[active > 0].tolist()), int((active == 0).sum())), np.zeros(3), cap=cap)
    over = 0
    path = np.empty(LOOKS)
    for look, part in enumerate(np.array_split(np.arange(len(outcomes)), LOOKS)):
        over += int((outcomes[part, 2] > bet.cap).sum())
        for stratum, chosen in ((ACTIVE, active[part] > 0), (SILENT, active[part] == 0)):
            bet.add(stratum, outcomes[part][chosen])
        # As in scoring, nothing is called a success once a document held more false alarms than bets allow for.
        path[look] = 0.0 if over else bet.e_value
    return path


def ordinary(bar: Bar, outcomes: DoubleArray) -> DoubleArray:
    """One-sided p-values of a t-test over documents, [looks]."""
    balance = bar.balance(outcomes)
    ends = np.linspace(0, len(balance), LOOKS + 1).astype(int)[1:]
    p = np.ones(LOOKS)
    for look, end in enumerate(ends):
        seen = balance[:end]
        if seen.std() > 0:
            p[look] = stats.ttest_1samp(seen, 0.0, alternative="greater").pvalue
    return p


def peeking(rng: np.random.Generator, runs: int, *, population: int = 20_000) -> list[dict[str, Any]]:
    """Share of false alarms of each test, looked at once (at the end) and twenty times."""
    corpus = Corpus(documents=DOCUMENTS)
    rows = []
    for prevalence in (0.01, 0.05):
        source = Truth(prevalence, 0.35, 0.35)
        bar = Bar.plain(source_f1(rng, source, population))
        alarms = np.zeros((runs, 4))
        for run in range(runs):
            outcomes = counts(draw(rng, source, corpus))
            p, e = ordinary(bar, outcomes), betting(bar, outcomes)
            alarms[run] = p[-1] <= ALPHA, (p <= ALPHA).any(), e[-1] >= 1 / ALPHA, (e >= 1 / ALPHA).any()
        rows += _rows(f"F1 at the bar, prevalence {prevalence:g}", alarms)
    alarms = np.zeros((runs, 4))
    for run in range(runs):
        unit, other = draw(rng, Truth(0.02, 1, 1), corpus), draw(rng, Truth(0.02, 1, 1), corpus)
        drawn = Documents(unit.values, other.predicted)
        sizes = np.linspace(0, DOCUMENTS, LOOKS + 1).astype(int)[1:]
        p = np.array([
            rotation_p_values([drawn.active[:k].ravel()], [drawn.predicted[:k].ravel()])[0, 0] for k in sizes
        ])  # fmt: skip
        e = betting(Bar.corrected(0.0, float(drawn.active.mean())), counts(drawn), cap=corpus.length)
        alarms[run] = p[-1] <= ALPHA, (p <= ALPHA).any(), e[-1] >= 1 / ALPHA, (e >= 1 / ALPHA).any()
    return rows + _rows("no relation, prevalence 0.02", alarms)


def _rows(null: str, alarms: DoubleArray) -> list[dict[str, Any]]:
    names = (("p-value", 1), ("p-value", LOOKS), ("e-process", 1), ("e-process", LOOKS))
    return [
        {"null": null, "test": test, "looks": looks, "false_alarms": float(share),
         "two_se": float(2 * np.sqrt(max(share * (1 - share), 1 / len(alarms)) / len(alarms)))}
        for (test, looks), share in zip(names, alarms.mean(axis=0), strict=True)
    ]  # fmt: skip
