"""`quantiles`: a description from texts of all strengths, the strongest among them."""

from __future__ import annotations

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import WINDOW, Excerpt, distinct, over_the_tail, scale_of, strongest
from explainers.registry import register
from explainers.types import Evidence, Recorder


def mixed(evidence: Evidence, top: int, tail: int, window: int) -> list[Excerpt]:
    """The strongest texts, then texts at quantiles of the rest of the tail."""
    tops = strongest(evidence, window=window)
    return distinct([*tops[:top], *over_the_tail(evidence, tail, window, tops=tops, without=top)])


@register("quantiles")
class Quantiles(Prompted):
    """Asks a language model what texts at all levels of the unit's activation have in common; the default.

    Texts at quantiles of the activations beside the strongest ones make descriptions that hold for more of what the
    unit does than the strongest alone (Paulo et al. 2024, arXiv 2410.13928).

    Args:
        kit: The model and its prompts.
        top: How many of the strongest texts to show.
        tail: How many texts at quantiles of the tail.
        window: Tokens of each.
        n: Samples of the answer.
    """

    name = "quantiles"
    prompt = "explain-examples"

    def __init__(self, *, kit: LlmKit, top: int = 8, tail: int = 12, window: int = WINDOW, n: int = 1) -> None:
        super().__init__(kit=kit, n=n)
        self.top, self.tail = at_least(top, 1, "top"), at_least(tail, 0, "tail")
        self.window = at_least(window, 4, "window")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """Both kinds of texts."""
        shown = mixed(evidence, self.top, self.tail, self.window)
        if not shown:
            return "no text of the explore split fires it"
        return Gathered(evidence_variables(evidence, shown), scale_of(shown), tuple(shown))
