"""Texts that a language model writes from a description, and what the unit does on them and on text of the corpus.

Clarity, input success and generative accuracy look at the same texts: they are asked for by the same requests, which
are answered once. A text's activation is the *signed* maximum over its tokens on the claim's polarity. FADE (arXiv
2502.16994) takes the value of largest magnitude instead, by which a description of what suppresses a unit scores like
one of what fires it.

Text of the corpus that written texts are compared with is read in the same way: cut to the written texts' lengths,
begun as the tokenizer begins a text, and run through the model alone. A maximum over more tokens is larger, and tokens
near the beginning of a text behave unlike others; neither may tell written from natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from explainers.llm.prompts import Prompt
from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Written
from explainers.types import Explanation
from scorers.diagnostics.types import Claim, Setting
from scorers.simulation import HeldOut, held_out
from scorers.types import DoubleArray, View
from scorers.windows import Window, draw_windows
from tools.subject import Subject
from tools.types import IntArray, UnitId
from tools.units import unit_activations

PROMPT: Final = "write-texts"
SETS: Final = 2
PER_SET: Final = 10
TEXTS: Final = SETS * PER_SET
"""Texts asked for of each kind, in requests of `PER_SET`: a request that fails does not take all with it."""
LONGEST: Final = 64
"""Tokens of a text that are read, at most; what is beyond is cut off, for the more text the larger its maximum."""
NATURAL: Final = 48
"""Windows of the corpus that written texts are compared with, the same for all units of a campaign."""
TEMPERATURE: Final = 0.7
_ANSWER_TOKENS: Final = 1200


@dataclass(frozen=True)
class Texts:
    """What was written."""

    texts: tuple[str, ...]
    """Each once, in the order in which they were written."""
    repeated: int
    """Texts that were there already and are left out: they say nothing new."""
    missing: int
    """Texts that were asked for and did not come, or that were blank."""
    problem: str | None
    """Why the first of them is missing."""


@dataclass(frozen=True)
class Readings:
    """What units do on some sequences."""

    peaks: DoubleArray
    """[n_units, n_sequences] largest activation times the polarity's sign over the tokens that count; NaN where none
    does, or where it is not finite. The claim's unit is the first."""
    lengths: IntArray
    """[n_sequences] tokens after those that encoding puts before every text."""

    @cached_property
    def usable(self) -> Any:
        """[n_sequences] whether the claim's unit could be read."""
        return np.isfinite(self.peaks[0])


def description_of(explanation: Explanation) -> str:
    """What a description says of when the unit fires, on one line: no text can begin a heading of the prompt."""
    parts = [explanation.input_half or explanation.label]
    if explanation.exceptions:
        parts.append(f"Exceptions: {explanation.exceptions}")
    return " ".join(" ".join(parts).split())


def prompt_of(setting: Setting) -> Prompt:
    """The prompt that texts are written by."""
    return setting.kit.prompts.get(PROMPT)


def write(claim: Claim, setting: Setting, *, fires: bool) -> Texts:
    """Texts in which the unit should fire by its description, or in which it should stay silent.

    The requests depend on nothing but the description, so that scores of the same description share them.
    """
    prompt, description = prompt_of(setting), description_of(claim.explanation)
    requests = [
        Request(
            purpose=prompt.name,
            messages=prompt.render(description=description, fires=fires, n=PER_SET, part=part, parts=SETS),
            max_tokens=_ANSWER_TOKENS,
            temperature=TEMPERATURE,
            seed=part,
            prompt_digest=prompt.digest,
        )
        for part in range(1, SETS + 1)
    ]
    texts: dict[str, str] = {}
    repeated, missing, problem = 0, 0, None
    for answer in setting.kit.llm.ask_all(requests, Written):
        if isinstance(answer, LlmError):
            missing += PER_SET
            problem = problem or str(answer)
            continue
        given = answer.texts[:PER_SET]
        blank = sum(not text.strip() for text in given) + PER_SET - len(given)
        missing += blank
        if blank:
            problem = problem or "the model wrote fewer texts than it was asked for"
        for text in given:
            if text.strip():
                repeated += " ".join(text.split()) in texts
                texts.setdefault(" ".join(text.split()), text)
    return Texts(tuple(texts.values()), repeated, missing, problem)


