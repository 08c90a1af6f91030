"""`contrastive`: a description from texts that fire the unit beside texts that look like them and do not."""

from __future__ import annotations

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.contrasts import co_active, same_tokens
from explainers.prompted.evidence import WINDOW, Excerpt, Panel, distinct, scale_of
from explainers.prompted.negatives import hard_texts
from explainers.prompted.quantiles import mixed
from explainers.registry import register
from explainers.types import Evidence, Recorder


@register("contrastive")
class Contrastive(Prompted):
    """Asks a language model what tells texts that fire the unit from look-alikes that leave it silent.

    The look-alikes have the same tokens, are most like the texts that fire it as `kit.likeness` sees it, or fire the
    units that mostly fire along with this one. Without them a description need only fit what fires the unit, and so is
    too broad (Paulo et al. 2024 found detection to fall to about chance against such texts).

    Args:
        kit: The model and its prompts.
        top: How many of the strongest texts to show.
        tail: How many texts at quantiles of the tail.
        silent: How many look-alikes.
        window: Tokens of each.
        n: Samples of the answer.
    """

    name = "contrastive"
    prompt = "explain-contrastive"

    def __init__(
        self, *, kit: LlmKit, top: int = 6, tail: int = 8, silent: int = 10, window: int = WINDOW, n: int = 1
    ) -> None:
        super().__init__(kit=kit, n=n)
        self.top, self.tail = at_least(top, 1, "top"), at_least(tail, 0, "tail")
        self.silent, self.window = at_least(silent, 1, "silent"), at_least(window, 4, "window")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """Texts that fire the unit, and look-alikes."""
        shown = mixed(evidence, self.top, self.tail, self.window)
        if not shown:
            return "no text of the explore split fires it"
        silent = self.look_alikes(evidence, shown)
        return Gathered(
            evidence_variables(evidence, shown, silent), scale_of(shown), tuple(shown),
            {"silent": len(silent), "silent_places": [list(excerpt.place) for excerpt in silent],
             "likeness": self.kit.likeness.name},
        )  # fmt: skip

    def look_alikes(self, evidence: Evidence, shown: list[Excerpt]) -> list[Excerpt]:
        """Silent texts; the three kinds take turns."""
        panel = Panel(evidence)
        kinds = (
            same_tokens(evidence, panel, shown, self.silent, self.window),
            hard_texts(evidence, self.kit, self.silent, self.window),
            co_active(evidence, panel, self.silent, self.window),
        )
        turns = (excerpt for rank in range(self.silent) for texts in kinds for excerpt in texts[rank : rank + 1])
        return distinct(turns)[: self.silent]
