"""What a rival expects at places on which nothing was filed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.policy import Context, ProbeTexts, rule_predictions
from agent.contest.types import Probe, Rival, Trial
from explainers.predictors import predictor_of
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule

#: Variants of one text tell as much together as so many texts.
TOGETHER = 8
#: Probability with which a rule beside words speaks for them.
RULE_FOR_WORDS = 0.8


def words_alone(context: Context, rival: Rival) -> bool:
    """Whether its words are what is tested, so that only who reads them can say what they expect."""
    predictor = predictor_of(context.desk.bench.explainer, rival.explanation)
    return predictor is None or bool(getattr(predictor, "costly", False))


def expected_at(context: Context, rival: Rival, probes: Sequence[Probe]) -> Floats:
    """What a rival expects at places on which nothing is filed, [n_probes]."""
    if not words_alone(context, rival):
        return np.asarray(rule_predictions(context, [rival], probes)[0], np.float64)
    if rival.explanation.rule is None:
        return np.full(len(probes), 0.5)
    texts = ProbeTexts(context, probes)
    said = RulePredictor(parse_rule(rival.explanation.rule)).predict(texts, texts.contexts, texts.positions)
    return np.where(said > context.evidence.threshold, RULE_FOR_WORDS, 1 - RULE_FOR_WORDS)


def share_of(trial: Trial) -> float:
    """What one probe of a trial counts: variants of one text share all but a token, and so most of what they tell."""
    return min(1.0, TOGETHER / len(trial.probes)) if "variants" in trial.aim else 1.0


def shares(context: Context) -> dict[Probe, float]:
    """What each probe that was asked so far counts; see `share_of`."""
    return {probe: share_of(outcome.trial) for outcome in context.outcomes for probe in outcome.trial.probes}


def humbler(probabilities: Floats, share: Floats | float) -> Floats:
    """Probabilities whose log odds are a share of what they were: n probes weigh as much as n times the share."""
    odds = share * (np.log(probabilities) - np.log1p(-probabilities))
    return np.asarray(1 / (1 + np.exp(-odds)), np.float64)