def encoded(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, begun as the tokenizer begins a text and cut off after `LONGEST` tokens of its own."""
    most = min(subject.context, len(subject.prefix) + LONGEST)
    return [subject.encode(text, max_tokens=most) for text in texts]


def natural_texts(view: View, subject: Subject, windows: Sequence[Window], lengths: IntArray) -> list[list[int]]:
    """Text of the corpus at some windows, made as alike to written texts as can be.

    Args:
        view: The split.
        subject: Whose tokens these are.
        windows: Where to begin.
        lengths: Of the written texts; window i gets the length of text i (from the beginning again where there are more
            windows than texts), as far as its context holds so many tokens.
    """
    sequences = []
    for number, window in enumerate(windows):
        ids = view.texts.ids(window.context).tolist()
        first = len(subject.prefix)
        wanted = int(lengths[number % len(lengths)])
        start = max(first, min(max(window.start, first), len(ids) - wanted))
        sequences.append([*subject.prefix, *ids[start : start + wanted]])
    return sequences


def read(subject: Subject, units: Sequence[UnitId], polarity: str, sequences: Sequence[Sequence[int]]) -> Readings:
    """The largest activation of each unit on each sequence; position 0 is left out, as everywhere.

    So are tokens that begin or end texts: they are no text, and a model's activations on them are of another order.
    """
    sign = 1.0 if polarity == "+" else -1.0
    tokenizer = subject.tokenizer
    frame = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    peaks = np.full((len(units), len(sequences)), np.nan)
    for number, values in enumerate(unit_activations(subject, list(units), sequences)):
        counts = np.array([token not in frame for token in sequences[number]], dtype=np.bool_)
        counts[:1] = False
        if counts.any():
            peaks[:, number] = (sign * values[:, counts].astype(np.float64)).max(axis=1)
    peaks[~np.isfinite(peaks)] = np.nan
    lengths = np.array([max(0, len(ids) - len(subject.prefix)) for ids in sequences], dtype=np.int64)
    return Readings(peaks, lengths)


@dataclass(frozen=True)
class Trial:
    """Written texts and text of the corpus, both run through the subject."""

    texts: Texts
    written: Readings
    natural: Readings
    windows: tuple[Window, ...]
    """Of `natural`."""
    held: HeldOut

    @property
    def missing(self) -> int:
        """Texts that were asked for and that say nothing: each of them counts as wrong."""
        return self.texts.missing + int((~self.written.usable).sum())

    @property
    def unparseable(self) -> float:
        """Their share of the texts that count."""
        return self.missing / max(1, self.missing + int(self.written.usable.sum()))

    @property
    def cost(self) -> dict[str, float]:
        """Tokens that were run through the subject."""
        return {"subject_tokens": float(self.written.lengths.sum() + self.natural.lengths.sum())}


NO_SUBJECT: Final = "there is no model at hand to run texts through"


def too_few(texts: Texts, usable: int, least: int, what: str = "texts") -> str | None:
    """Why so few texts can tell nothing; None if there are enough."""
    if usable >= least:
        return None
    why = f": {texts.problem}" if texts.problem else ""
    return f"of {TEXTS} {what} asked for, {usable} different ones could be read; at least {least} are needed{why}"


def try_out(claim: Claim, setting: Setting, *, others: Sequence[UnitId] = ()) -> Trial | None:
    """Has texts written that should fire the unit, and runs them and common text of the corpus through the subject.

    Args:
        claim: The description.
        setting: What to test it on.
        others: Further units to read on the same texts.

    Returns:
        None without a subject.
    """
    subject = setting.subject
    if subject is None:
        return None
    held = held_out(setting.view, claim.unit, claim.polarity, claim.threshold)
    draw = draw_windows(setting.view, held, active=0, hard=0, common=NATURAL, common_seed=setting.common_seed)
    windows = tuple(window for window in draw.windows if window.stratum == "common")
    texts = write(claim, setting, fires=True)
    units = [claim.unit, *others]
    written = read(subject, units, claim.polarity, encoded(subject, texts.texts))
    lengths = written.lengths[written.usable]
    sequences = natural_texts(setting.view, subject, windows, lengths) if len(lengths) else []
    natural = read(subject, units, claim.polarity, sequences)
    return Trial(texts, written, natural, windows if sequences else (), held)
