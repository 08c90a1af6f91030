"""The texts of a sealed split that a judge is asked about, and what it answers.

Three kinds of text are drawn (`scorers.windows`). Active ones, over the whole tail. Random ones in which the unit is
silent, from those that are common to a campaign. And hard ones in which it is silent: like the active ones in their
text, active for the units nearest by co-activation, or taken for active by the explainer itself until it ran them.
Scores against random and against hard ones are kept apart: random ones alone flatter (sheet B23).

Every request holds the same share of each kind, in an order of its own. So a judge that says yes more often in one
request than in another, or later in a request than earlier, gains nothing by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from explainers.llm.prompts import Prompt
from explainers.llm.show import show
from explainers.llm.types import LlmError, Request
from explainers.prompted.forms import Judged
from explainers.prompted.negatives import by_likeness
from scorers.diagnostics.labels import LEAST, Answers
from scorers.diagnostics.types import Claim, Setting
from scorers.simulation import generator, held_out
from scorers.types import DoubleArray
from scorers.windows import Window, draw_windows
from tools.types import IntArray

Kind: TypeAlias = Literal["active", "random", "hard"]

OF_EACH: Final = 16
"""Texts of each kind."""
NEAR_MISSES: Final = 4
"""Of the hard ones, those that the explainer wrote, at most."""
FULL: Final = 0.75
"""Share of a window's tokens that a text has at least, where there are enough such texts."""
PER_REQUEST: Final = 16
"""Texts in one request."""
YES: Final = 5
"""How sure (0 to 10) a judge must be for its answer to mean yes."""
#: One answer of a text in JSON takes some 12 tokens.
_ANSWER_TOKENS: Final = 64 + 20 * PER_REQUEST
_WORD: Final = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True)
class Item:
    """A text to ask about."""

    pieces: tuple[str, ...]
    marked: tuple[int, ...]
    """Which of them are active; of a silent text, those that are pointed at all the same."""
    kind: Kind
    document: int
    """Negative for a text that is of no document."""
    peak: float
    """Largest activation in it, times the polarity's sign."""

    @property
    def text(self) -> str:
        """As it is shown, without marks."""
        return show(self.pieces).text

    @property
    def marked_text(self) -> str:
        """As it is shown, with marks."""
        return show(self.pieces, self.marked).text


@dataclass(frozen=True)
class Items:
    """What was drawn of a split for one claim."""

    active: tuple[Item, ...]
    random: tuple[Item, ...]
    hard: tuple[Item, ...]
    settings: Mapping[str, Any]
    """What of the draw makes two scores comparable."""

    @property
    def all(self) -> tuple[Item, ...]:
        """Active, random, hard."""
        return (*self.active, *self.random, *self.hard)


def rng_of(claim: Claim, setting: Setting, purpose: str) -> np.random.Generator:
    """Random numbers of one claim and purpose."""
    return generator(setting.seed, claim.unit, f"{claim.polarity}{purpose}")


def draw_items(claim: Claim, setting: Setting, of_each: int = OF_EACH) -> Items:
    """Draw texts of each kind; fewer of a kind where the split has fewer.

    Short ends of contexts are left out where that leaves enough: the longer a text, the likelier it is active, and a
    judge must not gain by that.
    """
    held = held_out(setting.view, claim.unit, claim.polarity, claim.threshold)
    likeness = setting.kit.likeness
    spare = of_each + of_each // 2
    draw = draw_windows(
        setting.view, held, active=spare, hard=spare, common=2 * spare, others=setting.others,
        rank=by_likeness(likeness), seed=setting.seed, common_seed=setting.common_seed,
    )  # fmt: skip

    def item(window: Window, kind: Kind) -> Item:
        on = held.positions[window.rows][held.values[window.rows] > claim.threshold] - window.start
        return Item(tuple(window.pieces(setting.view)), tuple(on.tolist()), kind, window.document, window.peak)

    def chosen(windows: Sequence[Window], kind: Kind) -> list[Item]:
        full = [window for window in windows if window.stop - window.start >= FULL * setting.view.window]
        return [item(window, kind) for window in (full if len(full) >= LEAST else windows)]

    active = chosen([w for w in draw.windows if w.active], "active")
    random = chosen([w for w in draw.windows if w.stratum == "common" and not w.active], "random")
    hard = chosen([w for w in draw.windows if w.stratum == "hard" and not w.active], "hard")
    order = rng_of(claim, setting, "items").permutation(len(active))
    missed = [
        Item(tuple(_WORD.findall(text)), (), "hard", -1 - number, 0.0)
        for number, text in enumerate(list(dict.fromkeys(filter(str.strip, setting.near_misses)))[:NEAR_MISSES])
    ]
    return Items(
        tuple(active[i] for i in order[:of_each].tolist()),
        tuple(random[:of_each]),
        tuple([*missed, *hard][:of_each]),
        {**draw.settings, "of each": of_each, "full": FULL, "likeness": likeness.name, "near misses": NEAR_MISSES},
    )


