"""A planted subject with a sealed split, and minds that answer in the place of a language model."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from explainers.llm.kit import LlmKit
from explainers.llm.prompts import Prompts
from explainers.llm.types import Abilities, AnswerError, LlmError, Request
from explainers.types import Explanation
from scorers.diagnostics.types import Claim, Setting
from scorers.types import View
from tools.corpora.corpus import Corpus
from tools.index import IndexSettings, build_index
from tools.planted import UnitTruth, build, documents, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import FloatArray, Split, UnitId

FAMILIES = ("token set", "bigram", "frequent", "negative tail", "dead")
PER_FAMILY = 5


class Words:
    """Likeness by shared words; enough for tests."""

    name = "shared words"
    lexical = True

    def to(self, queries: Sequence[str], texts: Sequence[str]) -> FloatArray:
        bags = [set(text.split()) for text in texts]
        return np.array([[len(set(q.split()) & bag) for bag in bags] for q in queries], dtype=np.float32)


@dataclass
class FakeLlm:
    """Answers by a function of the last message; an exception that it returns stands in the answer's place."""

    mind: Callable[[str, Request], dict[str, Any] | LlmError]
    model: str = "fake"
    abilities: Abilities = field(default_factory=Abilities)
    asked: list[Request] = field(default_factory=list)

    def ask(self, request: Request, form: type[BaseModel]) -> Any:
        raise NotImplementedError

    def ask_all(self, requests: Sequence[Request], form: type[BaseModel]) -> list[Any]:
        self.asked += requests
        answers = [self.mind(request.messages[-1].content, request) for request in requests]
        return [self._in_form(answer, form) for answer in answers]

    @staticmethod
    def _in_form(answer: dict[str, Any] | LlmError, form: type[BaseModel]) -> BaseModel | LlmError:
        if isinstance(answer, LlmError):
            return answer
        try:
            return form.model_validate(answer)
        except ValidationError as error:
            return AnswerError(f"no valid answer, even after the repair turn: {error.errors()[0]['msg']}")

    def read(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> FloatArray:
        raise NotImplementedError


def section(message: str, heading: str) -> list[str]:
    """Lines under a heading of a prompt, until a blank one."""
    lines = message.split("\n")
    at = lines.index(heading) + 1
    return lines[at : next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))]


@dataclass(frozen=True)
class Planted:
    """A planted subject, what is true of it, and the sealed split of an index."""

    subject: Subject
    truths: dict[str, UnitTruth]
    view: View
    units: tuple[UnitId, ...]
    fresh: tuple[tuple[str, ...], ...]
    """Pieces of texts that are not in the index."""

    def of_family(self, family: str, number: int = 0) -> UnitTruth:
        indexed = {str(unit) for unit in self.units}
        return [t for t in self.truths.values() if t.family == family and t.unit in indexed][number]

    def texts(self, truth: UnitTruth, n: int, *, fires: bool, seed: int = 0) -> list[str]:
        """Texts that fire a unit by its truth, or that do not."""
        rng = random.Random(f"{truth.key} {n} {fires} {seed}")
        found: list[str] = []
        for pieces in rng.sample(self.fresh, len(self.fresh)):
            active = truth.active(pieces)
            if fires and active[3:].any():
                at = 3 + int(np.flatnonzero(active[3:])[0])
                found.append("".join(pieces[1 : at + 4]).strip())
            elif not fires and not active.any():
                found.append("".join(pieces[1:16]).strip())
            if len(found) == n:
                return found
        raise AssertionError(f"only {len(found)} texts for {truth.key}")

    def mind(self) -> Callable[[str, Request], dict[str, Any] | LlmError]:
        """Writes and rates as one who knows the unit whose key is the description."""

        def answer(message: str, request: Request) -> dict[str, Any]:
            truth = self.truths[section(message, "DESCRIPTION")[0]]
            if request.purpose == "rate":
                shown = [line.partition("] ")[2] for line in section(message, "TEXTS")]
                holds = [truth.active(self.subject.pieces(self.subject.encode(text)))[1:].any() for text in shown]
                return {"ratings": [{"text": i + 1, "rating": 2 * int(h)} for i, h in enumerate(holds)]}
            wanted = int(re.findall(r"Write (\d+) texts", message)[0])
            texts = self.texts(truth, 2 * wanted, fires="should fire" in message)
            return {"texts": texts[wanted * (int(request.seed or 1) - 1) :][:wanted]}

        return answer

    def claim(self, truth: UnitTruth, description: str | None = None, *, polarity: str | None = None) -> Claim:
        explanation = Explanation("test", "label", description or truth.key, None, None, None, {})
        level = max([case.level for case in truth.cases], default=1.0)
        return Claim(UnitId.parse(truth.unit), polarity or truth.polarity, level / 2, explanation)

    def setting(
        self, mind: Callable[[str, Request], dict[str, Any] | LlmError] | None = None, **changes: Any
    ) -> Setting:
        kit = LlmKit(FakeLlm(mind or self.mind()), Prompts(), Words())
        return Setting(**{"view": self.view, "kit": kit, "subject": self.subject, "resamples": 300, **changes})


def make_planted(home: Path) -> Planted:
    spec = planted_spec("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        subject = load_subject(spec.text, device="cpu")
        truths = load_truth(build(spec))
    units = []
    for family in FAMILIES:
        units += [t.unit for t in truths.values() if t.family == family and t.unit.startswith("mlp")][:PER_FAMILY]
    wanted = [UnitId.parse(unit) for unit in dict.fromkeys(units)]
    corpus = Corpus("planted", list(documents(spec, fresh=3, n=500)))
    settings = IndexSettings(context=64, window=16, panel_tokens={Split.SCORE: 3000})
    index = build_index(subject, corpus, wanted, home / "index", settings)
    view = index.keeper(lambda _: None).open(Split.SCORE, claim="test", polarity="+", by="test")
    fresh = [tuple(subject.pieces(subject.encode(d.text))) for d in documents(spec, fresh=17, n=600)]
    return Planted(subject, truths, view, tuple(wanted), tuple(fresh))


def failing(*_: Any) -> AnswerError:
    """A mind that never answers in the form asked for."""
    return AnswerError("no JSON, even after the repair turn")
