"""``find:seed=3,size=large``: which functions a subject has, from the options in its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tools.errors import SubjectError

SIZES = {"small": (40, 20), "large": (200, 100)}
"""Numeric functions and string functions of each size."""
#: Raised whenever the same options would make other weights or another corpus.
VERSION = 1
DOCUMENTS = 800


@dataclass(frozen=True)
class FindSpec:
    """Options of a subject of generated functions and of its corpus."""

    seed: int = 0
    size: str = "small"
    documents: int = DOCUMENTS
    """Of the corpus; half of them hold numbers, half words."""

    @property
    def text(self) -> str:
        """The subject in one way of writing; how long the corpus is does not belong to it."""
        return f"find:seed={self.seed},size={self.size}"

    @property
    def name(self) -> str:
        """Short name of the subject."""
        return f"find-s{self.seed}-{self.size}"


def find_spec(options: str) -> FindSpec:
    """Reads ``seed=3,size=large``; with or without ``find:`` before it; for a corpus also ``docs=2000``.

    Raises:
        SubjectError: An unknown option or value; the message says what there is.
    """
    given = options.removeprefix("find").removeprefix(":")
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in given.split(","))):
        key, equals, value = part.partition("=")
        if key not in ("seed", "size", "docs") or not equals:
            raise SubjectError(f"'find:{given}': '{part}' is not understood. Options are seed=N, size=small or large "
                               "and, for the corpus, docs=N.")  # fmt: skip
        found[key] = value
    for key in ("seed", "docs"):
        if key in found and not re.fullmatch(r"\d{1,9}", found[key]):
            raise SubjectError(f"'find:{given}': {key} is a whole number, not '{found[key]}'.")
    size = found.get("size", "small")
    if size not in SIZES:
        raise SubjectError(f"'find:{given}': there is no size '{size}'. Sizes are {', '.join(SIZES)}.")
    return FindSpec(int(found.get("seed", "0")), size, int(found.get("docs", str(DOCUMENTS))))
