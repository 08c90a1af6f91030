"""A language model quotes the tokens on which a description says that the unit fires, with how strongly.

Most units are silent nearly everywhere, so that an answer is a few quotes and costs little. What is not quoted is
predicted to be silent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from explainers.llm.show import Shown, show
from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Marks
from explainers.prompted.predictors import Asked, LlmPredictor
from tools.types import FloatArray

#: '3': text 3, wherever the quote is in it; '3.2': its second occurrence there.
_PLACE = re.compile(r"\[?(?P<text>\d{1,4})\]?(?:\.(?P<occurrence>[1-9]\d{0,2}))?")


class MarksPredictor(LlmPredictor):
    """Predicts from quotes.

    A quote that covers several tokens counts for all of them; of several quotes of a token the strongest counts. A
    place where the quote is not, or in a text that was not shown, counts for nothing and is counted in `unusable`.
    """

    kind = "marks"
    batch = 16
    max_tokens = 2048
    """Of an answer: more than the 100 places that the prompt asks not to exceed take."""

    def levels(self, batches: Sequence[Sequence[Asked]]) -> list[list[FloatArray] | LlmError]:
        """See `LlmPredictor.levels`."""
        shown = [[show(window.pieces) for window in batch] for batch in batches]
        requests = [
            Request(
                "predict",
                self.prompt.render(texts=[text.text for text in texts], description=self.description),
                self.max_tokens,
                prompt_digest=self.prompt.digest,
            )
            for texts in shown
        ]
        answers = self.kit.llm.ask_all(requests, Marks)
        return [
            answer if isinstance(answer, LlmError) else self._read(batch, texts, answer)
            for batch, texts, answer in zip(batches, shown, answers, strict=True)
        ]

    def _read(self, batch: Sequence[Asked], texts: Sequence[Shown], answer: Marks) -> list[FloatArray]:
        """Levels of the tokens of each window of a batch."""
        found = [np.zeros(len(window.inside), dtype=np.float32) for window in batch]
        for mark in answer.marks:
            for place in mark.at:
                found_at = _PLACE.fullmatch(place.strip())
                at = int(found_at["text"]) - 1 if found_at else -1
                tokens: list[int] = []
                if found_at is not None and 0 <= at < len(texts):
                    which = found_at["occurrence"]
                    tokens = texts[at].find(mark.quote, int(which)) if which else texts[at].find_all(mark.quote)
                if not tokens:
                    self.unusable += 1
                for token in tokens:
                    inside = token - batch[at].left
                    if inside >= 0:
                        found[at][inside] = max(found[at][inside], mark.level)
        return found
