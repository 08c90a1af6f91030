"""Weights, evidence and expected information against values worked out by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.contest.beliefs import (
    EXACT,
    evidence_against,
    expected_information,
    log_likelihoods,
    noise_likelihood,
    posterior,
)


def test_posterior_of_two_rivals_after_three_probes() -> None:
    predictions = np.array([[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]])
    likelihoods = log_likelihoods(predictions, np.array([True, True, False]))
    assert np.exp(likelihoods) == pytest.approx([0.9**3, 0.9 * 0.1 * 0.9])
    assert posterior(np.log(0.5) + likelihoods) == pytest.approx([0.9, 0.1])


def test_evidence_is_the_ratio_of_the_others_mixture() -> None:
    """Two rivals and noise with weights 0.6, 0.3 and 0.1; one probe, active; they give it 0.9, 0.2 and a half."""
    likelihoods = log_likelihoods(np.array([[0.9], [0.2]]), np.array([True]))
    added = evidence_against(np.log([0.6, 0.3]).tolist(), math.log(0.1), likelihoods, noise_likelihood(1))
    against_first = (0.3 * 0.2 + 0.1 * 0.5) / 0.4 / 0.9
    against_second = (0.6 * 0.9 + 0.1 * 0.5) / 0.7 / 0.2
    assert np.exp(added) == pytest.approx([against_first, against_second])


@pytest.mark.parametrize(
    ("weights", "given", "bits"),
    [
        # Which of two equal rivals: a probe that is wrong in a tenth of cases tells 1 - H(0.1) bits.
        ([0.5, 0.5], [[0.9], [0.1]], 1 - (-0.9 * math.log2(0.9) - 0.1 * math.log2(0.1))),
        ([0.5, 0.5], [[0.9], [0.9]], 0.0),
        ([1.0, 1e-12], [[0.9], [0.1]], 0.0),
        # H(0.25 * 0.8 + 0.75 * 0.4) - (0.25 H(0.8) + 0.75 H(0.4)), with H of a half being 1.
        ([0.25, 0.75], [[0.8], [0.4]], 1 - (0.25 * 0.7219281 + 0.75 * 0.9709506)),
    ],
)
def test_expected_information_of_one_probe(weights: list[float], given: list[list[float]], bits: float) -> None:
    found = expected_information(np.log(weights).tolist(), np.array(given), seed=0)
    assert found == pytest.approx(bits, abs=1e-6)


def test_expected_information_of_many_probes_is_simulated_as_it_is_summed() -> None:
    generator = np.random.default_rng(4)
    predictions = generator.choice([0.3, 0.7], (3, EXACT))
    weights = np.log([0.5, 0.3, 0.2]).tolist()
    summed = expected_information(weights, predictions, seed=0)
    # Probes on which all agree tell nothing of the rivals, but their number makes the sum a simulation.
    more = np.concatenate([predictions, np.array([[0.6], [0.6], [0.6 + 1e-7]])], axis=1)
    drawn = [expected_information(weights, more, seed=seed) for seed in range(40)]
    assert np.mean(drawn) == pytest.approx(summed, abs=0.04)


def test_surprise_adds_the_entropy_of_its_probability() -> None:
    assert expected_information([0.0], np.zeros((1, 0)), seed=0, surprise=0.5) == pytest.approx(1)
    assert expected_information([0.0], np.zeros((1, 0)), seed=0, surprise=0.0) == 0
    both = expected_information(np.log([0.5, 0.5]).tolist(), np.array([[0.9], [0.1]]), seed=0, surprise=0.5)
    assert both == pytest.approx(1 + 1 - 0.4689956, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_a_right_rival_is_hardly_ever_refuted_however_often_one_looks(alpha: float) -> None:
    """Its evidence is looked at after each of 40 trials, which are chosen so as to speak against it: type-I error."""
    generator = np.random.default_rng(7)
    runs, refuted = 800, 0
    limit = math.log(1 / alpha)
    for _ in range(runs):
        logs, log_noise, against = np.log([0.45, 0.45]), math.log(0.1), 0.0
        for _ in range(40):
            # An opponent that has seen all so far asks where the rivals differ most as long as it is behind.
            right = generator.choice([0.2, 0.8]) if against < 0 else 0.5
            predictions = np.array([[right], [1 - right]])
            likelihoods = log_likelihoods(predictions, generator.random(1) < right)
            noise = noise_likelihood(1)
            against += float(evidence_against(logs.tolist(), log_noise, likelihoods, noise)[0])
            logs, log_noise = logs + likelihoods, log_noise + noise
            if against >= limit:
                refuted += 1
                break
    assert refuted / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
