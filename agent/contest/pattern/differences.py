"""Where do two rivals disagree? Texts of the open splits on which they do, and the least change that makes them."""

from __future__ import annotations

import itertools

import numpy as np

from agent.contest.pattern.bases import Material
from agent.contest.policy import Context
from agent.contest.types import Probe, Rival, Trial
from explainers.predictors import predictor_of
from tools.index import SplitView
from tools.types import BoolArray

#: Probes of a trial between two rivals.
EACH = 16
#: Tokens of text before a place, at most: what a rule looks at is nearly always nearer.
LONGEST = 48


def disagreements(context: Context) -> list[Trial]:
    """For each pair of rivals: texts on which the one expects activity and the other does not.

    The index knows the activation at such places already. The texts are therefore cut: the same tokens without what
    stands far before them, where neither rival looks.
    """
    done = {tuple(outcome.trial.aim.get("pair", ())) for outcome in context.outcomes}
    rules = {rival.key: rival.explanation.rule for rival in context.contest.rivals}
    asked = {frozenset(rules[key] for key in pair) for pair in done if pair}
    trials = []
    for first, second in itertools.combinations(context.rivals, 2):
        pair = frozenset((rules[first.key], rules[second.key]))
        if pair in asked or len(pair) == 1:
            continue  # a head's rivals may have a rule in common
        asked.add(pair)
        probes = _apart(context, first, second)
        if probes:
            trials.append(
                Trial(
                    f"{first.key} and {second.key} disagree on these texts of the corpus: which of them is right?",
                    tuple(probes), aim={"kind": "disagreement", "pair": [first.key, second.key]},
                )
            )  # fmt: skip
    return trials


def _apart(context: Context, first: Rival, second: Rival) -> list[Probe]:
    generator = np.random.default_rng(context.seed)
    probes: list[Probe] = []
    for view in (context.evidence.explore, context.evidence.refine):
        assert isinstance(view, SplitView)
        said = [_said(context, rival, view) for rival in (first, second)]
        if said[0] is None or said[1] is None:
            return []
        sample = view.sample(context.desk.unit)
        rows = np.flatnonzero(said[0] != said[1])
        for row in generator.permutation(rows)[: 4 * EACH].tolist():
            probe = cut_probe(context, view, int(sample.contexts[row]), int(sample.positions[row]))
            if probe is not None and probe not in probes and len(probes) < EACH:
                probes.append(probe)
    return probes


def _said(context: Context, rival: Rival, view: SplitView) -> BoolArray | None:
    predictor = predictor_of(context.desk.bench.explainer, rival.explanation)
    if predictor is None or getattr(predictor, "costly", False):
        return None
    sample = view.sample(context.desk.unit)
    return np.asarray(predictor.predict(view.texts, sample.contexts, sample.positions) > context.evidence.threshold)


def cut_probe(context: Context, view: SplitView, number: int, position: int) -> Probe | None:
    """The text of a context up to a position, without what stands far before; None where it cannot be written down."""
    skip = len(context.desk.bench.subject.prefix)
    body = view.texts.ids(number).tolist()[skip : position + 1]
    return Material(context).written(body[-LONGEST:]) if body else None
