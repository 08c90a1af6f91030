"""What trials say about rivals: weights, evidence against each, and what a trial is expected to tell.

A rival gives each probe a probability that the unit is active there; given the rival, probes are independent. Beside
the rivals stands *noise*, by which every probe is a toss of a coin: the rival that is right must beat it too.

*Weight*: the posterior, prior times likelihood over all probes.

*Evidence against a rival* (Ville 1939; Ramdas et al., arXiv 2210.01948): the product over trials of
q(outcome) / p(outcome), where p is the rival's own probability of what came and q that of the mixture of all others and
noise, with the weights that they had before the trial. If the rival is right, this is a non-negative martingale that
begins at 1, whichever trials are chosen and whenever one stops; so with probability at least 1 - alpha it never reaches
1 / alpha.

*Expected information* (Lindley 1956): the mutual information, in bits, of which rival is right and what the trial
brings. To it comes what the answer is worth where no rival is right: the entropy of the policy's `surprise`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Weight of noise at the beginning; the rivals share the rest.
NOISE = 0.1
#: Probes up to which expected information is summed over all outcomes; beyond, it is simulated.
EXACT = 8
SIMULATED = 64
"""Outcomes that are drawn of each rival."""


def log_likelihoods(predictions: Floats, active: npt.NDArray[np.bool_]) -> Floats:
    """Log probability of the outcomes of a trial under each rival.

    Args:
        predictions: Probability that the unit is active, [n_rivals, n_probes], strictly between 0 and 1.
        active: What came, [n_probes].

    Returns:
        [n_rivals], in nats.
    """
    return np.asarray(np.where(active, np.log(predictions), np.log1p(-predictions)).sum(axis=1), np.float64)


def noise_likelihood(n_probes: int) -> float:
    """Log probability of any outcome under noise."""
    return float(-n_probes * np.log(2))


def posterior(log_weights: Sequence[float]) -> Floats:
    """Weights that sum to 1, [n]."""
    logs = np.asarray(log_weights, np.float64)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _log_sum(logs: Floats) -> float:
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).sum()))


def evidence_against(log_weights: Sequence[float], log_noise: float, likelihoods: Floats, noise: float) -> Floats:
    """What one trial adds to the log evidence against each rival.

    Args:
        log_weights: Of the rivals before the trial, [n_rivals].
        log_noise: Weight of noise before the trial, on the same scale.
        likelihoods: From `log_likelihoods`, [n_rivals].
        noise: From `noise_likelihood`.

    Returns:
        log q(outcome) - log p(outcome) for each rival, [n_rivals].
    """
    priors = np.array([*log_weights, log_noise], np.float64)
    logs = np.array([*likelihoods, noise], np.float64)
    added = np.empty(len(likelihoods), np.float64)
    for number in range(len(likelihoods)):
        others = np.arange(len(logs)) != number
        mixture = _log_sum(priors[others] + logs[others]) - _log_sum(priors[others])
        added[number] = mixture - logs[number]
    return added


def expected_information(
    log_weights: Sequence[float], predictions: Floats, *, seed: int, surprise: float = 0.0
) -> float:
    """Bits that a trial is expected to bring.

    Args:
        log_weights: Of the rivals, [n_rivals].
        predictions: Probability that the unit is active, [n_rivals, n_probes].
        seed: Of the outcomes that are drawn where there are more than `EXACT` probes.
        surprise: Probability that the answer is one that no rival gives.
    """
    told = _entropy(np.array([surprise, 1 - surprise]))
    if len(log_weights) < 2 or not predictions.shape[1]:
        return told
    weights = posterior(log_weights)
    differing = predictions[:, np.ptp(predictions, axis=0) > 1e-9]  # where all expect the same, nothing is learned
    if not differing.shape[1]:
        return told
    if differing.shape[1] <= EXACT:
        outcomes = np.array(list(itertools.product((False, True), repeat=differing.shape[1])))
        logs = _per_outcome(differing, outcomes)
        probability = np.exp(logs) * weights[:, None]
        left = sum(
            float(total) * _entropy(joint / total)
            for joint, total in zip(probability.T, probability.sum(axis=0), strict=True)
            if total > 0
        )
        return told + max(_entropy(weights) - left, 0.0)
    generator = np.random.default_rng(seed)
    entropies = []
    for row in differing:
        outcomes = generator.random((SIMULATED, len(row))) < row
        logs = _per_outcome(differing, outcomes) + np.log(np.maximum(weights, 1e-300))[:, None]
        entropies.append(np.mean([_entropy(posterior(column)) for column in logs.T.tolist()]))
    return told + max(_entropy(weights) - float(weights @ np.array(entropies)), 0.0)


def _per_outcome(predictions: Floats, outcomes: npt.NDArray[np.bool_]) -> Floats:
    """Log probability of each outcome under each rival, [n_rivals, n_outcomes]."""
    return np.asarray(np.log(predictions) @ outcomes.T + np.log1p(-predictions) @ ~outcomes.T, np.float64)


def _entropy(probabilities: Floats) -> float:
    """In bits."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log2(some)).sum())
