"""Simulation all at once: the model's own probabilities of the levels 0 to 10 at every token, from one pass.

"Language models can explain neurons in language models" (Bills et al. 2023): the prompt lists every token of a text
followed by a placeholder, and the model's distribution over what would stand in the placeholder's place is read off.
The predicted level is its expected value over the numbers, sum k p(k) / sum p(k). Nothing is generated. It needs an
endpoint that tells the probabilities of a prompt's tokens, as vLLM does (`prompt_logprobs`).

Three traps of tokenisation. Tokens' texts as an endpoint tells them need not join to the prompt (some tokenizers drop
spaces, all have special tokens at the beginning), so places are found by the characters that are no white space, and
the prompt is plain ASCII, which no tokenizer cuts within a character. A number may come with a space or without; both
count. And where '10' is two tokens, the probability of '1' would be that of 1 and of 10 together; then the levels shown
and read are 0 to 9 and are stretched to 0 to 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from explainers.llm.types import AnswerError, LlmError, TokenLogprobs
from explainers.prompted.predictors import Asked, LlmPredictor
from tools.types import FloatArray

Numbers: TypeAlias = npt.NDArray[np.floating[Any]]

TOP: Final = 20
"""Likeliest tokens that are asked for at each place; what a vLLM server gives unless it is told otherwise."""
PLACEHOLDER: Final = "unknown"
_PROBE: Final = "activation 10"
_SPECIAL: Final = 3
"""Tokens at the beginning of which nothing is told, or that are no text: one, or a few special ones."""


@dataclass(frozen=True)
class Calibration:
    """A straight line from predicted to true activations: true = slope * predicted + intercept.

    A simulator's expected values are all drawn towards the middle; their correlation does not suffer by that, their
    distance from the truth does. After the linear calibration of Bills et al. (2023). It must be fitted on positions
    that are not scored.
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, predicted: Numbers, true: Numbers, weights: Numbers | None = None) -> Calibration:
        """Weighted least squares over the positions that have a prediction, [n] each.

        Where the prediction does not vary, the line is flat at the mean of the truth; where there is none, it is the
        identity.
        """
        x, y = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
        w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
        x, y, w = (array[np.isfinite(np.asarray(predicted))] for array in (x, y, w))
        if not len(x):
            return cls()
        mean_x, mean_y = float(np.average(x, weights=w)), float(np.average(y, weights=w))
        variance = float(np.average((x - mean_x) ** 2, weights=w))
        covariance = float(np.average((x - mean_x) * (y - mean_y), weights=w))
        slope = covariance / variance if variance > 1e-12 * (mean_x**2 + variance) else 0.0
        return cls(slope, mean_y - slope * mean_x)

    def __call__(self, predicted: Numbers) -> npt.NDArray[np.float64]:
        """Calibrated predictions, [n]; a magnitude is never below 0."""
        scaled = self.slope * np.asarray(predicted, dtype=np.float64) + self.intercept
        result: npt.NDArray[np.float64] = np.maximum(scaled, 0)
        return result


