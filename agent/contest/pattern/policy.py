"""The policy `pattern`: trials by which rules are told apart and mended, without a language model."""

from __future__ import annotations

from collections.abc import Sequence

from agent.contest.beliefs import Floats
from agent.contest.pattern.differences import disagreements
from agent.contest.policy import Context, register, rule_predictions
from agent.contest.types import Probe, Revision, Rival, Trial


@register("pattern")
class PatternPolicy:
    """Thinks of trials by what the rivals' rules say."""

    def predictions(self, context: Context, rivals: Sequence[Rival], probes: Sequence[Probe]) -> Floats:
        """See `agent.contest.policy.Policy`."""
        return rule_predictions(context, rivals, probes)

    def trials(self, context: Context) -> list[Trial]:
        """See `agent.contest.policy.Policy`."""
        return disagreements(context)

    def revise(self, context: Context) -> list[Revision]:
        """See `agent.contest.policy.Policy`."""
        return []
