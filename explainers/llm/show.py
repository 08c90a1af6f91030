"""Text as a language model is shown it, and the way back from what it quotes to tokens.

Every token is shown as a piece of its own, so that a place in the shown text belongs to one token. Line breaks and
other control characters are spelled out, as elsewhere in the project's output, and the brackets that mark tokens
(« ») are replaced where they occur in the text itself: a corpus can neither forge a mark nor begin a line of its own.
Nor can it end its turn: the tokens by which chat templates tell turns apart, which servers read wherever they stand,
lose their first character to one that looks like it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

MARKS = ("«", "»")
"""Around what is pointed at."""
_SHOWN = {"\n": "⏎", "\t": "⇥", "\r": "␍", "«": "‹", "»": "›"}
#: As in Llama 3 and ChatML (<|im_start|>), Llama 2 and Mistral ([INST], <<SYS>>, </s>), Gemma (<start_of_turn>), BERT.
_TURNS = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|</?s>|<</?SYS>>|</?(?:start|end)_of_(?:turn|image)>|<(?:bos|eos|pad|unk|mask)>"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|\[(?:CLS|SEP|PAD|UNK|MASK)\]",
    re.IGNORECASE,
)
_ALIKE = {"<": "‹", "[": "⟦"}


@functools.lru_cache(maxsize=1 << 16)
def shown(piece: str) -> str:
    """A token's text on one line."""
    return defused("".join(_SHOWN.get(c, c if c.isprintable() or c == " " else f"\\x{ord(c):02x}") for c in piece))


def defused(text: str) -> str:
    """A text of the same length without tokens of chat templates; its line ends and marks stay."""
    return _TURNS.sub(lambda found: _ALIKE[found[0][0]] + found[0][1:], text)


@dataclass(frozen=True)
class Shown:
    """Tokens as they are shown, and where each of them is."""

    text: str
    starts: tuple[int, ...]
    """Where each token's piece begins in `text`, without its mark."""
    ends: tuple[int, ...]

    def tokens_at(self, start: int, end: int) -> list[int]:
        """Tokens of which something is shown within [start, end) of the text."""
        return [t for t, (a, b) in enumerate(zip(self.starts, self.ends, strict=True)) if a < end and b > start]

    def find(self, quote: str, occurrence: int = 1) -> list[int]:
        """Tokens of the n-th occurrence of a quote; none when it is not there so often.

        A quote is taken as it is, then without marks, then without outer spaces, then without quotation marks.
        """
        for places in self._places(quote):
            if len(places) >= occurrence:
                return self.tokens_at(*places[occurrence - 1])
        return []

    def find_all(self, quote: str) -> list[int]:
        """Tokens of all occurrences of a quote, as `find` takes it first."""
        places = next(iter(self._places(quote)), [])
        return sorted({token for place in places for token in self.tokens_at(*place)})

    def _places(self, quote: str) -> Iterator[list[tuple[int, int]]]:
        """[start, end) of the occurrences of each way to take a quote that has any."""
        plain = _plain(quote)
        for wanted in dict.fromkeys((quote, plain, plain.strip(), plain.strip().strip("\"'`“”‘’"))):
            places, at = [], self.text.find(wanted) if wanted else -1
            while at >= 0:
                places.append((at, at + len(wanted)))
                at = self.text.find(wanted, at + 1)
            if places:
                yield places


def show(pieces: Sequence[str], marked: Collection[int] = ()) -> Shown:
    """Pieces on one line, runs of marked ones within « ».

    Args:
        pieces: Texts of the tokens.
        marked: Which of them are pointed at.
    """
    wanted = {number for number in marked if number < len(pieces)}
    text, starts, ends = "", [], []
    for number, piece in enumerate(pieces):
        if number in wanted and number - 1 not in wanted:
            text += MARKS[0]
        starts.append(len(text))
        text += shown(piece)
        ends.append(len(text))
        if number in wanted and number + 1 not in wanted:
            text += MARKS[1]
    return Shown(defused(text), tuple(starts), tuple(ends))  # a token may be made of several pieces


def level(value: float, maximum: float) -> int:
    """An activation on the scale 0 to 10 that is shown: ceil(10 · value / maximum), 0 where it is not positive
    (Paulo et al. 2024, arXiv 2410.13928)."""
    if value <= 0 or maximum <= 0:
        return 0
    return min(10, -int(-10 * value // maximum))


def _plain(quote: str) -> str:
    for mark in MARKS:
        quote = quote.replace(mark, "")
    return shown(quote)
