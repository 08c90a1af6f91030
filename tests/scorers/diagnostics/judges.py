"""A split of made-up words, units that fire on some of them, and judges in the place of a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel

from explainers.llm.kit import LlmKit
from explainers.llm.likeness import Bm25
from explainers.llm.prompts import Prompts
from explainers.llm.types import Abilities, LlmError, Request, TokenLogprobs
from explainers.types import Explanation
from scorers.diagnostics.types import Claim, Setting
from tools.types import FloatArray, IntArray, Sample, Split, UnitId

UNIT = UnitId("mlp:0", 0)
WORDS = [f" {a}{b}" for a in "bdfgklmnprst" for b in ("a", "en", "ip", "olo", "u")]
FIRES = tuple(WORDS[:8])
"""Words on which `UNIT` fires."""
LENGTH = 49
Fires = Callable[[Sequence[str]], np.ndarray]
"""From pieces to where a unit fires, [n]."""


def on_words(words: Sequence[str]) -> Fires:
    """Fires on some words."""
    return lambda pieces: np.array([piece in words for piece in pieces])


@dataclass
class Texts:
    rows: list[list[str]]

    def pieces(self, context: int, start: int = 0, stop: int | None = None) -> list[str]:
        return self.rows[context][start:stop]


class WordsView:
    """Contexts of random words, a document each; all of them are the panel. Unit u of 'mlp:0' fires by `units[u]`."""

    split = Split.SCORE
    window = 16

    def __init__(self, *units: Fires, seed: int = 0, n: int = 120, density: float = 0.04) -> None:
        rng = np.random.default_rng(seed)
        rare = density / len(FIRES)
        shares = np.array([rare if word in FIRES else 1.0 for word in WORDS])
        shares[len(FIRES) :] = (1 - density) / (len(WORDS) - len(FIRES))
        rows = [["<s>", *(WORDS[i] for i in rng.choice(len(WORDS), LENGTH - 1, p=shares))] for _ in range(n)]
        self.texts = Texts(rows)
        strength = 2.0 + rng.random((n, LENGTH))
        self.values = np.stack([[fires(row) for row in rows] for fires in units or (on_words(FIRES),)]) * strength

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        n = len(self.texts.rows)
        return np.repeat(np.arange(n), LENGTH - 1), np.tile(np.arange(1, LENGTH), n)

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        return np.stack([self.values[unit.index][:, 1:].ravel() for unit in units]).astype(np.float32)

    def sample(self, unit: UnitId) -> Sample:
        contexts, positions = self.panel_index
        values = self.panel_matrix([unit])[0]
        return Sample(contexts, positions, values, np.ones(len(values), np.float32), contexts + 500)


@dataclass(frozen=True)
class Shown:
    """A text as a judge reads it in a prompt."""

    number: int
    pieces: tuple[str, ...]
    marked: tuple[int, ...]


def shown(message: str) -> list[Shown]:
    """The texts of a prompt, cut into words with the space before them."""
    lines = message.split("\n")
    at = lines.index("TEXTS") + 1
    found = []
    for line in lines[at : next(i for i in range(at, len(lines)) if not lines[i].strip())]:
        number, _, text = line.partition("] ")
        plain, inside, marks = "", False, []
        for c in text:
            if c in "«»":
                inside = c == "«"
            else:
                plain += c
                marks.append(inside)
        words = list(re.finditer(r"\s?\S+", plain))
        marked = tuple(i for i, word in enumerate(words) if any(marks[word.start() : word.end()]))
        found.append(Shown(int(number[1:]), tuple(word.group() for word in words), marked))
    return found


def description(message: str) -> str:
    """What a prompt says of the unit."""
    return message.partition("DESCRIPTION\n")[2].partition("\n")[0]


Mind = Callable[[Request], Mapping[str, Any] | LlmError]


def believing(fires_by: Callable[[str], Fires] | Fires, *, by_description: bool = False) -> Mind:
    """A judge that goes by a predicate, whatever the description says; or, `by_description`, by the one that it names.

    It judges a marked text by its marks. The intruder is, to it, the text of which the fewest marks are right.
    """

    def mind(request: Request) -> Mapping[str, Any]:
        message = request.messages[-1].content
        fires: Any = fires_by(description(message)) if by_description else fires_by  # type: ignore[arg-type]
        right = []
        for text in shown(message):
            # Position 0 of a context is its beginning, so the window must not start there.
            where = np.asarray(fires(["<s>", *text.pieces]))[1:]
            right.append((text.number, float(where[list(text.marked)].mean()) if text.marked else float(where.any())))
        if request.purpose == "intruder":
            return {"text": min(right, key=lambda pair: pair[1])[0]}
        return {"judgements": [{"text": number, "sure": round(10 * share)} for number, share in right]}

    return mind


@dataclass
class FakeLlm:
    """Answers by a mind; an error that it returns stands in the answer's place."""

    mind: Mind
    model: str = "judge"
    abilities: Abilities = field(default_factory=Abilities)
    asked: list[Request] = field(default_factory=list)
    logprobs: Callable[[str], tuple[TokenLogprobs, ...] | LlmError] | None = None

    def ask(self, request: Request, form: type[BaseModel]) -> Any:
        raise NotImplementedError

    def ask_all(self, requests: Sequence[Request], form: type[BaseModel]) -> list[Any]:
        self.asked += requests
        answers = [self.mind(request) for request in requests]
        return [answer if isinstance(answer, LlmError) else form.model_validate(answer) for answer in answers]

    def read(self, purpose: str, prompts: Sequence[str], top: int = 20) -> list[Any]:
        assert self.logprobs is not None
        return [self.logprobs(prompt) for prompt in prompts]

    def embed(self, texts: Sequence[str]) -> FloatArray:
        raise NotImplementedError


def claim_of(words: str = "anything", unit: UnitId = UNIT, threshold: float = 1.0, polarity: str = "+") -> Claim:
    return Claim(unit, polarity, threshold, Explanation("test", "label", words, None, None, None, {}))


def setting_of(mind: Mind, view: Any = None, **changes: Any) -> Setting:
    kit = LlmKit(FakeLlm(mind), Prompts(), Bm25())
    return Setting(**{"view": view or WordsView(), "kit": kit, "subject": None, "resamples": 400, **changes})
