"""The matched control: the same proposals, and as many forward passes, spent on texts that nobody chose."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agent.contest.beliefs import Floats
from agent.contest.pattern.bases import Material
from agent.contest.policy import Context, register, rule_predictions
from agent.contest.round import BATCH_TOKENS
from agent.contest.types import Probe, Revision, Rival, Trial
from explainers.pattern.explainer import PatternExplainer
from explainers.registry import register as register_explainer
from explainers.types import Evidence, Explanation, Recorder

#: Trials of one forward pass each in a round.
A_ROUND = 8

_proposals: dict[tuple[str, str, str], list[Explanation]] = {}
_lock = threading.Lock()


@register_explainer("pattern once")
class PatternOnce(PatternExplainer):
    """`pattern`, whose proposals for a unit are made once in a process: agent and control are given the same."""

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """What was proposed before for this tail of this subject's unit, else what `pattern` proposes."""
        assert evidence.subject is not None
        key = evidence.subject.fingerprint, str(evidence.unit), evidence.polarity
        with _lock:
            if key not in _proposals:
                _proposals[key] = super().explain(evidence, recorder)
        return [replace(one) for one in _proposals[key]]


@register("one-shot")
class OneShot:
    """Reads the unit on random windows of the open splits, and revises nothing.

    Args:
        passes: A JSON file: by tail ('mlp:0:3+') the forward passes that may be spent on it.
    """

    def __init__(self, *, passes: str) -> None:
        self.passes = read_passes(Path(passes))

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """See `agent.contest.policy.Policy`."""
        return rule_predictions(context, rivals, probes)

    def trials(self, context: Context) -> list[Trial]:
        """Random windows, as many as fit in the forward passes that are left."""
        tail = f"{context.desk.unit}{context.evidence.polarity}"
        left = min(self.passes.get(tail, 0) - context.contest.passes, A_ROUND)
        material, done = Material(context), len(context.outcomes)
        generator = np.random.default_rng(context.seed)
        return [
            Trial(f"Random texts, {done + number}.", tuple(_windows(material, generator)), surprise=0.5)
            for number in range(left)
        ]

    def revise(self, context: Context) -> list[Revision]:
        """Nothing."""
        return []


@cache
def read_passes(path: Path) -> dict[str, int]:
    """By tail the forward passes that may be spent on it."""
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _windows(material: Material, generator: np.random.Generator) -> list[Probe]:
    """Texts of the corpus up to random positions, which fill one forward pass."""
    contexts, positions, *_ = material.rows
    probes: list[Probe] = []
    longest = 1
    while len(probes) < 512:
        row = int(generator.integers(len(contexts)))
        if positions[row] < 2:
            continue
        probe = material.written(material.body(row))
        if probe is None:
            continue
        longest = max(longest, probe.position + 1)
        # A batch is padded to its longest text.
        if longest * (len(probes) + 1) > BATCH_TOKENS:
            break
        probes.append(probe)
    return probes


def passes_of(claims: Sequence[Any]) -> dict[str, int]:
    """By tail the forward passes that its contest took, from `benchmarks.planted.claims.read_claims`."""
    return {claim.key: claim.contest.get("passes", 0) for claim in claims}
