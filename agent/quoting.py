"""Texts that a language model writes, and the token of one that it quotes."""

from __future__ import annotations

import numpy as np

from tools.subject import Subject

#: As texts are shown, and as they are.
_SPELLED = {"⏎": "\n", "⇥": "\t", "«": "", "»": ""}


class UnusableError(Exception):
    """What is wrong with something that was asked for, as the model is told it."""


def spelled(text: str) -> str:
    """A text as the subject reads it, out of one that was written as texts are shown."""
    for mark, meant in _SPELLED.items():
        text = text.replace(mark, meant)
    return text


def quoted_position(subject: Subject, text: str, quote: str, most: int) -> int:
    """The last token of the last occurrence of a quote, among the tokens that the subject makes of a text.

    Args:
        subject: Who reads it.
        text: The text.
        quote: What of it is meant.
        most: Tokens that it may have.

    Raises:
        UnusableError: There is no such place.
    """
    ids = subject.encode(text)
    first = len(subject.prefix)
    most = min(most, subject.context - first)
    if len(ids) - first > most:
        raise UnusableError(f"the text “{text[:40]}…” has {len(ids) - first} tokens; {most} at most")
    pieces = subject.pieces(ids)[first:]
    whole = "".join(pieces)
    unknown = getattr(subject.tokenizer, "unk_token", None)
    if unknown and unknown in pieces and unknown not in text:
        raise UnusableError(f"the model has no tokens for all of “{text[:60]}” and reads “{whole[:60]}”")
    wanted = next((way for way in (quote, quote.strip()) if way and way in whole), None)
    if wanted is None and quote.strip() in text:
        raise UnusableError(
            f"the model has no tokens for all of “{text[:60]}” and reads “{whole[:60]}”; use other words"
        )
    if wanted is None:
        raise UnusableError(f"“{quote}” does not stand in the text “{text[:60]}”")
    ends = np.cumsum([len(piece) for piece in pieces])
    number = int(np.searchsorted(ends, whole.rfind(wanted) + len(wanted)))
    # A text's very first token is read by no one: there is nothing before it.
    if first + number < 1:
        raise UnusableError(
            f"“{quote}” is the first token of “{text[:60]}”, which is not read; begin with another word"
        )
    return first + number
