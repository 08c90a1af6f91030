"""Tasks that are built in: pairs of prompts made for a subject's own vocabulary.

- ``ioi``: indirect object identification (Wang et al. 2023). "when Anna and Ben met , Anna gave the hammer to" is to be
  followed by " Ben". In the corrupted prompt a third name stands in the place of the second " Anna".
- ``induction``: a row of random tokens, and its beginning again; what followed the last token the first time is to
  follow it now. In the corrupted prompt that token and another have changed places in the row, so that something else
  followed it. Both prompts hold the same tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch

from tools.errors import InterventionError
from tools.patching import Pair, TokenPair, encode_pairs
from tools.patching.runs import groups
from tools.planted.words import CATEGORIES
from tools.subject import Subject

#: The row of ``induction``: its length, the index of the token that is repeated last, and of its partner.
_ROW, _LAST, _OTHER = 9, 3, 6


def ioi(subject: Subject, n: int, seed: int = 0) -> list[TokenPair]:
    """Pairs of ``ioi``, half of them with the first name repeated.

    Raises:
        InterventionError: The subject's tokenizer splits names, so that the prompts differ in length.
    """
    rng = random.Random(f"ioi {seed}")
    pairs = []
    for number in range(n):
        first, second, third = rng.sample(CATEGORIES["name"], 3)
        thing, gave, met = (rng.choice(CATEGORIES[c]) for c in ("tool", "gave", "met"))
        again, answer = (first, second) if number % 2 else (second, first)
        clean, corrupt = (f"when {first} and {second} {met} , {name} {gave} the {thing} to" for name in (again, third))
        pairs.append(Pair(clean, corrupt, f" {answer}", f" {again}"))
    return encode_pairs(subject, pairs)


def induction(subject: Subject, n: int, seed: int = 0) -> list[TokenPair]:
    """Pairs of ``induction``, of tokens of at least two letters where the vocabulary has enough of them.

    Raises:
        InterventionError: The vocabulary is too small.
    """
    rng = random.Random(f"induction {seed}")
    ids = sorted(set(range(min(len(subject.tokenizer), subject.vocabulary))) - set(subject.tokenizer.all_special_ids))
    words = [i for i, piece in zip(ids, subject.pieces(ids), strict=True) if sum(map(str.isalpha, piece)) >= 2]
    drawn_from = words if len(words) >= 4 * _ROW else ids
    if len(drawn_from) < _ROW:
        raise InterventionError(f"The vocabulary of '{subject.name}' is too small for this task.")
    prefix = tuple(subject.prefix)
    pairs = []
    for number in range(n):
        row = rng.sample(drawn_from, _ROW)
        other = list(row)
        other[_LAST], other[_OTHER] = row[_OTHER], row[_LAST]
        again = row[: _LAST + 1]
        pairs.append(
            TokenPair((*prefix, *row, *again), (*prefix, *other, *again), row[_LAST + 1], row[_OTHER + 1], None, number)
        )
    return pairs


TASKS: MappingProxyType[str, Callable[[Subject, int, int], list[TokenPair]]] = MappingProxyType(
    {"ioi": ioi, "induction": induction}
)


def task(subject: Subject, name: str, n: int = 32, seed: int = 0) -> list[TokenPair]:
    """A built-in task's pairs.

    Raises:
        InterventionError: There is no such task, or it does not suit the subject.
    """
    if name not in TASKS:
        raise InterventionError(f"There is no task '{name}'. There are {', '.join(TASKS)}, or a file of pairs.")
    return TASKS[name](subject, n, seed)


def known(subject: Subject, pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """Pairs on which the subject shows the behaviour: it prefers the answer after the clean prompt, and less after the
    other."""
    kept = []
    with torch.inference_mode():
        for group in groups(subject, pairs, []):
            clean, corrupt = (group.baselines[side][0] for side in ("clean", "corrupt"))
            kept += [group.pairs[i] for i in ((clean > 0) & (clean > corrupt)).nonzero()[:, 0].tolist()]
    return kept
