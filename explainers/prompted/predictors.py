"""What a description predicts when a language model takes it at its word.

Three ways to ask, one file each: `marks` lets the model quote the tokens on which it expects the unit to fire (short
answers; the default), `levels` asks for a number for every token, `simulation` reads the model's own probabilities of
such numbers and has it write nothing.

Whichever it is, positions are asked about in windows of up to `WINDOW` consecutive ones, with up to `LEFT` tokens
before them that are shown and not asked about. Windows stay in the order given and the description comes after the
texts, so that requests about the same positions begin alike for all descriptions, and servers keep that beginning.

An answer is a level from 0 to 10 where 10 is as strong as the unit gets, as in the examples that the description was
written from. A level L is the magnitude L/10 of `details["scale"]`, the strongest activation among those examples; the
unit counts as active above its threshold as everywhere else. So where the threshold is half of the scale, as it is by
definition for a unit whose strongest examples are as strong as its 99.95th percentile, levels from 6 on are active.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import numpy as np

from explainers.llm.kit import LlmKit
from explainers.llm.prompts import Prompt
from explainers.llm.types import LlmError
from explainers.types import Explanation, Predictor, TextSource
from tools.types import FloatArray, IntArray

WINDOW: Final = 32
"""Positions asked about together; a block of the index."""
LEFT: Final = 8
"""Tokens before them that are shown."""

DENSE: Final = 0.1
"""Share of tokens beyond which a unit fires too often for its tokens to be quoted one by one."""

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """A window of consecutive positions."""

    rows: IntArray
    """Which of the positions asked about they are, [n]."""
    pieces: tuple[str, ...]
    """What is shown: tokens before the window, then the window's."""
    left: int
    """How many of them come before."""

    @property
    def inside(self) -> tuple[str, ...]:
        """The tokens asked about, [n]."""
        return self.pieces[self.left :]


def windows(texts: TextSource, contexts: IntArray, positions: IntArray) -> Iterator[Asked]:
    """Positions [n] as windows, in their order: runs of consecutive ones, cut where a block of `WINDOW` begins."""
    if not len(contexts):
        return
    follows = (np.diff(contexts) == 0) & (np.diff(positions) == 1) & (positions[1:] % WINDOW != 0)
    edges = np.concatenate([[0], np.flatnonzero(~follows) + 1, [len(contexts)]])
    context, pieces = -1, []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if int(contexts[first]) != context:
            context = int(contexts[first])
            pieces = texts.pieces(context)
        start, stop = int(positions[first]), int(positions[last - 1]) + 1
        # Position 0 may be a beginning-of-sequence token, which is no text.
        shown = max(min(start, 1), start - LEFT)
        yield Asked(np.arange(first, last), tuple(pieces[shown:stop]), start - shown)


def stated(explanation: Explanation) -> str:
    """What a description says of where the unit fires, on one line: it cannot begin a section of a prompt."""
    parts = [f"{explanation.label}.", explanation.input_half]
    if explanation.exceptions:
        parts.append(f"Exceptions: {explanation.exceptions}")
    return re.sub(r"\s*[\r\n]+\s*", " ", " ".join(parts).strip())


class LlmPredictor(abc.ABC):
    """A description with a language model that reads it.

    Args:
        kit: The model and its prompts.
        explanation: The description.

    Raises:
        LlmError: The description does not say how strong the unit gets.
    """

    costly: ClassVar[bool] = True
    """Asking costs tokens: a scorer should ask about few positions."""
    kind: ClassVar[str]
    batch: ClassVar[int]
    """Windows in a request."""

    def __init__(self, kit: LlmKit, explanation: Explanation) -> None:
        scale = explanation.details.get("scale")
        if not isinstance(scale, int | float) or not scale >= 0:
            raise LlmError(
                f"The description '{explanation.label}' does not say how strong its unit gets (details['scale']); "
                "a language model cannot predict from it."
            )
        self.kit = kit
        self.scale = float(scale)
        self.description = stated(explanation)
        self.prompt: Prompt = kit.prompts.get(f"predict-{self.kind}")
        self.name = f"{self.kind}:{kit.llm.model}"
        self.unusable = 0
        """Parts of answers that say nothing of any token that was asked about, such as a wrong number of a text."""

    @property
    def protocol(self) -> dict[str, Any]:
        """What of the way of asking makes two predictions comparable; JSON values."""
        return {
            "predictor": self.kind, "model": self.kit.llm.model, "prompt": self.prompt.digest, "batch": self.batch,
            "left": LEFT, "window": WINDOW,
        }  # fmt: skip

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Predicted magnitude at each position, [n]; NaN where no answer could be had.

        Raises:
            EndpointError, SpentError, NotRecordedError: No answer can be had at all.
        """
        if not self.scale:
            # Nothing was active in what the description was written from, and so nothing was described.
            return np.zeros(len(contexts), dtype=np.float32)
        levels = np.full(len(contexts), np.nan)
        asked = list(windows(texts, contexts, positions))
        batches = [asked[at : at + self.batch] for at in range(0, len(asked), self.batch)]
        for batch, found in zip(batches, self.levels(batches), strict=True):
            if isinstance(found, LlmError):
                continue
            for window, values in zip(batch, found, strict=True):
                levels[window.rows] = values
        return (levels / 10 * self.scale).astype(np.float32)

    @abc.abstractmethod
    def levels(self, batches: Sequence[Sequence[Asked]]) -> list[list[FloatArray] | LlmError]:
        """Levels from 0 to 10 of each token of each window; NaN where the answer does not say."""


def predictor_for(kit: LlmKit, explanation: Explanation) -> Predictor:
    """The predictor that stands for a description in words, as `kit.predictor` wants it.

    'simulation' needs an endpoint that tells the probabilities of a prompt's tokens; with any other it is 'levels'. So
    are 'marks' of a unit that fires on more than `DENSE` of the tokens, as heads do (`details["density"]`).

    Raises:
        LlmError: There is no such predictor, or the description does not say how strong its unit gets.
    """
    # The kinds import this module.
    from explainers.prompted.levels import LevelsPredictor
    from explainers.prompted.marks import MarksPredictor
    from explainers.prompted.simulate import SimulationPredictor

    kinds: dict[str, type[LlmPredictor]] = {
        kind.kind: kind for kind in (MarksPredictor, LevelsPredictor, SimulationPredictor)
    }
    if kit.predictor not in kinds:
        raise LlmError(f"There is no predictor '{kit.predictor}'. Known: {', '.join(sorted(kinds))}.")
    kind = kinds[kit.predictor]
    dense = explanation.details.get("density", 0.0) > DENSE
    if (kind is SimulationPredictor and not kit.llm.abilities.prompt_logprobs) or (kind is MarksPredictor and dense):
        kind = LevelsPredictor
    return kind(kit, explanation)
