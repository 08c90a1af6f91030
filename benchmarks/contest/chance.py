"""The second control: the agent's own trials, at its forward passes, but chosen by chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.contest.pattern import PatternPolicy
from agent.contest.policy import Context, register
from agent.contest.round import TRIALS, batches
from agent.contest.types import Trial
from benchmarks.contest.control import read_passes

#: The surprise of each trial that was drawn, so that none is left out for being worth little.
WORTH_IT = 0.5


@register("chance")
class ByChance(PatternPolicy):
    """`pattern`, which proposes of its trials only some: as many as fit, drawn by chance.

    Args:
        passes: A JSON file: by tail ('mlp:0:3+') the forward passes that may be spent on it.
    """

    def __init__(self, *, passes: str) -> None:
        super().__init__()
        self.passes = read_passes(Path(passes))

    def trials(self, context: Context) -> list[Trial]:
        """A random choice of those that `pattern` proposes."""
        tail = f"{context.desk.unit}{context.evidence.polarity}"
        left = self.passes.get(tail, 0) - context.contest.passes
        subject = context.desk.bench.subject
        proposed = super().trials(context)
        drawn: list[Trial] = []
        for number in np.random.default_rng(context.seed).permutation(len(proposed)).tolist():
            trial = proposed[number]
            texts = dict.fromkeys(probe.text for probe in trial.probes)
            cost = batches([min(len(subject.encode(text)), subject.context) for text in texts])
            if cost <= left and len(drawn) < TRIALS:
                drawn.append(replace(trial, surprise=WORTH_IT))
                left -= cost
        return drawn
