"""`pairs`: a description from lists of tokens with their levels."""

from __future__ import annotations

from dataclasses import dataclass

from explainers.llm.kit import LlmKit
from explainers.prompted.asking import Gathered, Prompted, at_least, evidence_variables
from explainers.prompted.evidence import Excerpt, line, listing, scale_of, strongest
from explainers.registry import register
from explainers.types import Evidence, Recorder

SPARSE = 0.2
"""Share of tokens above level 0 below which they are listed once more by themselves."""


@dataclass(frozen=True)
class TokenList:
    """A text, token by token."""

    text: str
    """On one line, active tokens marked."""
    pairs: tuple[tuple[str, int], ...]
    """Each token with its level."""
    levels: str
    """Those above 0 once more, where they are few."""


@register("pairs")
class Pairs(Prompted):
    """Asks a language model what a unit does, given each token of a few texts with its level from 0 to 10.

    The format of Bills et al. (2023): a token, a tab and floor(10 · activation / maximum) on each line; where fewer
    than a fifth of the levels are above 0, those are listed again after the text.

    Args:
        kit: The model and its prompts.
        examples: How many texts to show.
        window: Tokens of each.
        n: Samples of the answer.
    """

    name = "pairs"
    prompt = "explain-pairs"

    def __init__(self, *, kit: LlmKit, examples: int = 5, window: int = 48, n: int = 1) -> None:
        super().__init__(kit=kit, n=n)
        self.examples, self.window = at_least(examples, 1, "examples"), at_least(window, 4, "window")

    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """The strongest texts, token by token."""
        shown = strongest(evidence, self.examples, self.window)
        if not shown:
            return "no text of the explore split fires it"
        scale = scale_of(shown)
        variables = evidence_variables(evidence, shown)
        variables["texts"] = [_listed(excerpt, scale, evidence.threshold) for excerpt in shown]
        return Gathered(variables, scale, tuple(shown))


def _listed(excerpt: Excerpt, scale: float, threshold: float) -> TokenList:
    """Levels rounded down, as in the format's source; those above 0 listed again when they are few."""
    written = line(excerpt, scale, threshold)
    pairs = tuple((piece, int(10 * value // scale)) for piece, value in written.tokens)
    above = [(piece, level) for piece, level in pairs if level]
    return TokenList(written.text, pairs, listing(above) if len(above) < SPARSE * len(pairs) else "")
