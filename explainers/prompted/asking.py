"""What explainers that ask a language model share: from what is shown to a request, from its answers to explanations.

An explainer says what it shows (`gather`) and, where its answers are not single descriptions, what it makes of one
(`read`). The rest is the same for all: the prompt by name, several samples where they are asked for, the rule that is
read or refused, and details that say what the words rest on.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from explainers.llm import show
from explainers.llm.kit import LlmKit
from explainers.llm.prompts import Prompt
from explainers.llm.types import LlmError, Request
from explainers.output.attach import with_claim
from explainers.output.reading import named_claim
from explainers.pattern.heads import head_sentence
from explainers.prompted.answers import one_line, read_rule
from explainers.prompted.evidence import Excerpt, Line, line, plain, scale_of
from explainers.prompted.forms import Described, DescribedEffect
from explainers.prompted.predictors import predictor_for
from explainers.types import Evidence, Explanation, Predictor, Recorder

MAX_TOKENS = 900
"""Of an answer: a description with a rule takes 100 to 300."""
SAMPLING = 0.7
"""Temperature when there are several samples of one request; a single one is taken greedily."""


@dataclass(frozen=True)
class Gathered:
    """What one request shows."""

    variables: dict[str, Any]
    """For the prompt's template."""
    scale: float
    """Magnitude of level 10."""
    shown: tuple[Excerpt, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    """What else the explanations' details say of it; JSON values."""


class Prompted(abc.ABC):
    """An explainer that asks a language model.

    Args:
        kit: The model and its prompts.
        n: Samples of the answer; each becomes a rival. Which is best is for others to find, on texts not shown here.
    """

    name: str
    prompt: ClassVar[str]
    """Name of its prompt file."""
    form: ClassVar[type[BaseModel]] = Described
    needs_llm: ClassVar[bool] = True
    output_side: ClassVar[bool] = False
    """Whether the model is shown what the unit does when on, so that its words on that count."""
    max_tokens: ClassVar[int] = MAX_TOKENS

    def __init__(self, *, kit: LlmKit, n: int = 1) -> None:
        if not 1 <= n <= 64:
            raise ValueError("n, the number of samples, is from 1 to 64")
        self.kit = kit
        self.n = n

    @abc.abstractmethod
    def gather(self, evidence: Evidence, recorder: Recorder) -> Gathered | str:
        """What to show of a unit; where there is nothing to show, why."""

    def read(self, answer: Any, evidence: Evidence, gathered: Gathered) -> list[Explanation]:
        """What an answer comes to."""
        return [self.described(answer, evidence, gathered)]

    def predictor(self, explanation: Explanation) -> Predictor | None:
        """The model itself, predicting from the words."""
        return predictor_for(self.kit, explanation)

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The answers, those that differ, in the order of the samples.

        Raises:
            LlmError: No sample could be had.
        """
        gathered = self.gather(evidence, recorder)
        if isinstance(gathered, str):
            return [nothing_to_show(self.name, evidence, gathered)]
        prompt = self.kit.prompts.get(self.prompt)
        answers, failed = self._ask(prompt, gathered)
        recorder.event(
            "explain",
            {
                "explainer": self.name, "model": self.kit.llm.model, "prompt": prompt.name, "digest": prompt.digest,
                "shown": [list(excerpt.place) for excerpt in gathered.shown], "scale": gathered.scale,
                "answers": len(answers), "failed": failed,
            },
        )  # fmt: skip
        found: dict[tuple[str, str, str | None], Explanation] = {}
        for answer in answers:
            for explanation in self.read(answer, evidence, gathered):
                found.setdefault((explanation.label, explanation.input_half, explanation.rule), explanation)
        return list(found.values())

    def _ask(self, prompt: Prompt, gathered: Gathered) -> tuple[list[Any], list[str]]:
        """Answers, and why others failed."""
        messages = prompt.render(**gathered.variables)
        if self.n == 1:
            request = Request("explain", messages, self.max_tokens, prompt_digest=prompt.digest)
            return [self.kit.llm.ask(request, self.form)], []
        requests = [
            Request("explain", messages, self.max_tokens, SAMPLING, seed, prompt.digest) for seed in range(self.n)
        ]
        results = self.kit.llm.ask_all(requests, self.form)
        failed = [result for result in results if isinstance(result, LlmError)]
        if len(failed) == len(results):
            raise failed[0]
        return [result for result in results if not isinstance(result, LlmError)], [str(error) for error in failed]

    def described(self, answer: Described, evidence: Evidence, gathered: Gathered) -> Explanation:
        """One description as an explanation."""
        rule = read_rule(answer.rule, gathered.scale)
        prompt = self.kit.prompts.get(self.prompt)
        says = one_line(answer.does_when_on) if self.output_side else None
        fires_on = one_line(answer.fires_on)
        if evidence.edges is not None:
            fires_on = f"{head_sentence(evidence.edges)} Writes most where: {fires_on}"
        claim = None
        if isinstance(answer, DescribedEffect) and (says or answer.effect or answer.raises or answer.lowers):
            claim = named_claim(answer.effect, answer.raises, answer.lowers, evidence)
        explanation = Explanation(
            self.name,
            one_line(answer.label) or "no label",
            fires_on or "It says nothing of where the unit fires.",
            says,
            rule.text,
            one_line(answer.exceptions),
            {
                "prompt": {"name": prompt.name, "digest": prompt.digest},
                "model": self.kit.llm.model,
                "examples": len(gathered.shown),
                "scale": gathered.scale,
                "threshold": evidence.threshold,
                "density": density(evidence),
                **gathered.details,
                **rule.details,
            },
        )
        return with_claim(explanation, evidence, claim)


def density(evidence: Evidence) -> float:
    """Share of explore's tokens on which the tail is active, to three digits."""
    sample = evidence.explore.sample(evidence.unit)
    total = float(sample.weights.sum(dtype=np.float64))
    active = evidence.sign * sample.values > evidence.threshold
    return float(f"{sample.weights[active].sum(dtype=np.float64) / total:.3g}") if total else 0.0


def evidence_variables(evidence: Evidence, active: Sequence[Excerpt], silent: Sequence[Excerpt] = ()) -> dict[str, Any]:
    """What templates of examples ask for: `texts` (each with `text` and `levels`), `silent` (texts without
    marks), `attention` (a head's, in words) and `active_from` (the level above which a token is active: '3.7')."""
    scale = scale_of(active)
    lines: list[Line] = [line(excerpt, scale, evidence.threshold) for excerpt in active]
    return {
        "texts": lines,
        "silent": [plain(excerpt) for excerpt in silent],
        "attention": None if evidence.edges is None else head_sentence(evidence.edges),
        "active_from": f"{min(10.0, 10 * evidence.threshold / scale):.1f}" if scale else "0.0",
    }


def nothing_to_show(name: str, evidence: Evidence, reason: str) -> Explanation:
    """What is said of a unit of which there is nothing to show: that, and nothing is asked."""
    details = {"literals": 0, "reason": reason, "scale": 0.0, "threshold": evidence.threshold, "examples": 0}
    said = f"It was not explained: {reason}."
    return with_claim(Explanation(name, "nothing to explain", said, None, None, None, details), evidence)


def quoted(pieces: Sequence[str]) -> str:
    """Tokens for a list, none twice: '" the", " a"'."""
    written = dict.fromkeys(show.shown(piece).replace("\\", "\\\\").replace('"', '\\"') for piece in pieces)
    return ", ".join(f'"{piece}"' for piece in written)


def at_least(number: int, least: int, what: str) -> int:
    """An option that has a lower bound."""
    if number < least:
        raise ValueError(f"{what} is at least {least}")
    return number
