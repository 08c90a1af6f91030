"""Tokens put in the place of others: drawn from what could stand there, so that variants of a text are texts.

A token that is replaced by a mask or by zeros shows what the model makes of inputs it never saw. So replacements are
draws from a conditional distribution, several for each place (Kim et al. 2020, arXiv 2010.13984): of pairs of tokens in
reference texts, or the subject's own. Special tokens are never drawn.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.ablation.reference import Reference
from tools.errors import UnitError
from tools.subject import Subject
from tools.types import BoolArray, IntArray

Weights: TypeAlias = npt.NDArray[np.float64]

#: What the unigram distribution weighs beside the pairs that were counted.
_SMOOTHING = 0.5


class Imputer(Protocol):
    """Where replacements come from."""

    name: str

    def others(self, ids: Sequence[int], place: int, n: int, rng: np.random.Generator) -> IntArray:
        """Tokens other than the one at a place that could stand there, the rest of the text as it is; int64 [n]."""
        ...

    def fill(self, ids: Sequence[int], kept: BoolArray, rng: np.random.Generator) -> IntArray:
        """The text with all tokens but the kept ones drawn anew, in each row: bool [row, pos] to int64 [row, pos]."""
        ...


def imputer_for(subject: Subject, reference: Reference | None = None) -> Imputer:
    """Pairs of reference texts where there are any, else the subject itself.

    Raises:
        UnitError: There are no reference texts, and the subject has no head or is an encoder without a mask token; or
            the reference texts have fewer than two different tokens.
    """
    return ModelImputer(subject) if reference is None else PairImputer(subject, reference.contexts)


def ordinary(subject: Subject) -> BoolArray:
    """Which tokens may be drawn: of the tokenizer, and not special; bool [vocabulary]."""
    allowed = np.arange(subject.vocabulary) < len(subject.tokenizer)
    special = [i for i in subject.tokenizer.all_special_ids if i < subject.vocabulary]
    allowed[special] = False
    return allowed


class PairImputer:
    """Draws w after l and before r with weight (n(l w) + s p(w)) (n(w r) + s p(r)) / (n(w) + s), of counted pairs."""

    name = "pairs of the reference texts"

    def __init__(self, subject: Subject, reference: Sequence[Sequence[int]]) -> None:
        allowed = ordinary(subject)
        counts: Counter[int] = Counter()
        after: dict[int, Counter[int]] = defaultdict(Counter)
        for text in reference:
            counts.update(int(t) for t in text if allowed[t])
            for left, right in itertools.pairwise(text):
                if allowed[right]:
                    after[int(left)][int(right)] += 1
        if len(counts) < 2:
            raise UnitError("Replacements need reference texts with at least 2 different tokens; there are fewer.")
        self.tokens = np.array(sorted(counts), dtype=np.int64)
        self._n = np.array([counts[int(t)] for t in self.tokens], dtype=np.float64)
        self._p = self._n / self._n.sum()
        self._column = {int(t): i for i, t in enumerate(self.tokens)}
        columns = self._column
        self._after = {
            left: (np.array([columns[t] for t in seen]), np.array(list(seen.values()), dtype=np.float64))
            for left, seen in after.items()
        }
        before: dict[int, dict[int, int]] = defaultdict(dict)
        for left, seen in after.items():
            for right, n in seen.items():
                if left in columns:
                    before[right][columns[left]] = n
        self._before = {right: (np.array(list(seen)), np.array(list(seen.values()), dtype=np.float64))
                        for right, seen in before.items()}  # fmt: skip

    def weights(self, left: int | None, right: int | None) -> Weights:
        """Weights of `tokens` between two others; None where nothing is known of one side."""
        weights: Weights = _SMOOTHING * self._p
        if left in self._after:
            places, n = self._after[left]
            weights[places] += n
        if right is not None:
            follows = np.full(
                len(weights), _SMOOTHING * self._p[self._column[right]] if right in self._column else 1e-9
            )
            if right in self._before:
                places, n = self._before[right]
                follows[places] += n
            weights = weights * follows / (self._n + _SMOOTHING)
        return weights

    def others(self, ids: Sequence[int], place: int, n: int, rng: np.random.Generator) -> IntArray:
        left = int(ids[place - 1]) if place else None
        right = int(ids[place + 1]) if place + 1 < len(ids) else None
        weights = self.weights(left, right)
        if (own := self._column.get(int(ids[place]))) is not None:
            weights[own] = 0.0
        drawn: IntArray = rng.choice(self.tokens, n, p=weights / weights.sum())
        return drawn

    def fill(self, ids: Sequence[int], kept: BoolArray, rng: np.random.Generator) -> IntArray:
        filled = np.tile(np.array(ids, dtype=np.int64), (len(kept), 1))
        for place in range(filled.shape[1]):
            groups: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
            for row in np.flatnonzero(~kept[:, place]):
                known = place + 1 < len(ids) and kept[row, place + 1]
                groups[int(filled[row, place - 1]) if place else None, int(ids[place + 1]) if known else None].append(
                    int(row)
                )
            for (left, right), rows in groups.items():
                weights = self.weights(left, right)
                filled[rows, place] = rng.choice(self.tokens, len(rows), p=weights / weights.sum())
        return filled


@dataclass
class ModelImputer:
    """Draws from the subject itself: a decoder's next-token distribution, an encoder's at a mask.

    A decoder's distribution knows what comes before alone, so that what follows a replacement need not suit it.
    """

    subject: Subject

    name = "the subject's own distribution"

    def __post_init__(self) -> None:
        subject = self.subject
        if subject.model.get_output_embeddings() is None:
            raise UnitError(
                f"'{subject.name}' has no head to draw replacements from. Give reference texts, whose tokens they are."
            )
        if not subject.causal and subject.tokenizer.mask_token_id is None:
            raise UnitError(
                f"'{subject.name}' is an encoder whose tokenizer has no mask token, so replacements cannot be drawn "
                "from it. Give reference texts, whose tokens they are."
            )
        self._forbidden = torch.from_numpy(~ordinary(subject))

    def others(self, ids: Sequence[int], place: int, n: int, rng: np.random.Generator) -> IntArray:
        text = torch.tensor([list(map(int, ids))])
        if place == 0 and self.subject.causal:  # nothing is known of it
            logits = self._settled(torch.zeros(1, self.subject.vocabulary))
        else:
            logits = self._logits(text, place)
        logits[:, int(ids[place])] = -torch.inf
        return self._drawn(logits.expand(n, -1), rng)

    def fill(self, ids: Sequence[int], kept: BoolArray, rng: np.random.Generator) -> IntArray:
        filled = torch.tensor(list(map(int, ids)))[None].repeat(len(kept), 1)
        keep = torch.from_numpy(kept)
        if self.subject.causal:
            self._continue(filled, keep, rng)
            return filled.numpy()
        filled[~keep] = self.subject.tokenizer.mask_token_id
        for place in (~keep).any(0).nonzero()[:, 0].tolist():
            rows = ~keep[:, place]
            filled[rows, place] = torch.from_numpy(self._drawn(self._logits(filled[rows], place), rng))
        return filled.numpy()

    def _continue(self, filled: Tensor, keep: Tensor, rng: np.random.Generator) -> None:
        """Left to right, with keys and values kept; drawn tokens are written into `filled`."""
        subject, cache = self.subject, None
        scores = torch.zeros(len(filled), subject.vocabulary)
        last = int((~keep).any(0).nonzero().max()) if bool((~keep).any()) else -1
        with subject.lock, torch.inference_mode():
            for place in range(last + 1):
                if not bool(keep[:, place].all()):
                    rows = ~keep[:, place]
                    # Nothing is known of a first token that encoding puts none before.
                    filled[rows, place] = torch.from_numpy(self._drawn(self._settled(scores[rows]), rng))
                if place == last:
                    return
                given = filled[:, place : place + 1] if cache is not None else filled[:, : place + 1]
                inputs: dict[str, Any] = {"input_ids": given.to(subject.device), "use_cache": True}
                if cache is not None:
                    inputs["past_key_values"] = cache
                output = subject.model(**inputs)
                cache, scores = getattr(output, "past_key_values", None), output.logits[:, -1].cpu()

    def _logits(self, text: Tensor, place: int) -> Tensor:
        """What could stand at a place, float64 [row, vocabulary], forbidden tokens left out."""
        if self.subject.causal:
            found = self.subject.capture(text[:, :place], None, [], logits=True).logits
            assert found is not None
            return self._settled(found[:, -1])
        masked = text.clone()
        masked[:, place] = self.subject.tokenizer.mask_token_id
        found = self.subject.capture(masked, None, [], logits=True).logits
        assert found is not None
        return self._settled(found[:, place])

    def _settled(self, logits: Tensor) -> Tensor:
        logits = logits.double().cpu()[:, : len(self._forbidden)].clone()
        logits[:, self._forbidden] = -torch.inf
        return logits

    @staticmethod
    def _drawn(logits: Tensor, rng: np.random.Generator) -> IntArray:
        noise = torch.from_numpy(rng.gumbel(size=tuple(logits.shape)))
        found: IntArray = (logits + noise).argmax(-1).numpy()
        return found
