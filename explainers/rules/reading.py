"""One context as a rule sees it: for each position, the text up to and including its token, and nothing after it.

A `Reading` computes each quantity once for all positions of a context and keeps it. Every quantity at position i is a
function of tokens 0..i alone, so a rule can be compared with a causal model.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np

from explainers.rules.ast import TOKEN_CLASSES, InSet, Is, Literal, State
from explainers.rules.scan import scan
from tools.types import BoolArray, IntArray

_SPECIAL = re.compile(r"<[^<>\s]{1,40}>|\[[A-Z]{2,10}\]")
"""The piece of a beginning-of-sequence token; it is no part of the text."""
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_CLOSERS = " \t\r\n\"'“”’)]}"


class Reading:
    """The text of one context, read token by token.

    Args:
        pieces: text of each token, so that joining them gives the text.
    """

    def __init__(self, pieces: Sequence[str]):
        self.pieces = list(pieces)
        parts = self.pieces.copy()
        if parts and _SPECIAL.fullmatch(parts[0]):
            parts[0] = ""
        self.text = "".join(parts)
        self.ends: list[int] = np.cumsum([len(part) for part in parts]).tolist()
        self._parts = parts
        self._columns: dict[tuple[str, int], list[str | None]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    # --- texts at a place ---------------------------------------------------------------------------------------------

    def column(self, kind: str, offset: int) -> list[str | None]:
        """For each position the token (kind 'token') or word ('word') `offset` back; None where there is none."""
        key = (kind, offset)
        if key not in self._columns:
            if kind == "token":
                kept = len(self.pieces) - offset
                self._columns[key] = [*([None] * min(offset, len(self))), *self.pieces[: max(kept, 0)]]
            else:
                self._columns[key] = self._words(offset)
        return self._columns[key]

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(self.text)]

    @cached_property
    def _word_index(self) -> list[tuple[int, int, int]]:
        """Per position: (index of the word being read or -1, its start or -1, words completed before it)."""
        starts = [start for start, _ in self._spans]
        found = []
        for end in self.ends:
            index = bisect.bisect_left(starts, end) - 1
            if index < 0:
                found.append((-1, -1, 0))
                continue
            start, stop = self._spans[index]
            # After an apostrophe the word may go on or not, which only later text tells: it counts as ended.
            if end <= stop and self.text[end - 1] not in "'’":
                found.append((index, start, index))
            else:
                found.append((-1, -1, index + 1))
        return found

    def _words(self, offset: int) -> list[str | None]:
        text, spans = self.text, self._spans
        out: list[str | None] = []
        for (index, start, done), end in zip(self._word_index, self.ends, strict=True):
            if offset == 0:
                out.append(text[start:end] if index >= 0 else None)
            elif done >= offset:
                first, last = spans[done - offset]
                if last >= end:  # the word that an apostrophe has (so far) ended
                    last = end - 1
                out.append(text[first:last])
            else:
                out.append(None)
        return out

    def ends_with(self, members: Collection[str]) -> BoolArray:
        """For each position whether the text so far ends with one of the members.

        They are looked for in the text, not in each beginning of it: most of them are nowhere in it.
        """
        found = np.zeros(len(self.text) + 1, bool)
        for member in members:
            at = self.text.find(member)
            while at >= 0:
                found[at + len(member)] = True
                at = self.text.find(member, at + 1)
        return found[self.ends]

    # --- states -------------------------------------------------------------------------------------------------------

    @cached_property
    def _scan(self) -> dict[str, BoolArray]:
        return scan(self.text, self.ends)

    def token_class(self, name: str) -> BoolArray:
        """For each position whether its token is of the class; see `explainers.rules.ast.TOKEN_CLASSES`."""
        return self._classes[name]

    @cached_property
    def _classes(self) -> dict[str, BoolArray]:
        found = {name: np.zeros(len(self), bool) for name in TOKEN_CLASSES}
        cache: dict[str, list[str]] = {}
        previous, blank_line = "", True
        for i, part in enumerate(self._parts):
            if part not in cache:
                bare = part.strip(" ")
                cache[part] = [name for name, test in _CLASS_TESTS.items() if test(part, bare)]
            for name in cache[part]:
                found[name][i] = True
            if part:
                inside_word = bool(previous) and (previous[-1].isalnum() or previous[-1] == "_")
                first = part[0]
                if first.isalnum() or first == "_":
                    found["word-inside" if inside_word else "word-start"][i] = True
                elif first == " " and part.lstrip(" ")[:1].isalnum():
                    found["word-start"][i] = True
                after_break = "\n" in part and part[-1] in " \t" and not part.strip()
                found["indentation"][i] = after_break or (blank_line and not part.strip(" \t"))
                previous = part
                tail = part.rpartition("\n")[2]
                blank_line = not tail.strip(" \t") and (blank_line or "\n" in part)
        return found

    def quantity(self, name: str) -> IntArray:
        """'position' in the context, 'indent' of the line in characters, 'column': tokens since the newline."""
        if name == "position":
            return np.arange(len(self), dtype=np.int64)
        return self._lines[name]

    @cached_property
    def _lines(self) -> dict[str, IntArray]:
        indent, column = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        line, since = "", 0
        for i, part in enumerate(self._parts):
            if "\n" in part:
                line, since = part.rpartition("\n")[2], 0
            else:
                # A beginning-of-sequence token begins the first line as a newline would.
                line, since = (line if line.strip(" \t") else line + part), since + int(i > 0 or bool(part))
            indent[i] = len(line) - len(line.lstrip(" \t"))
            column[i] = since
        return {"indent": indent, "column": column}

    def state(self, name: str) -> BoolArray:
        """For each position whether the state holds; see `explainers.rules.ast.STATES`."""
        if name not in self._states:
            raise KeyError(name)
        return self._states[name]

    @cached_property
    def _states(self) -> dict[str, BoolArray]:
        n = len(self)
        states = dict(self._scan)
        token, pair, word = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
        tokens_seen: set[str] = set()
        pairs_seen: set[tuple[str, str]] = set()
        for i in range(1, n):
            here = (self.pieces[i - 1], self.pieces[i])
            token[i] = self.pieces[i] in tokens_seen
            pair[i] = here in pairs_seen
            tokens_seen.add(self.pieces[i])
            pairs_seen.add(here)
        words_seen: set[str] = set()
        entered = 0
        for i, (index, start, done) in enumerate(self._word_index):
            while entered < done:
                first, last = self._spans[entered]
                if last >= self.ends[i]:
                    break
                words_seen.add(self.text[first:last].lower())
                entered += 1
            word[i] = index >= 0 and self.text[start : self.ends[i]].lower() in words_seen
        states |= {"repeated token": token, "induction": pair, "repeated word": word}
        states["at sentence start"], states["at line start"] = self._starts()
        return states

    def _starts(self) -> tuple[BoolArray, BoolArray]:
        sentence, line = np.zeros(len(self), bool), np.zeros(len(self), bool)
        for i, (index, start, _) in enumerate(self._word_index):
            begin = start if index >= 0 else self.ends[i] - len(self._parts[i].lstrip())
            if not self._parts[i].strip():
                continue
            line_start = self.text.rfind("\n", 0, begin) + 1
            line[i] = not self.text[line_start:begin].strip(" \t")
            close = begin
            while close > 0 and self.text[close - 1] in _CLOSERS:
                close -= 1
            sentence[i] = index >= 0 and (close == 0 or self.text[close - 1] in ".!?…")
        return sentence, line

    # --- literals -----------------------------------------------------------------------------------------------------

    def holds(self, literal: Literal) -> BoolArray:
        """For each position of the context whether the literal is true there; shape [len(self)]."""
        if isinstance(literal, InSet):
            held = self._in_set(literal)
        elif isinstance(literal, Is):
            held = np.zeros(len(self), bool)
            held[literal.offset :] = self.token_class(literal.token_class)[: max(len(self) - literal.offset, 0)]
        elif isinstance(literal, State):
            held = self.state(literal.name)
        else:
            values = self.quantity(literal.quantity)
            held = {"<": values < literal.value, ">": values > literal.value, "=": values == literal.value}[
                literal.operator
            ]
        return ~held if literal.negated else held

    def _in_set(self, literal: InSet) -> BoolArray:
        place, members = literal.place, frozenset(literal.members)
        if place.kind == "text":
            return self.ends_with(members)
        held = np.zeros(len(self), bool)
        if place.kind.startswith("near"):
            kind = place.kind.removeprefix("near ")
            for offset in range(place.offset):
                held |= _among(self.column(kind, offset), members)
            return held
        values = self.column(place.kind, place.offset)
        if literal.relation == "in":
            return _among(values, members)
        ending = literal.relation == "ends"
        for length in {len(member) for member in members}:
            cut = slice(-length, None) if ending else slice(0, length)
            held |= np.fromiter((v is not None and v[cut] in members for v in values), bool, len(self))
        return held


def _among(values: Sequence[str | None], members: frozenset[str]) -> BoolArray:
    """Of each value whether it is one of the members."""
    return np.fromiter(map(members.__contains__, values), bool, len(values))


def _is_mixed(bare: str) -> bool:
    """An identifier with digits or underscores, or letters in mixed case ('camelCase', not 'Title')."""
    if not bare.isalpha():
        return bare.isidentifier()
    return not bare.islower() and not bare.isupper() and bare[1:] != bare[1:].lower()


_Test = Callable[[str, str], bool]
_CLASS_TESTS: dict[str, _Test] = {
    "upper": lambda part, bare: bare.isupper(),
    "title": lambda part, bare: bare[:1].isupper() and not bare[1:].isupper() and bare[1:] == bare[1:].lower(),
    "lower": lambda part, bare: bare.islower(),
    "mixed": lambda part, bare: _is_mixed(bare),
    "digit": lambda part, bare: bare.isdigit(),
    "punct": lambda part, bare: bool(bare.strip()) and not any(c.isalnum() or c.isspace() or c == "_" for c in bare),
    "space": lambda part, bare: bool(part) and not part.strip(),
    "newline": lambda part, bare: "\n" in part,
}  # fmt: skip
