"""A language model gives a level for every token: simulation where an endpoint does not tell probabilities.

After the token-by-token simulator of Bills et al. (2023), with all tokens of several texts in one answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explainers.llm.show import shown
from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Levels
from explainers.prompted.predictors import Asked, LlmPredictor
from tools.types import FloatArray

BAR = "|"
"""Between tokens; the bars of a text itself are shown as ¦."""


class LevelsPredictor(LlmPredictor):
    """Predicts from a list of levels for each text.

    A text that is missing from the answer, or whose list does not have one level for each of its tokens, is NaN.
    """

    kind = "levels"
    batch = 8
    max_tokens = 2048
    """Of an answer: some 1,100 for eight texts of 32 tokens with 8 before each."""

    def levels(self, batches: Sequence[Sequence[Asked]]) -> list[list[FloatArray] | LlmError]:
        """See `LlmPredictor.levels`."""
        requests = [
            Request(
                "predict",
                self.prompt.render(texts=[barred(window.pieces) for window in batch], description=self.description),
                self.max_tokens,
                prompt_digest=self.prompt.digest,
            )
            for batch in batches
        ]
        answers = self.kit.llm.ask_all(requests, Levels)
        return [
            answer if isinstance(answer, LlmError) else self._read(batch, answer)
            for batch, answer in zip(batches, answers, strict=True)
        ]

    def _read(self, batch: Sequence[Asked], answer: Levels) -> list[FloatArray]:
        found = [np.full(len(window.inside), np.nan, dtype=np.float32) for window in batch]
        for entry in answer.levels:
            at = entry.text - 1
            if 0 <= at < len(batch) and len(entry.levels) == len(batch[at].pieces):
                found[at] = np.array(entry.levels[batch[at].left :], dtype=np.float32)
            else:
                self.unusable += 1
        return found


def barred(pieces: Sequence[str]) -> str:
    """Tokens on one line with bars between them."""
    return BAR.join(shown(piece).replace(BAR, "¦") for piece in pieces)
