"""Edits of one text that need no further words of the model: what stands in a token's place, what is left out, put in,
or comes in another order.

Each is a trial by the tool `probe`: many short texts in few forward passes, for the price of one in the model's words.
What was done to the text for each probe is in `Trial.aim["variants"]`, so that results can be shown in a line. The tool
`rearrange_text` sums the like up for a unit by itself; here each variant is a place on which rivals are weighed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.contest.pattern.bases import Material as Corpus
from agent.contest.policy import Context
from agent.contest.types import Probe

#: Tokens that are tried in a place: the most frequent ones of the explore panel.
SUBSTITUTES = 160
#: Tokens before the place that is read which are left out, or before which a word is put in.
NEAR = 4
#: Other orders of the tokens before the place.
ORDERS = 3

Variant = tuple[str, Probe]


def substituted(context: Context, probe: Probe, back: int) -> list[Variant]:
    """The text with other tokens in one place, and what they are: the corpus's most frequent ones.

    Args:
        context: Of the policy.
        probe: The text, up to the token that is read.
        back: How many tokens before that one the place is; 0: its own.
    """
    corpus, body = Corpus(context), body_of(context, probe)
    at = len(body) - 1 - back
    tokens = [token for token in corpus.candidates[:SUBSTITUTES] if token != body[at]]
    changed = [(corpus.pieces([token])[0], [*body[:at], token, *body[at + 1 :]]) for token in tokens]
    return _written(corpus, changed)


def rearranged(context: Context, probe: Probe) -> list[Variant]:
    """The text without a token, with a word more, with the tokens before the last in other orders."""
    corpus, body = Corpus(context), body_of(context, probe)
    generator = np.random.default_rng(context.seed)
    last = len(body) - 1
    near = range(last - 1, max(last - 1 - NEAR, 0), -1)
    pieces = corpus.pieces(body)
    changed = [(f"without {_quoted(pieces[at])}", [*body[:at], *body[at + 1 :]]) for at in near]
    for at in range(last, max(last - NEAR, 0), -1):
        word = corpus.filler(1, at)[0]
        told = f"{_quoted(corpus.pieces([word])[0])} before {_quoted(pieces[at])}"
        changed.append((told, [*body[:at], word, *body[at:]]))
    for _ in range(ORDERS if last > 1 else 0):
        order = generator.permutation(last).tolist()
        mixed = [body[i] for i in order]
        if mixed != body[:last]:
            changed.append((f"in the order {''.join(pieces[i] for i in order).strip()}", [*mixed, body[last]]))
    return _written(corpus, changed)


def body_of(context: Context, probe: Probe) -> list[int]:
    """Tokens of a probe's text up to the one that is read, without the prefix of every text."""
    subject = context.desk.bench.subject
    return list(subject.encode(probe.text)[len(subject.prefix) : probe.position + 1])


def _written(corpus: Corpus, changed: Sequence[tuple[str, list[int]]]) -> list[Variant]:
    """Those that can be written down and are read back as the same tokens, none twice."""
    found: dict[Probe, str] = {}
    for told, body in changed:
        probe = corpus.written(body)
        if probe is not None and len(body) > 1:
            found.setdefault(probe, told)
    return [(told, probe) for probe, told in found.items()]


def _quoted(piece: str) -> str:
    return '"' + piece.replace('"', '\\"') + '"'
