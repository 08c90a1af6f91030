"""Realised false-discovery rates over simulated campaigns, and the power where planted descriptions are good.

Claims are drawn once into banks (units with runs of activity, and descriptions that have nothing to do with them, or
that are right to a known degree), and campaigns of 200 claims are drawn from the banks. The banks are in parts, and
standard errors are those between the parts, so that they cover the banks' own chance as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from benchmarks.error_control.simulate import THRESHOLD, Corpus, SimulatedView, Truth, draw, simulated
from scorers.error_rates import q_values
from scorers.metrics import METRICS, Comparison
from scorers.permutation import density_strata, pairing_null, pooled_p_values
from scorers.sequential import score_sequential
from scorers.types import DoubleArray
from tools.types import BoolArray

CLAIMS = 200
TRUE_SHARES = (0.0, 0.02, 0.1, 0.4)
LEVELS = (0.05, 0.1, 0.2)
PARTS = 10
PREVALENCES = (0.003, 0.01, 0.03, 0.1)
#: Planted precision and recall of true descriptions: F1 of 1, 0.84, 0.75 and 0.61.
QUALITIES = ((1.0, 1.0), (0.9, 0.8), (0.75, 0.75), (0.55, 0.7))
#: Positions of a sample, in documents of 256: with fewer, no p-value could be small enough for Benjamini and Yekutieli.
DOCUMENTS = 32
SHORTEST = 256


def rotation_p_values(active: Sequence[BoolArray], predicted: Sequence[BoolArray]) -> DoubleArray:
    """p-values of F1 against the rotation null, [active, predicted], for samples of equal weights.

    With equal weights the active and the predicted weight are the same at every rotation, so that F1 rises with the
    hits alone: one inverse transform a pair, where `scorers.permutation.rotation_null` has nine, and the same result.
    """
    n = len(active[0])
    margin = max(1, min(SHORTEST, n // 20))
    left = np.conj(fft.rfft(np.array(active, dtype=np.float64), axis=1))
    right = fft.rfft(np.array(predicted, dtype=np.float64), axis=1)
    p = np.empty((len(left), len(right)))
    for i, own in enumerate(left):
        hits = np.rint(fft.irfft(own * right, n, axis=1))
        draws = hits[:, margin : n - margin + 1]
        p[i] = (1 + (draws >= hits[:, :1]).sum(axis=1)) / (1 + draws.shape[1])
    return p


@dataclass(frozen=True)
class Bank:
    """Claims of one part: evidence of false and of true ones; rows are claims."""

    false: dict[str, Any]
    true: dict[str, Any]


def rotation_banks(rng: np.random.Generator, units: int) -> list[Bank]:
    """p-values of `units` x `units` unrelated pairs in each part, and of as many true descriptions as `units`."""
    corpus = Corpus(documents=DOCUMENTS)
    banks = []
    for _ in range(PARTS):
        drawn = [draw(rng, _truth(i), corpus) for i in range(units)]
        others = [draw(rng, _truth(int(rng.integers(len(PREVALENCES)))), corpus) for _ in range(units)]
        active = [d.active.ravel() for d in drawn]
        false = rotation_p_values(active, [d.predicted.ravel() for d in others]).ravel()
        true = np.array([rotation_p_values([d.active.ravel()], [d.predicted.ravel()])[0, 0] for d in drawn])
        banks.append(Bank({"p": false}, {"p": true}))
    return banks


def _truth(i: int) -> Truth:
    prevalence = PREVALENCES[i % len(PREVALENCES)]
    return Truth(prevalence, *QUALITIES[(i // len(PREVALENCES)) % len(QUALITIES)])


def pairing_banks(rng: np.random.Generator, claims: int, others: int = 32) -> list[Bank]:
    """Observed F1, its pairing draws against other units, and the unit's density, of `claims` claims in each part.

    The other units are of about the described unit's density. A rarer one, at a threshold low enough to be active as
    often, would be active in its noise, which has no runs, and would make chance agreement look rarer than it is.
    """
    corpus = Corpus(documents=DOCUMENTS)
    f1 = METRICS.get("f1")
    banks = []
    for _ in range(PARTS):
        drawn = [draw(rng, _truth(i), corpus) for i in range(claims)]
        values = np.stack([d.values.ravel() for d in drawn])
        said = [d.predicted.ravel() for d in drawn]
        kinds: list[dict[str, Any]] = []
        for shift in (len(PREVALENCES) * (claims // len(PREVALENCES) // 2) + 1, 0):
            # A description is held against the unit that it was written for, or against another one.
            rows: dict[str, list[Any]] = {"observed": [], "draws": [], "density": []}
            for i in range(claims):
                own = (i + shift) % claims
                alike = [k for k in range(claims) if k not in (i, own) and (k - own) % len(PREVALENCES) == 0]
                chosen = rng.choice(alike, others, replace=False)
                y = values[own]
                c = Comparison(y, y > THRESHOLD, said[i].astype(float), said[i], np.ones(len(y)))
                null = pairing_null([f1], c, values[chosen]).get("f1")
                if null is not None:
                    rows["observed"].append(null.observed)
                    rows["draws"].append(null.values)
                    rows["density"].append(float(c.active.mean()))
            kinds.append(rows)
        banks.append(Bank(*kinds))
    return banks


def sequential_banks(rng: np.random.Generator, claims: int) -> list[Bank]:
    """e-values against chance where sequential scoring stopped, of false and of true claims."""
    corpus = Corpus(documents=300)
    banks = []
    for _ in range(PARTS):
        kinds: list[dict[str, Any]] = []
        for related in (False, True):
            e = []
            for i in range(claims):
                view, unit, predictor = simulated(rng, _truth(i), corpus)
                if not related:
                    other = draw(rng, _truth(int(rng.integers(16))), corpus)
                    view = SimulatedView(type(other)(view.drawn.values, other.predicted), corpus, rng)
                result = score_sequential(
                    predictor, view, unit, "+", THRESHOLD, resamples=20, metrics=["f1"], seed=int(rng.integers(2**31))
                )
                e.append(result.e_chance)
            kinds.append({"e": np.array(e)})
        banks.append(Bank(*kinds))
    return banks


def _evidence(bank: Bank, rng: np.random.Generator, n_true: int) -> dict[str, Any]:
    """The claims of one campaign, true ones first."""

    def pick(kind: dict[str, Any], n: int) -> dict[str, list[Any]]:
        rows = rng.integers(0, len(next(iter(kind.values()))), n)
        return {name: [values[i] for i in rows] for name, values in kind.items()}

    true, false = pick(bank.true, n_true), pick(bank.false, CLAIMS - n_true)
    return {name: true[name] + false[name] for name in true}


def _discovered(method: str, claims: dict[str, Any], alpha: float, cache: dict[str, list[float | None]]) -> BoolArray:
    if "observed" in claims and "p" not in claims:
        strata = density_strata(claims["density"])
        claims["p"] = pooled_p_values(claims["observed"], claims["draws"], strata).tolist()
    if method == "naive":
        return np.asarray(claims["p"]) <= alpha
    if method not in cache:
        if "e" in claims:
            cache[method] = q_values([None] * CLAIMS, "e-bh", e_values=claims["e"])
        else:
            cache[method] = q_values(claims["p"], method)
    return np.asarray(cache[method], dtype=np.float64) <= alpha


def realised(
    banks: Sequence[Bank], methods: Sequence[str], campaigns: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Mean share of false discoveries with twice its standard error, and power: a row for each method and level."""
    shares: dict[tuple[str, float, float], list[list[float]]] = {}
    found: dict[tuple[str, float, float], list[float]] = {}
    for true_share in TRUE_SHARES:
        n_true = round(true_share * CLAIMS)
        for i in range(campaigns):
            claims = _evidence(banks[i % PARTS], rng, n_true)
            cache: dict[str, list[float | None]] = {}
            for method in methods:
                for alpha in LEVELS:
                    hit = _discovered(method, claims, alpha, cache)
                    key = (method, true_share, alpha)
                    parts = shares.setdefault(key, [[] for _ in range(PARTS)])
                    parts[i % PARTS].append(hit[n_true:].sum() / max(1, hit.sum()))
                    if n_true:
                        found.setdefault(key, []).append(hit[:n_true].mean())
    rows = []
    for key, parts in shares.items():
        means = np.array([np.mean(part) for part in parts if part])
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
        rows.append({
            "method": key[0], "true_share": key[1], "level": key[2], "fdr": float(means.mean()), "two_se": 2 * error,
            "power": float(np.mean(found[key])) if key in found else None,
            "holds": bool(means.mean() <= key[2] + 2 * error),
        })  # fmt: skip
    return rows
