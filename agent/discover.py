"""Feature discovery: which units respond to something, and does it depend on them?

    two sets of texts -> candidates, false discoveries controlled -> confirmed on texts that did not choose them
                      -> taken away on positive and on negative texts -> (investigated as a campaign)

The sets are given, or made from a plain sentence: a language model writes texts that have what it says, each with a
near miss; without one the corpus is searched for texts that have words of the sentence and for texts that have none.
Candidates are units whose largest activation on a text tells the two apart (after the class-separability of
arXiv 2605.01555).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from explainers.llm.kit import Likeness
from explainers.llm.likeness import Bm25
from explainers.llm.prompts import Prompts
from explainers.llm.show import defused
from explainers.llm.types import Llm, LlmError, Request
from explainers.prompted.answers import one_line
from explainers.prompted.forms import Pairs
from scorers.separation import LEAST, Separation, separating
from tools.ablation import Reference, ablate
from tools.corpora import Corpus
from tools.errors import NeuroglossError
from tools.responses import responses
from tools.subject import Subject
from tools.types import Split, UnitId

#: Tokens of a text that are read at most: longer ones have larger maxima.
LONGEST = 64
#: Texts of each kind that a search of the corpus gives, and windows that it looks at.
FOUND, LOOKED_AT = 48, 4_000
#: Pairs of texts that a language model is asked for at once, how often, and how freely it writes.
PAIRS, SETS, FREEDOM = 8, 5, 0.7
#: Tokens of such an answer.
WRITTEN = 1500
#: Random units that each candidate's ablation is compared with, and texts of each kind that are run.
RANDOM, ABLATED = 32, 16
#: Candidates that are taken away.
CHECKED = 24


Told = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""


class DiscoverError(NeuroglossError):
    """There is nothing to discover units by."""


@dataclass(frozen=True)
class Sets:
    """Texts that have something and texts that do not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    source: str
    """How they came about."""


@dataclass(frozen=True)
class Cause:
    """What taking a unit away does to the model's predictions."""

    kl_positive: float
    """Nats a token, on positive texts."""
    kl_negative: float
    p_value: float
    """Against random units of the same group: how many matter as much on positive texts, relative to negative ones."""
    causal: bool
    """Whether it matters on positive texts, and more there than elsewhere, beyond what random units do."""


@dataclass(frozen=True)
class Found:
    """One candidate."""

    unit: str
    polarity: str
    auroc: float
    low: float
    high: float
    q_value: float
    confirmed: bool
    mean_positive: float
    mean_negative: float
    cause: Cause | None
    """None where it was not taken away: beyond the first ones, or nothing of its own to take."""


@dataclass(frozen=True)
class Discovery:
    """What was found."""

    subject: str
    source: str
    positive: int
    negative: int
    units: int
    """Looked at, with both tails each."""
    alpha: float
    found: tuple[Found, ...]
    examples: tuple[str, ...]
    """Some positive texts."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def discover(
    subject: Subject,
    units: Sequence[UnitId],
    sets: Sets,
    *,
    alpha: float = 0.05,
    most: int = 100,
    causal: bool = True,
    seed: int = 0,
    progress: Told | None = None,
) -> Discovery:
    """Units that respond to the positive texts, best first.

    Args:
        subject: The model.
        units: Where to look.
        sets: The texts.
        alpha: False-discovery rate.
        most: Candidates to report.
        causal: Whether to take the first ones away and see what the predictions lose.
        seed: Of the halves and of the random units.
        progress: Told (what, done, in all).

    Raises:
        DiscoverError: There are too few texts, or a text is in both sets.
    """
    if both := set(sets.positive) & set(sets.negative):
        raise DiscoverError(f"{len(both)} texts are in both sets, such as {min(both)[:60]!r}. Take them out of one.")
    if min(len(sets.positive), len(sets.negative)) < LEAST:
        raise DiscoverError(
            f"Units are discovered from at least {LEAST} texts of each kind; there are {len(sets.positive)} positive "
            f"and {len(sets.negative)} negative ones."
        )
    texts = [subject.encode(text, LONGEST) for text in (*sets.positive, *sets.negative)]
    if short := [i for i, text in enumerate(texts) if len(text) < 2]:
        raise DiscoverError(f"Text {short[0] + 1} is too short: units are read from its second token on.")
    told = progress or (lambda what, done, total: None)
    read = responses(subject, units, texts, progress=lambda done, total: told("reading texts", done, total))
    positive = np.arange(len(texts)) < len(sets.positive)
    chosen = separating(read.positive, read.negative, positive, alpha=alpha, seed=seed)[:most]
    causes = _causes(subject, units, chosen, _Data(texts, positive, seed), told) if causal and chosen else {}
    found = tuple(
        Found(
            str(units[one.row]), one.polarity, one.auroc, one.low, one.high, one.q_value, one.confirmed,
            one.mean_positive, one.mean_negative, causes.get((one.row, one.polarity)),
        )
        for one in chosen
    )  # fmt: skip
    return Discovery(
        subject.name, sets.source, len(sets.positive), len(sets.negative), len(units), alpha, found, sets.positive[:5]
    )


@dataclass(frozen=True)
class _Data:
    texts: list[list[int]]
    positive: np.ndarray[Any, np.dtype[np.bool_]]
    seed: int


def _causes(
    subject: Subject, units: Sequence[UnitId], chosen: Sequence[Separation], data: _Data, told: Told
) -> dict[tuple[int, str], Cause]:
    """Each unit's activation is replaced by its mean over the texts without the thing, on texts of both kinds."""
    texts, positive = data.texts, data.positive
    confirmed = [one for one in chosen if one.confirmed and units[one.row].kind != "fn"][:CHECKED]
    if not confirmed or subject.model.get_output_embeddings() is None:
        return {}
    rng = np.random.default_rng(data.seed)
    taken = {one.row for one in chosen}
    kinds = [np.flatnonzero(positive)[:ABLATED], np.flatnonzero(~positive)[:ABLATED]]
    reference = Reference(tuple(tuple(texts[i]) for i in np.flatnonzero(~positive)), "the negative texts")
    causes: dict[tuple[int, str], Cause] = {}
    groups = list(dict.fromkeys(units[one.row].group for one in confirmed))
    for number, group in enumerate(groups):
        own = [one for one in confirmed if units[one.row].group == group]
        others = [row for row, unit in enumerate(units) if unit.group == group and row not in taken]
        drawn = rng.choice(others, min(RANDOM, len(others)), replace=False).tolist() if others else []
        sets = [[units[row]] for row in (*(one.row for one in own), *drawn)]
        kls = np.array([
            [effect.kl for effect in ablate(subject, sets, [texts[i] for i in kind], "mean", reference).effects]
            for kind in kinds
        ])  # fmt: skip
        excess = kls[0] - kls[1]
        null = excess[len(own) :]
        for place, one in enumerate(own):
            p = (1 + int((null >= excess[place]).sum())) / (1 + len(null))
            causes[one.row, one.polarity] = Cause(
                float(kls[0, place]), float(kls[1, place]), p, bool(excess[place] > 0 and p <= 0.05)
            )
        told("taking units away", number + 1, len(groups))
    return causes