def dealt(items: Sequence[Item], rng: np.random.Generator, size: int = PER_REQUEST) -> list[list[Item]]:
    """Items in requests of about `size`, each with the same share of every kind, in a random order."""
    requests: list[list[Item]] = [[] for _ in range(-(-len(items) // size))]
    turn = 0
    for kind in ("active", "random", "hard"):
        of_kind = [item for item in items if item.kind == kind]
        for i in rng.permutation(len(of_kind)).tolist():
            requests[turn % len(requests)].append(of_kind[i])
            turn += 1
    return [[request[i] for i in rng.permutation(len(request)).tolist()] for request in requests]


@dataclass(frozen=True)
class Verdicts:
    """What the judge said."""

    items: tuple[Item, ...]
    answers: Answers
    problem: str | None
    """Why the first of the answers that are missing is."""

    @classmethod
    def of(cls, items: Sequence[Item], value: DoubleArray, requests: IntArray | None, problem: str | None) -> Verdicts:
        """Values [n] given to items; NaN where there is none.

        Args:
            items: [n].
            value: larger is surer that the unit is active.
            requests: [n] number of the request that each was in; None where each was looked at by itself.
            problem: why values are missing.
        """
        answers = Answers(
            value=value,
            active=np.array([item.kind == "active" for item in items], dtype=np.bool_),
            group=np.zeros(len(items), dtype=np.int64) if requests is None else requests,
            document=np.array([item.document for item in items], dtype=np.int64),
            peak=np.array([item.peak for item in items], dtype=np.float64),
        )
        return cls(tuple(items), answers, problem)

    def on(self, items: Sequence[Item]) -> Answers:
        """What it said of some of them."""
        wanted = {id(item) for item in items}
        return self.answers.part(np.array([id(item) in wanted for item in self.items], dtype=np.bool_))


def judge(
    setting: Setting, prompt: Prompt, requests: Sequence[Sequence[Item]], *, marked: bool, **shared: Any
) -> Verdicts:
    """Ask about every item of every request.

    Args:
        setting: has the model.
        prompt: is given `texts`, a list of shown texts, and what is `shared`; its name is the calls' purpose.
        requests: items, request by request.
        marked: whether texts are shown with their marks.
        shared: what the prompt asks for beside the texts.
    """
    asked = [
        Request(
            purpose=prompt.name,
            messages=prompt.render(texts=[item.marked_text if marked else item.text for item in items], **shared),
            max_tokens=_ANSWER_TOKENS,
            prompt_digest=prompt.digest,
        )
        for items in requests
    ]
    sure: list[float] = []
    problem: str | None = None
    for items, answer in zip(requests, setting.kit.llm.ask_all(asked, Judged) if asked else [], strict=True):
        found = np.full(len(items), np.nan) if isinstance(answer, LlmError) else _read(answer, len(items))
        if np.isnan(found).any():
            problem = problem or (
                str(answer) if isinstance(answer, LlmError) else "an answer did not judge each of its texts once"
            )
        sure += found.tolist()
    flat = [item for items in requests for item in items]
    number = np.repeat(np.arange(len(requests)), [len(items) for items in requests]).astype(np.int64)
    return Verdicts.of(flat, np.array(sure, dtype=np.float64), number, problem)


def _read(answer: Judged, n: int) -> DoubleArray:
    """[n] how sure of each text; NaN where the answer leaves it out or contradicts itself. Numbers of texts that were
    not shown are passed over."""
    said: dict[int, set[int]] = {}
    for judgement in answer.judgements:
        said.setdefault(judgement.text, set()).add(judgement.sure)
    return np.array([float(min(v)) if len(v := said.get(i + 1, set())) == 1 else np.nan for i in range(n)])


def matched(active: Sequence[Item], silent: Sequence[Item], rng: np.random.Generator) -> list[tuple[Item, Item]]:
    """Pairs of an active text and a silent one that is marked at the very same positions.

    So neither how many tokens are marked nor where tells an active text from a silent one. (delphi marks silent texts
    at a position of its own choosing, which does.) Texts of equal length are paired where there are any; an active text
    whose marks reach beyond every silent text that is left is in no pair.
    """
    left = [silent[i] for i in rng.permutation(len(silent)).tolist()]
    pairs = []
    for item in sorted(active, key=lambda item: -max(item.marked, default=0)):
        fitting = [other for other in left if len(other.pieces) > max(item.marked, default=0)]
        if item.marked and fitting:
            partner = min(fitting, key=lambda other: abs(len(other.pieces) - len(item.pieces)))
            left.remove(partner)
            pairs.append((item, replace(partner, marked=item.marked)))
    return [pairs[i] for i in rng.permutation(len(pairs)).tolist()]