class SimulationPredictor(LlmPredictor):
    """Predicts expected values from the probabilities of levels.

    A token at whose place no number is among the likeliest is NaN.

    Args:
        kit: The model and its prompts.
        explanation: The description. Its `details["calibration"]`, {'slope', 'intercept'}, is applied where it is.
    """

    kind = "simulation"
    batch = 4

    @property
    def protocol(self) -> dict[str, Any]:
        """See `LlmPredictor.protocol`."""
        return {**super().protocol, "top": TOP}

    def levels(self, batches: Sequence[Sequence[Asked]]) -> list[list[FloatArray] | LlmError]:
        """See `LlmPredictor.levels`."""
        if not batches:
            return []
        highest = self._highest()
        if isinstance(highest, LlmError):
            return [highest] * len(batches)
        prompts = [self._prompt(batch, highest) for batch in batches]
        answers = self.kit.llm.read("predict", prompts, TOP)
        return [
            answer if isinstance(answer, LlmError) else self._read(prompt, answer, batch, highest)
            for prompt, answer, batch in zip(prompts, answers, batches, strict=True)
        ]

    def _highest(self) -> int | LlmError:
        """The highest level that is a token of its own: 10, or 9 where '10' is two tokens."""
        read = self.kit.llm.read("predict", [_PROBE], 1)[0]
        if isinstance(read, LlmError):
            return read
        return 10 if read and read[-1].token.strip() == "10" else 9

    def _prompt(self, batch: Sequence[Asked], highest: int) -> str:
        """The description first, for it must come before what it is about; then each window's tokens."""
        system, user = self.prompt.render(
            highest=highest,
            description=plain(self.description),
            windows=[
                {"before": plain("".join(w.pieces[: w.left])), "tokens": [plain(piece) for piece in w.inside]}
                for w in batch
            ],
            placeholder=PLACEHOLDER,
        )
        return f"{system.content}\n\n{user.content}"

    def _read(
        self, prompt: str, tokens: Sequence[TokenLogprobs], batch: Sequence[Asked], highest: int
    ) -> list[FloatArray] | LlmError:
        wanted = sum(len(window.inside) for window in batch)
        places = placeholders(prompt, wanted)
        try:
            at = tokens_at(prompt, tokens, places)
        except AnswerError as error:
            return error
        expected = np.array([np.nan if t is None else expected_level(tokens[t].top, highest) for t in at], np.float32)
        self.unusable += int(np.isnan(expected).sum())
        ends = np.cumsum([len(window.inside) for window in batch])
        return list(np.split(expected, ends[:-1]))


def plain(text: str) -> str:
    """A text in ASCII on one line, what is not spelled out as in a Python string."""
    return text.encode("unicode_escape").decode("ascii")


def placeholders(prompt: str, n: int) -> list[int]:
    """Where the last n lines that end in the placeholder have it, in order.

    Text of a corpus cannot make such a line: within one, a tab is spelled out.
    """
    found: list[int] = []
    at = len(prompt)
    while len(found) < n:
        at = prompt.rfind(f"\t{PLACEHOLDER}", 0, at)
        found.append(at + 1)
    return found[::-1]


def tokens_at(prompt: str, tokens: Sequence[TokenLogprobs], places: Iterable[int]) -> list[int | None]:
    """The token that begins at each place of a prompt; None where none begins there.

    Args:
        prompt: In ASCII.
        tokens: The prompt's, as the endpoint tells them. Of the first one, which may be special, nothing is told.
        places: Characters of the prompt that are no white space, ascending.

    Raises:
        AnswerError: The tokens are not those of the prompt.
    """
    # How many characters that are no white space come before each place.
    before = np.concatenate([[0], np.cumsum([not c.isspace() for c in prompt])])
    inked = "".join(prompt.split())
    inks = ["".join(token.token.split()) for token in tokens]
    for first in range(1, 1 + _SPECIAL):
        rest = "".join(inks[first:])
        if rest and inked.endswith(rest):
            break
    else:
        raise AnswerError("The tokens that the endpoint tells of are not those of the prompt.")
    begins: dict[int, int] = {}
    cursor = len(inked) - len(rest)
    for number, ink in enumerate(inks[first:], first):
        if ink:
            begins[cursor] = number
            cursor += len(ink)
    return [begins.get(int(before[place])) for place in places]


def expected_level(top: Mapping[str, float], highest: int = 10) -> float:
    """sum k p(k) / sum p(k) over the levels among the likeliest tokens, on the scale 0 to 10; NaN if none is.

    Args:
        top: Log-probabilities by the tokens' texts; a number counts with white space around it as without.
        highest: The highest level: 10, or 9 where '10' is two tokens.
    """
    levels = {str(k): k for k in range(highest + 1)}
    mass = total = 0.0
    for text, logprob in top.items():
        level = levels.get(text.strip())
        if level is not None:
            mass += exp(logprob)
            total += level * exp(logprob)
    return total / mass * 10 / highest if mass > 0 else float("nan")