def sets_from_model(query: str, llm: Llm, prompts: Prompts | None = None) -> Sets:
    """Texts that a language model writes of a sentence, and of each a near miss.

    Near misses make it hard to tell the two kinds apart by anything else; texts out of a corpus differ in much.

    Args:
        query: The sentence.
        llm: The model; calls go to the account in force (`explainers.llm.accounts.charged_to`).
        prompts: Those in force; None: the package's.

    Raises:
        DiscoverError: It wrote too few that can be used.
        LlmError: It cannot be asked.
    """
    prompt = (prompts or Prompts()).get("discover-texts")
    sentence = defused(one_line(query) or "")
    requests = [
        Request(
            "discover", prompt.render(sentence=sentence, n=PAIRS, part=part + 1, parts=SETS), WRITTEN, FREEDOM, part,
            prompt.digest,
        )
        for part in range(SETS)
    ]  # fmt: skip
    answers = llm.ask_all(requests, Pairs)
    pairs = [pair for answer in answers if not isinstance(answer, LlmError) for pair in answer.pairs]
    positive = dict.fromkeys(pair.positive.strip() for pair in pairs if pair.positive.strip())
    negative = dict.fromkeys(
        pair.negative.strip() for pair in pairs if pair.negative.strip() and pair.negative.strip() not in positive
    )
    if min(len(positive), len(negative)) < LEAST:
        failed = next((f" ({answer})" for answer in answers if isinstance(answer, LlmError)), "")
        raise DiscoverError(
            f"{llm.model} wrote {len(positive)} texts of '{query}' and {len(negative)} near misses; {LEAST} of each "
            f"are needed{failed}. Try another model, or give texts (--positive, --negative)."
        )
    return Sets(tuple(positive), tuple(negative), f"texts that {llm.model} wrote of '{query}', against near misses")


def sets_from_corpus(query: str, corpus: Corpus, subject: Subject, likeness: Likeness | None = None) -> Sets:
    """Windows of the corpus that are most like a sentence, and as many that are least like it, of other documents.

    Only documents of the explore split are looked at, so that what is found can be tested on the others. Likeness is of
    words alone where no model for sentences is at hand, and says so.

    Raises:
        DiscoverError: Too few windows have anything of it.
    """
    like = likeness or Bm25()
    windows: list[tuple[str, str]] = []
    for number, document in enumerate(corpus.documents):
        if len(windows) >= LOOKED_AT or corpus.split_of(number) is not Split.EXPLORE:
            continue
        pieces = subject.pieces(subject.encode(document.text, 4 * LONGEST)[len(subject.prefix) :])
        starts = range(0, max(1, len(pieces) - LONGEST // 4), LONGEST // 2)
        windows += [(document.id, "".join(pieces[start : start + LONGEST // 2])) for start in starts]
    if not windows:
        raise DiscoverError(f"The corpus {corpus.spec} has no documents to look in.")
    scores = like.to([query], [text for _, text in windows])[0]
    order = np.argsort(-scores, kind="stable")
    best = [int(i) for i in order if scores[i] > 0][:FOUND]
    taken, bar = {windows[i][0] for i in best}, min((scores[i] for i in best), default=0.0)
    rest = [int(i) for i in order[::-1] if windows[int(i)][0] not in taken and scores[int(i)] < bar]
    step = max(1, len(rest) // FOUND)
    positive = tuple(dict.fromkeys(windows[i][1] for i in best))
    negative = tuple(t for t in dict.fromkeys(windows[i][1] for i in rest[::step][:FOUND]) if t not in positive)
    if min(len(positive), len(negative)) < LEAST:
        raise DiscoverError(
            f"The corpus has {len(positive)} windows with words of '{query}' (and {len(negative)} without), among "
            f"{len(windows):,}. Use words that occur in it, name a language model (--llm), or give texts "
            "(--positive, --negative)."
        )
    return Sets(positive, negative, f"windows of {corpus.spec} most like '{query}' by {like.name}")
