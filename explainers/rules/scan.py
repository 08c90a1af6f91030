"""Quotes, brackets, comments and strings: one pass over the characters, which never looks ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.types import BoolArray

_OPEN = {"(": "()", "[": "[]", "{": "{}"}
_CLOSE = {")": "()", "]": "[]", "}": "{}"}


def scan(text: str, ends: Sequence[int]) -> dict[str, BoolArray]:
    """For each prefix ``text[:end]`` which of the 'inside …' states hold after its last character.

    'inside quotes' is for prose: straight double quotes alternate, curly ones open and close, a line break ends them.
    'inside string', 'docstring' and 'comment' read the text as Python would, but for one thing: a single quote right
    after a letter is an apostrophe. Brackets in strings and comments do not count, brackets in prose quotes do.

    Args:
        text: the text of a context.
        ends: non-decreasing prefix lengths.
    """
    names = ["quotes", "()", "[]", "{}", "comment", "string", "docstring"]
    out = {f"inside {name}": np.zeros(len(ends), bool) for name in names}
    scanner, done = _Scanner(), 0
    for i, end in enumerate(ends):
        for position in range(done, end):
            scanner.read(text[position])
        done = end
        out["inside quotes"][i] = scanner.quotes
        for pair in ("()", "[]", "{}"):
            out[f"inside {pair}"][i] = scanner.depth[pair] > 0
        if scanner.mode != "code":
            out[f"inside {scanner.mode}"][i] = True
    return out


class _Scanner:
    """What is open after the characters read so far."""

    def __init__(self) -> None:
        self.quotes = False
        self.depth = {"()": 0, "[]": 0, "{}": 0}
        self.mode = "code"
        self._quote = ""
        self._run = 0
        """Equal quote characters just read: an opening that may become a triple quote, or a closing triple."""
        self._empty = False
        """The string just closed was empty, so a third quote makes it a docstring."""
        self._escaped = False
        self._previous = ""

    def read(self, c: str) -> None:
        """Goes on by one character."""
        if c in ("\n", "”"):
            self.quotes = False
        elif c == "“":
            self.quotes = True
        elif c == '"':
            self.quotes = not self.quotes
        self._code(c)
        self._previous = c

    def _code(self, c: str) -> None:
        if self.mode == "comment":
            if c == "\n":
                self.mode = "code"
        elif self.mode == "string":
            if self._escaped:
                self._escaped = False
            elif c == "\\":
                self._escaped = True
            elif c == self._quote:
                self._empty = self._previous == c and self._run == 1
                self.mode = "code"
            elif c == "\n":
                self.mode = "code"
            self._run = 0
        elif self.mode == "docstring":
            if self._escaped:
                self._escaped, self._run = False, 0
            elif c == "\\":
                self._escaped, self._run = True, 0
            elif c == self._quote:
                self._run += 1
                if self._run == 3:
                    self.mode, self._run = "code", 0
            else:
                self._run = 0
        else:
            self._outside(c)

    def _outside(self, c: str) -> None:
        if c == self._quote and self._empty:
            self.mode, self._run, self._empty = "docstring", 0, False
            return
        self._empty = False
        if c == "#":
            self.mode = "comment"
        elif c == '"' or (c == "'" and not (self._previous.isalnum() or self._previous == "_")):
            self.mode, self._quote, self._run, self._escaped = "string", c, 1, False
        elif c in _OPEN:
            self.depth[_OPEN[c]] += 1
        elif c in _CLOSE:
            pair = _CLOSE[c]
            self.depth[pair] = max(self.depth[pair] - 1, 0)
