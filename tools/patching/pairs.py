"""Clean prompts and their corrupted twins, as texts and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tools.errors import InterventionError
from tools.interventions import run
from tools.subject import Subject

#: Pairs whose missing answers are looked up at once.
_TOGETHER = 32


@dataclass(frozen=True)
class Pair:
    """A pair of prompts, as texts."""

    clean: str
    corrupt: str | None = None
    """With as many tokens; None: noise on the embeddings corrupts the prompt."""
    answer: str | None = None
    """The next token after the clean prompt; None: the one that the model finds most likely."""
    wrong: str | None = None
    """What the answer is compared with; None: the likeliest other token after the corrupted prompt."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the embeddings (Meng et al. 2022, arXiv 2202.05262), for prompts that have no twin.

    Replacing tokens is to be preferred: noise takes the model where it has never been, and may break what the
    replacement would leave intact (Zhang & Nanda 2024).
    """

    positions: tuple[int, ...] | None = None
    """Where; None: everywhere but the first position."""
    sigmas: float = 3.0
    """Its standard deviation, in standard deviations of the prompts' token embeddings."""
    draws: int = 10
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"positions": self.positions, "sigmas": self.sigmas, "draws": self.draws, "seed": self.seed}


@dataclass(frozen=True)
class TokenPair:
    """A pair of prompts, as token ids of equal number."""

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    answer: int
    wrong: int
    draw: int | None = None
    """With noise: which draw; the ids are then the same."""
    prompt: int = 0
    """Which of the given pairs it is; draws of one prompt share it."""
    noise: Noise | None = None

    @property
    def first(self) -> int:
        """The first position at which the two differ."""
        if self.noise is not None:
            return min(self.noise.positions) if self.noise.positions else min(1, len(self.clean) - 1)
        return next(i for i, (a, b) in enumerate(zip(self.clean, self.corrupt, strict=True)) if a != b)


def encode_pairs(subject: Subject, pairs: Sequence[Pair], noise: Noise | None = None) -> list[TokenPair]:
    """Token ids of pairs, checked, with what is left open filled in by the model.

    Args:
        subject: Whose tokenizer and predictions.
        pairs: At least one.
        noise: How prompts without a twin are corrupted; None: 10 draws of 3 standard deviations.

    Raises:
        InterventionError: Twins differ in their number of tokens, or not at all; an answer is not one token; noise is
            to fall beyond a prompt.
    """
    if not pairs:
        raise InterventionError("There are no pairs of prompts.")
    noise = noise or Noise()
    if noise.draws < 1 or not 0 < noise.sigmas < float("inf"):
        raise InterventionError("Noise needs at least one draw, and a size above 0.")
    found = []
    for number, pair in enumerate(pairs):
        clean = tuple(subject.encode(pair.clean))
        corrupt = clean if pair.corrupt is None else tuple(subject.encode(pair.corrupt))
        _check(subject, number, (clean, corrupt), noise if pair.corrupt is None else None)
        answer = -1 if pair.answer is None else answer_token(subject, pair.clean, pair.answer)
        wrong = -1 if pair.wrong is None else answer_token(subject, pair.corrupt or pair.clean, pair.wrong)
        found.append(TokenPair(clean, corrupt, answer, wrong, None, number, noise if pair.corrupt is None else None))
    found = _completed(subject, found)
    return [
        replace(pair, draw=draw) if pair.noise is not None else pair
        for pair in found
        for draw in range(pair.noise.draws if pair.noise is not None else 1)
    ]


def answer_token(subject: Subject, prompt: str, answer: str) -> int:
    """The one token that an answer is after a prompt.

    Raises:
        InterventionError: It is several, or none.
    """
    before, both = subject.encode(prompt), subject.encode(prompt + answer)
    if len(both) == len(before) + 1 and both[: len(before)] == before:
        return both[-1]
    alone = [int(i) for i in subject.tokenizer(answer, add_special_tokens=False)["input_ids"]]
    if len(alone) == 1 and subject.pieces(alone)[0] == answer:
        return alone[0]
    pieces = ", ".join(repr(piece) for piece in subject.pieces(alone))
    hint = "" if answer.startswith(" ") else " Does it want a space before it?"
    raise InterventionError(f"The answer {answer!r} is not one token of '{subject.name}', but {pieces}.{hint}")


def _check(
    subject: Subject, number: int, prompts: tuple[tuple[int, ...], tuple[int, ...]], noise: Noise | None
) -> None:
    clean, corrupt = prompts
    if len(clean) <= len(subject.prefix):
        raise InterventionError(f"The clean prompt of pair {number} has no tokens.")
    if noise is not None:
        if noise.positions and max(noise.positions) >= len(clean):
            raise InterventionError(
                f"Noise is to fall on position {max(noise.positions)}, but the prompt of pair {number} has "
                f"{len(clean)} tokens (0-{len(clean) - 1})."
            )
        return
    if len(clean) != len(corrupt):
        at = next((i for i, (a, b) in enumerate(zip(clean, corrupt, strict=False)) if a != b), None)
        where = "" if at is None else f" They part at position {at}, {_around(subject, clean, at)} against " \
            f"{_around(subject, corrupt, at)}."  # fmt: skip
        raise InterventionError(
            f"The prompts of pair {number} have {len(clean)} and {len(corrupt)} tokens; patching needs equal numbers."
            f"{where}\nReplace words by others of as many tokens."
        )
    if clean == corrupt:
        raise InterventionError(f"The two prompts of pair {number} are the same: there is nothing to patch.")


def _around(subject: Subject, ids: tuple[int, ...], at: int) -> str:
    return repr("".join(subject.pieces(ids[at : at + 3])))


def _completed(subject: Subject, pairs: list[TokenPair]) -> list[TokenPair]:
    """Pairs with answers that were left open."""
    out = list(pairs)
    lengths = sorted({len(pair.clean) for pair in pairs if -1 in (pair.answer, pair.wrong)})
    for length in lengths:
        open_ones = [i for i, p in enumerate(pairs) if len(p.clean) == length and -1 in (p.answer, p.wrong)]
        for start in range(0, len(open_ones), _TOGETHER):
            rows = open_ones[start : start + _TOGETHER]
            logits = [
                run(subject, torch.tensor([getattr(pairs[i], side) for i in rows]), last=True).logits
                for side in ("clean", "corrupt")
            ]
            assert logits[0] is not None
            assert logits[1] is not None
            clean, corrupt = (one[:, -1, : len(subject.tokenizer)].float() for one in logits if one is not None)
            for row, i in enumerate(rows):
                answer = out[i].answer if out[i].answer >= 0 else int(clean[row].argmax())
                other = corrupt[row].clone()
                other[answer] = -torch.inf
                wrong = out[i].wrong if out[i].wrong >= 0 else int(other.argmax())
                out[i] = replace(out[i], answer=answer, wrong=wrong)
    for number, pair in enumerate(out):
        if pair.answer == pair.wrong:
            raise InterventionError(
                f"The answers of pair {number} are both {subject.pieces([pair.answer])[0]!r}: their difference says "
                "nothing."
            )
    return out
