"""`pattern`: a policy without a language model; see `agent.contest.pattern.policy`."""

from agent.contest.pattern.policy import PatternPolicy

__all__ = ["PatternPolicy"]
