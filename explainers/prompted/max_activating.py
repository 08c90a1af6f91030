"""`max-activating`: a description from the unit's strongest texts alone."""

from __future__ import annotations

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import WINDOW, scale_of, strongest
from explainers.registry import register
from explainers.types import Evidence, Recorder


@register("max-activating")
class MaxActivating(Prompted):
    """Asks a language model what the unit's strongest texts have in common.

    The oldest way (Bills et al. 2023 show five texts, Paulo et al. 2024 up to forty), and the plainest: it sees the top
    of the distribution only, so its descriptions tend to be too narrow.

    Args:
        kit: The model and its prompts.
        examples: How many texts to show.
        window: Tokens of each.
        n: Samples of the answer.
    """

    name = "max-activating"
    prompt = "explain-examples"

    def __init__(self, *, kit: LlmKit, examples: int = 20, window: int = WINDOW, n: int = 1) -> None:
        super().__init__(kit=kit, n=n)
        self.examples, self.window = at_least(examples, 1, "examples"), at_least(window, 4, "window")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """The strongest texts."""
        shown = strongest(evidence, self.examples, self.window)
        if not shown:
            return "no text of the explore split fires it"
        return Gathered(evidence_variables(evidence, shown), scale_of(shown), tuple(shown))
