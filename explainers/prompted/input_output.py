"""`input-output`: a description from texts that fire the unit and from what it does to the model's output."""

from __future__ import annotations

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import WINDOW, scale_of
from explainers.prompted.forms import DescribedEffect
from explainers.prompted.quantiles import mixed
from explainers.prompted.writes import writes_of
from explainers.registry import register
from explainers.types import Evidence, Recorder


@register("input-output")
class InputOutput(Prompted):
    """Asks a language model with both in one prompt: texts that fire the unit, and tokens that it raises and lowers.

    The ensemble of Gur-Arieh et al. (2025, arXiv 2501.08319), whose descriptions did best on both sides there.

    Args:
        kit: The model and its prompts.
        top: How many of the strongest texts to show.
        tail: How many texts at quantiles of the tail.
        window: Tokens of each.
        n: Samples of the answer.
    """

    name = "input-output"
    prompt = "explain-both"
    form = DescribedEffect
    output_side = True

    def __init__(self, *, kit: LlmKit, top: int = 6, tail: int = 10, window: int = WINDOW, n: int = 1) -> None:
        super().__init__(kit=kit, n=n)
        self.top, self.tail = at_least(top, 1, "top"), at_least(tail, 0, "tail")
        self.window = at_least(window, 4, "window")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """Texts, and lists of tokens where the unit's write is known."""
        shown = mixed(evidence, self.top, self.tail, self.window)
        if not shown:
            return "no text of the explore split fires it"
        scale = scale_of(shown)
        writes = writes_of(evidence, scale)
        lists = {"raises": "", "lowers": "", "measured": ()} if writes is None else writes.lists()
        return Gathered(
            {**evidence_variables(evidence, shown), **lists}, scale, tuple(shown),
            {
                "projected": writes is not None and writes.projected is not None,
                "token_change": writes is not None and writes.changed is not None,
            },
        )  # fmt: skip
