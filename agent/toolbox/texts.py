"""Texts that tools are given, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from tools.errors import SubjectError
from tools.subject import Subject


def encoded(subject: Subject, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
    """Token ids of each text, cut to the subject's context, and whether something was cut.

    Raises:
        SubjectError: A text has no tokens.
    """
    whole = [subject.encode(text) for text in texts]
    for text, ids in zip(texts, whole, strict=True):
        if len(ids) <= len(subject.prefix):
            raise SubjectError(f"The text {text!r} has no tokens to run. Give one with at least a word in it.")
    return [ids[: subject.context] for ids in whole], [len(ids) > subject.context for ids in whole]


def token_of(subject: Subject, text: str) -> int:
    """The one token that a text is, leading space included.

    Raises:
        SubjectError: It is none, or several.
    """
    ids = [int(i) for i in subject.tokenizer(text, add_special_tokens=False)["input_ids"]]
    if len(ids) != 1:
        pieces = " + ".join(repr(piece) for piece in subject.pieces(ids)) or "nothing"
        raise SubjectError(
            f"{text!r} is not one token of '{subject.name}' but {pieces}. Give a single token; a leading space counts."
        )
    return ids[0]
