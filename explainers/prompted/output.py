"""`output`: a description from what the unit does to the model's output, without any text that fires it."""

from __future__ import annotations

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted
from explainers.prompted.evidence import scale_of, strongest
from explainers.prompted.forms import DescribedEffect
from explainers.prompted.writes import writes_of
from explainers.registry import register
from explainers.types import Evidence, Recorder


@register("output")
class Output(Prompted):
    """Asks a language model what a unit is about, given the tokens whose logits it raises and lowers.

    Vocabulary projection and token change of Gur-Arieh et al. (2025, arXiv 2501.08319). It describes what the unit
    does; what fires it is a guess from that, which the tests judge like any other.

    Args:
        kit: The model and its prompts.
        n: Samples of the answer.
    """

    name = "output"
    prompt = "explain-output"
    form = DescribedEffect
    output_side = True

    def __init__(self, *, kit: LlmKit, n: int = 1) -> None:
        super().__init__(kit=kit, n=n)

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """The lists of tokens."""
        scale = scale_of(strongest(evidence, 1)) or 2 * evidence.threshold
        writes = writes_of(evidence, scale)
        if writes is None:
            return "what it writes cannot be read off the weights or measured"
        return Gathered(
            writes.lists(), scale, (),
            {"projected": writes.projected is not None, "token_change": writes.changed is not None},
        )  # fmt: skip
