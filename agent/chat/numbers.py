"""Numbers in prose: found, read, and compared with the values that they may stand for.

A number as it is printed stands for every value that it is the rounding of: ``0.81`` for what lies within half of 0.01,
``8.1e-1`` and ``81 %`` for the same, ``12.5k`` for what lies within half of 100. What is said around a number tells
what it is a number of (`agent.chat.roles`).

What looks like a number and is none: a digit inside a name (F1, float32), a unit's id, the name of a cited row, and the
numbering of a list. `Found.numbers` leaves these out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: The name of a row: [score:123].
CITATION = re.compile(r"\[(unit|description|score|experiment|observation|hypothesis|example|investigation|campaign"
                      r"|result):(\d{1,18})\]")  # fmt: skip
#: A unit's id or a pattern of them, with a sign for one of its sides.
UNIT = re.compile(
    r"(?<![\w:])(?:(?:mlp|head|fn):[\w*,\-]+:[\d*][\d*,\-]*|sae:[\w.*\-]+:[\d*][\d*,\-]*|control:[\w:.\-]+|dir:[\w.\-*]+)"
    r"(?:[+-](?![\w.]))?"
)
#: The conventional name of an interval, which is no measurement.
_NAMED = re.compile(r"\b95\s?(?:%|per ?cent)(?=[\s-]*(?:confidence|interval|CI\b|credible|bootstrap))", re.IGNORECASE)
#: Dates, times and versions: several numbers that mean something only together.
COMPOSITE = re.compile(r"(?<![\w.:/-])\d+(?:(?:-\d+){2,}|(?:[.]\d+){2,}|(?::\d\d)+|(?:/\d+){2,})(?:T[\d:]+Z?)?(?!\w)")
#: A name with a digit in it.
_NAME = re.compile(r"(?<![\w])(?:[A-Z]{2,}[\w]*-\d[\w.]*|[A-Za-z_]+\d[\w]*)")
_LIST = re.compile(r"^[ \t]*\(?(\d{1,2})[.)][ \t]+", re.MULTILINE)

_MULTIPLES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_DIGITS = re.compile(
    r"""(?<![\w.])(?P<sign>[-−+±])?
    (?P<whole>\d{1,3}(?:[,\u202f\u00a0'’]\d{3})+(?!\d)|\d+)?(?P<part>\.\d+)?
    (?:[eE](?P<e>[-+−]?\d+)|\s?[×x·*]\s?10(?:(?:\^|\*\*)\s?\{?(?P<ten>[-+−]?\d+)\}?|(?P<up>[⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹]+)))?
    (?:\s?(?P<percent>%|‰|per\ ?cent\b)|\s?(?P<multiple>thousand|million|billion)\b|(?P<letter>[kKMG])(?![\w]))?""",
    re.VERBOSE,
)

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORD_VALUES = {word: number for number, word in enumerate(_SMALL)} | {
    word: 10 * (number + 2) for number, word in enumerate(_TENS)
}
_CARDINAL = "|".join(sorted(_WORD_VALUES, key=len, reverse=True))
_WORDS = re.compile(
    rf"\b(?:{_CARDINAL}|a dozen)(?:[\s-]+(?:and[\s-]+)?(?:{_CARDINAL}|hundred|thousand|million))*\b", re.IGNORECASE
)
#: Shares and multiples in words. 'half' alone also names a part of a description.
_FRACTIONS: tuple[tuple[re.Pattern[str], float], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), value)
    for pattern, value in (
        (r"(?<!input )(?<!output )(?<!other )(?<!each )(?<!first )(?<!second )\bhalf (?:of|as)\b"
         r"(?! (?:the|its|a|this|that) (?:description|claim))", 0.5),
        (r"\ba half\b", 0.5), (r"\b(?:one|a) third\b", 1 / 3), (r"\btwo[\s-]thirds\b", 2 / 3),
        (r"\b(?:one|a) quarter\b", 0.25), (r"\bthree[\s-]quarters\b", 0.75), (r"\b(?:one|a) fifth\b", 0.2),
        (r"\b(?:one|a) tenth\b", 0.1), (r"\btwice\b", 2.0), (r"\bdouble[sd]?\b", 2.0), (r"\bthrice\b", 3.0),
        (r"\btriple[sd]?\b", 3.0),
    )
)  # fmt: skip
_ABOUT = re.compile(
    r"(?:\b(?:about|around|roughly|nearly|almost|approximately|approx\.|some|circa|ca\.)|[~≈])\s*$", re.IGNORECASE
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")


@dataclass(frozen=True)
class Number:
    """A number in a text."""

    text: str
    start: int
    end: int
    value: float
    """As it is meant: ``81 %`` is 0.81."""
    step: float
    """The last digit's worth, in the same units."""
    digits: int = 1
    """Significant digits that are printed."""
    percent: bool = False
    signed: bool = False
    """Whether a sign is printed."""
    about: bool = False
    """Whether it says of itself that it is rounded ('about 12,000')."""
    whole: bool = False
    """Whether it is printed without decimals, exponent or multiple."""

    def stands_for(self, value: float) -> bool:
        """Whether the printed number is the value, rounded in one of the usual ways.

        To the last printed digit; a whole number of four or more digits also to three significant ones; one that says
        'about', to its trailing zeros or 5 %. A single digit without decimals stands for a whole number, or what is
        nearly one; a printed zero for what is zero, or rounds to it at two decimals or more.
        """
        # A value that is shown to six digits may be rounded a second time.
        near = self.step / 2 * (1 + 1e-9) + min(6e-7 * abs(value), 0.05 * self.step)
        if self.whole and not self.percent:
            zeros = len(self._plain) - len(self._plain.rstrip("0"))
            kept = len(self._plain) - zeros
            if zeros and (self.about or kept >= 3):
                near = max(near, 10.0**zeros / 2 * (1 + 1e-9))
        if self.about:
            near = max(near, 0.05 * abs(self.value))
        if abs(value - self.value) > near:
            return False
        exact = abs(value - self.value) <= 1e-9 * max(1.0, abs(value))
        if self.value == 0 and not exact:
            return self.step <= 0.011 and not self.percent
        if self.whole and self.digits == 1 and not self.percent and not self.about and not exact:
            return abs(value - self.value) <= 0.05 * max(1.0, abs(value))
        return True

    @property
    def _plain(self) -> str:
        return re.sub(r"\D", "", self.text)


@dataclass(frozen=True)
class Found:
    """What a text has of numbers, and of what looks like numbers."""

    numbers: tuple[Number, ...]
    composites: tuple[re.Match[str], ...]
    """Dates, times, versions."""
    names: tuple[re.Match[str], ...]
    """Names with digits in them, those with a hyphen before the digit among them."""


def find(text: str) -> Found:
    """The numbers of a text, in their order."""
    masked = _blank(text, CITATION, UNIT, _NAMED)
    masked = unnumbered(masked)
    composites = tuple(COMPOSITE.finditer(masked))
    masked = _blank(masked, COMPOSITE)
    names = tuple(_NAME.finditer(masked))
    masked = _blank(masked, _NAME)
    numbers = [*_in_digits(masked)]
    masked_words = masked
    for one in numbers:
        masked_words = masked_words[: one.start] + " " * (one.end - one.start) + masked_words[one.end :]
    numbers += _in_words(masked_words)
    return Found(tuple(sorted(numbers, key=lambda one: one.start)), composites, names)


def _blank(text: str, *patterns: re.Pattern[str]) -> str:
    """The text with what matches made blank; places stay where they are."""
    for pattern in patterns:
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def unnumbered(text: str) -> str:
    """The text with the numbers of its lists made blank: 1 at the beginning of a line, or one more than the last."""
    last = 0
    for match in list(_LIST.finditer(text)):
        number = int(match[1])
        if number in (1, last + 1):
            last = number
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return text


def _in_digits(text: str) -> Iterator[Number]:
    for match in _DIGITS.finditer(text):
        whole, part = match["whole"], match["part"] or ""
        if whole is None and not part:
            continue
        mantissa = float(re.sub(r"\D", "", whole or "0") + part)
        exponent = match["e"] or match["ten"] or (match["up"] or "").translate(_SUPERSCRIPT) or "0"
        scale = 10.0 ** max(-300, min(300, int(exponent.replace("−", "-"))))
        scale *= _MULTIPLES.get(match["multiple"] or match["letter"] or "", 1.0)
        scale *= {"‰": 1e-3, None: 1.0}.get(match["percent"], 1e-2)
        sign = -1.0 if match["sign"] in ("-", "−") else 1.0
        places = max(0, len(part) - 1)
        printed = (re.sub(r"\D", "", whole or "") + part.replace(".", "")).lstrip("0")
        plain = not part and scale == 1.0
        end = match.end() + (len(suffix[0]) if plain and (suffix := _ORDINAL.match(text, match.end())) else 0)
        yield Number(
            text[match.start() : end], match.start(), end, sign * mantissa * scale, 10.0**-places * scale,
            digits=max(1, len(printed)), percent=match["percent"] is not None,
            signed=match["sign"] in ("-", "−", "+"), about=_ABOUT.search(text, 0, match.start()) is not None,
            whole=not part and match["e"] is None and match["ten"] is None and match["up"] is None
            and not (match["multiple"] or match["letter"]),
        )  # fmt: skip


def _in_words(text: str) -> Iterator[Number]:
    taken: list[tuple[int, int]] = []
    for pattern, value in _FRACTIONS:
        for match in pattern.finditer(text):
            taken.append(match.span())
            about = _ABOUT.search(text, 0, match.start()) is not None
            step = 0.0 if value >= 1 else 0.02
            yield Number(match[0], *match.span(), value, step, digits=2, about=about)
    for match in _WORDS.finditer(text):
        if any(start < match.end() and match.start() < end for start, end in taken):
            continue
        words = re.split(r"[\s-]+", match[0].lower())
        # 'one' is a pronoun more often than a number: one of them, the one that …
        if words == ["one"] and not re.match(r"\s*per ?cent", text[match.end() :]):
            continue
        value = 12.0 if words[0] == "a" else _spelled(words)
        percent = re.match(r"\s*per ?cent\b", text[match.end() :])
        scale, end = (0.01, match.end() + percent.end()) if percent else (1.0, match.end())
        about = _ABOUT.search(text, 0, match.start()) is not None
        yield Number(
            text[match.start() : end], match.start(), end, value * scale, scale, digits=len(f"{value:.0f}"),
            percent=bool(percent), about=about, whole=False,
        )  # fmt: skip


def _spelled(words: list[str]) -> float:
    total, part = 0.0, 0.0
    for word in words:
        if word in ("thousand", "million"):
            total, part = total + (part or 1.0) * _MULTIPLES[word], 0.0
        elif word == "hundred":
            part = (part or 1.0) * 100
        elif word in _WORD_VALUES:
            part += _WORD_VALUES[word]
    return total + part
