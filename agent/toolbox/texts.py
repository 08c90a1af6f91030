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
