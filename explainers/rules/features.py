"""The literals that are true at each position, as integer codes, computed once and shared by all units of a split.

Literals come in families. In a family of one slot (the token two back, say) exactly one member can hold at a position,
and its code stands in the family's column. In a family of several slots (the endings of the text, by length; the words
within the last five) each slot has a column. A flag (a state, a class, a comparison) has one column with one code. So a
table row holds all literals true at one position, and weighted sums over literals are one `bincount`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explainers.rules.ast import MAX_TEXT, Compare, InSet, Is, Literal, Place, State
from explainers.rules.evaluate import group_by_context, reading_of
from explainers.rules.reading import Reading
from explainers.types import TextSource
from tools.types import IntArray

Codes = npt.NDArray[np.int32]

TOKENS_BACK = 9
SUFFIX_LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
WORDS_BACK = 4
PREFIX_LENGTHS = (1, 2, 3, 4)
NEAR_TOKENS = 5
NEAR_TOKENS_TUNED = tuple(k for k in range(2, TOKENS_BACK + 1) if k != NEAR_TOKENS)
"""Other lengths of a vicinity of tokens, tried in place of the one that is searched with."""
NEAR_WORDS = 8
_CLASSES = ("upper", "title", "digit", "punct", "space", "newline", "indentation", "word-start", "word-inside", "mixed")
_CLASSES_BEFORE = ("title", "digit", "punct", "space", "newline", "indentation")
_STATES = (
    "repeated token", "repeated word", "induction", "inside quotes", "inside ()", "inside []", "inside {}",
    "inside comment", "inside string", "inside docstring", "at sentence start", "at line start",
)  # fmt: skip
_COMPARISONS = (
    *(Compare("position", "<", n) for n in (2, 3, 5, 9, 17, 33)),
    *(Compare("position", ">", n) for n in (64, 128)),
    *(Compare("indent", "=", n) for n in (0, 4, 8, 12)),
    Compare("indent", ">", 12),
    *(Compare("column", "<", n) for n in (1, 2, 3, 5)),
)


@dataclass(frozen=True)
class Family:
    """Literals that differ only in their member: one set literal can hold several of them."""

    place: Place | None
    """None for a flag."""
    relation: str
    flag: Literal | None
    columns: tuple[int, ...]
    """Of the table. None for a family that is not searched but only tuned; see `derived`."""
    quantity: str = ""
    """What a family of comparisons compares; its members are written '<13'."""

    @property
    def derived(self) -> bool:
        """Whether its literals follow from other columns, or from the position, and have none of their own."""
        return not self.columns

    @property
    def distance(self) -> int | None:
        """How far back the one token stands that its literals look at; None where they look at others or at several."""
        if isinstance(self.flag, Is):
            return self.flag.offset
        return self.place.offset if self.place is not None and self.place.kind == "token" else None

    def literal(self, members: tuple[str, ...], negated: bool = False) -> Literal:
        """The literal of this family with these members."""
        if self.quantity:
            return Compare(self.quantity, members[0][0], int(members[0][1:]), negated)
        if self.place is not None:
            return InSet(self.place, self.relation, members, negated)
        if isinstance(self.flag, Is):
            return Is(self.flag.offset, self.flag.token_class, negated)
        if isinstance(self.flag, Compare):
            return Compare(self.flag.quantity, self.flag.operator, self.flag.value, negated)
        assert isinstance(self.flag, State)
        return State(self.flag.name, negated)


def _families() -> tuple[Family, ...]:
    found: list[Family] = []
    column = 0

    def add(place: Place | None, relation: str, flag: Literal | None, slots: int) -> None:
        nonlocal column
        found.append(Family(place, relation, flag, tuple(range(column, column + slots))))
        column += slots

    for offset in range(TOKENS_BACK):
        add(Place("token", offset), "in", None, 1)
    add(Place("text"), "ends", None, len(SUFFIX_LENGTHS))
    for offset in range(WORDS_BACK):
        add(Place("word", offset), "in", None, 1)
    add(Place("word"), "starts", None, len(PREFIX_LENGTHS))
    add(Place("near token", NEAR_TOKENS), "in", None, NEAR_TOKENS)
    add(Place("near word", NEAR_WORDS), "in", None, NEAR_WORDS)
    flags: list[Literal] = [*(Is(0, name) for name in _CLASSES), *(Is(1, name) for name in _CLASSES_BEFORE)]
    flags += [*(State(name) for name in _STATES), *_COMPARISONS]
    for flag in flags:
        add(None, "", flag, 1)
    for k in NEAR_TOKENS_TUNED:
        add(Place("near token", k), "in", None, 0)
    found.append(Family(None, "", None, (), "position"))
    return tuple(found)


FAMILIES = _families()
POSITION = len(FAMILIES) - 1
"""Number of the family of comparisons with the position."""
N_COLUMNS = sum(len(family.columns) for family in FAMILIES)


class FeatureTable:
    """Codes of the literals true at positions of one split.

    Args:
        texts: the split's texts.
        panel_contexts: contexts whose rows are computed once and kept.
    """

    def __init__(self, texts: TextSource, panel_contexts: IntArray):
        self._texts = texts
        self._lock = threading.Lock()
        self._codes = [_FamilyCodes(self, number) for number in range(len(FAMILIES))]
        self.family_of: list[int] = []
        """Family number of each code."""
        self.member_of: list[str] = []
        """Member of each code; empty for flags."""
        self._panel: dict[int, Codes] = {}
        for context in np.asarray(panel_contexts).tolist():
            reading = reading_of(texts, context)
            self._panel[context] = self._encode(reading, np.arange(len(reading)))

    @property
    def n_codes(self) -> int:
        """Distinct literals met so far."""
        return len(self.family_of)

    def code(self, family: int, member: str) -> int | None:
        """Code of one literal, or None when it was never true at any position that the table was asked for."""
        return self._codes[family].get(member)

    def rows(self, contexts: IntArray, positions: IntArray) -> Codes:
        """Codes true at each (context, position); int32, shape [n, N_COLUMNS], -1 where a column has none."""
        out = np.empty((len(contexts), N_COLUMNS), np.int32)
        with self._lock:
            for context, where in group_by_context(np.asarray(contexts)):
                if context in self._panel:
                    out[where] = self._panel[context][positions[where]]
                else:
                    out[where] = self._encode(reading_of(self._texts, context), positions[where])
        return out

    def _encode(self, reading: Reading, positions: npt.NDArray[Any]) -> Codes:
        out = np.full((len(positions), N_COLUMNS), -1, np.int32)
        at = positions.tolist()
        for number, family in enumerate(FAMILIES):
            if family.derived:
                continue
            if family.flag is not None:
                held = reading.holds(family.flag)[positions]
                if held.any():
                    out[held, family.columns[0]] = self._codes[number][""]
            else:
                self._encode_members(reading, at, number, family, out)
        return out

    def _encode_members(self, reading: Reading, at: list[int], number: int, family: Family, out: Codes) -> None:
        assert family.place is not None
        kind, offset, codes = family.place.kind, family.place.offset, self._codes[number]
        if kind == "text":
            text, ends = reading.text, [reading.ends[i] for i in at]
            for slot, length in zip(family.columns, SUFFIX_LENGTHS, strict=True):
                out[:, slot] = [codes[text[end - length : end]] if end >= length else -1 for end in ends]
        elif family.relation == "starts":
            column = reading.column("word", 0)
            words = [column[i] for i in at]
            for slot, length in zip(family.columns, PREFIX_LENGTHS, strict=True):
                out[:, slot] = [-1 if w is None or len(w) < length else codes[w[:length]] for w in words]
        elif kind.startswith("near"):
            slots = [reading.column(kind.removeprefix("near "), back) for back in range(offset)]
            first = family.columns[0]
            for row, i in enumerate(at):
                found = {codes[v] for slot in slots if (v := slot[i]) and len(v) <= MAX_TEXT}
                out[row, first : first + len(found)] = list(found)
        else:
            values = reading.column(kind, offset)
            out[:, family.columns[0]] = [codes[v] if (v := values[i]) and len(v) <= MAX_TEXT else -1 for i in at]


class _FamilyCodes(dict[str, int]):
    """Code of each member of one family; a member not met before gets the next code of the table."""

    def __init__(self, table: FeatureTable, family: int):
        super().__init__()
        self._table, self._family = table, family

    def __missing__(self, member: str) -> int:
        code = self[member] = len(self._table.family_of)
        self._table.family_of.append(self._family)
        self._table.member_of.append(member)
        return code
