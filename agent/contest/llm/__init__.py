"""`llm`: a policy that asks a language model; see `agent.contest.llm.policy`."""

from agent.contest.llm.policy import LlmPolicy

__all__ = ["LlmPolicy"]
