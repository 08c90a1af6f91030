"""What a number is a number of: F1, a p-value, the end of an interval, a count of documents.

The same words tell it in an answer and in what a row says; a row's own names tell it too. Three things are told apart:
the *role* (a value, a p-value, the end of an interval), the *metric* that the role belongs to (the p-value of F1 is not
that of Pearson), and the *words* next to a number that say what is counted (``2 rivals``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Metric -> words that say so.
_METRICS: dict[str, re.Pattern[str]] = {
    metric: re.compile(pattern, re.IGNORECASE)
    for metric, pattern in {
        "f1": r"\bF1\b|\bF-?score\b",
        "average_precision": r"\baverage precision\b|\bAU?PRC?\b",
        "precision": r"(?<!average )\bprecision\b",
        "recall": r"\brecall\b",
        "pearson": r"\bpearson\b|\bcorrelat\w+",
    }.items()
}
_SAID = r"(?=\s*(?:=|<|≤|>|≥|of\b|is\b|:|[-−+.]?\d|below|under|[)]))"
#: Role -> words that say so, in front of a number.
_BEFORE: dict[str, re.Pattern[str]] = {
    role: re.compile(pattern, re.IGNORECASE)
    for role, pattern in {
        **{metric: pattern.pattern for metric, pattern in _METRICS.items()},
        "null": r"\bnull\b|\bchance\b",
        "p": rf"\bp(?:[- ]values?)?{_SAID}|\bp-values?\b",
        "q": rf"\bq(?:[- ]values?)?{_SAID}|\bq-values?\b",
        "interval": r"\b(?:interval|lower|upper|between|CI)\b",
        "density": r"\b(?:active|fires|on) (?:on|for|at)\b|\bdensity\b",
        "maximum": r"\bmax(?:imum)?\b",
        "minimum": r"\bmin(?:imum)?\b",
        "mean": r"\bmean\b|\baverage\b(?! precision)",
        "deviation": r"\bdeviation\b|±",
        "threshold": r"\bthreshold\b",
        "median": r"\bmedian\b",
        "quantile": r"\bquantiles?\b|\bpercentiles?\b",
        "foretold": r"\bforetold\b|\bforetells?\b|\bwas expected\b",
    }.items()
}
#: Roles of which a row that has them has them under their names: nothing else will do.
STRICT = frozenset({*_METRICS, "null", "p", "q", "interval", "density", "maximum", "minimum", "foretold"})
#: Name of a value, or its ending -> roles. The first that fits holds.
_OF_NAME: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(pattern), frozenset(roles))
    for pattern, roles in (
        (r"(?:^|_)(?:low|high)$|^interval$", ("interval",)),
        (r"(?:^|_)null(?:_mean)?$", ("null",)),
        (r"(?:^|_)p(?:_value)?$", ("p",)),
        (r"(?:^|_)q(?:_value)?$", ("q",)),
        (r"^(?:weighted_|rule_)?f1(?:_\w+)?$", ("f1",)),
        (r"^median_f1$", ("f1", "median")),
        (r"^median_average_precision$", ("average_precision", "median")),
        (r"^median_pearson$", ("pearson", "median")),
        (r"average_precision$", ("average_precision",)),
        (r"^(?:rule_)?precision$", ("precision",)),
        (r"^(?:rule_)?recall$", ("recall",)),
        (r"pearson$", ("pearson",)),
        (r"^density$|^nonzero$", ("density",)),
        (r"^maximum$", ("maximum",)),
        (r"^minimum$", ("minimum",)),
        (r"^mean$", ("mean",)),
        (r"^deviation$", ("deviation",)),
        (r"^threshold$", ("threshold",)),
        (r"^foretold$|^expected_right$", ("foretold",)),
    )
)  # fmt: skip
_METRIC_OF_NAME = re.compile(r"(f1|average_precision|precision|recall|pearson)(?:_\w+)?$")
_PAIR = re.compile(r"[\[(]\s*[^\s\[\]()]+\s*%?\s*(?:,|;|–|—|-|to|\.\.\.?|…)\s*[^\s\[\]()]+\s*%?\s*[\])]")
_RANGE = re.compile(r"\s*(?:–|—|-|\bto\b|…|\.\.)\s*$")
_CLAUSE = re.compile(r"[;:]\s|\n")
#: Between a number and what it counts.
_NEXT = re.compile(
    r"[\s]*(?:(?:of|the|its|all|in|are|is|was|were|more|top|other|single)\s+)*([A-Za-z]{2,})(?:[ \t]+([A-Za-z]{3,}))?"
)
#: Between a name and its value: ``token edits: 1``, ``position 6``.
_NAMED = re.compile(r"(?:([A-Za-z]{2,})[ _])?([A-Za-z]{2,})\s*[:=]?\s*$")
#: What a row calls otherwise than people do.
_ALSO = {
    "n_examples": ("token",), "density": ("share",), "matches": ("description",), "found": ("description", "unit"),
    "investigations": ("unit",),
}  # fmt: skip
_PART = re.compile(r"\s*(?:of|out of|/)\s*(?:the\s+)?$")
_STOP = frozenset(
    {"of", "the", "its", "all", "in", "are", "is", "was", "were", "and", "or", "at", "on", "by", "to", "for", "with",
     "from", "as", "than", "that", "which", "has", "have"}
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """What a number is a number of, as far as is told."""

    roles: frozenset[str] = frozenset()
    metric: str | None = None
    words: frozenset[str] = frozenset()
    """Stems of the words that say what is counted."""


@functools.lru_cache(maxsize=1 << 14)
def of_name(names: tuple[str, ...], metric: str | None = None) -> Role:
    """The role of a value in a row.

    Args:
        names: Its own name and those of what holds it, innermost first.
        metric: The metric that the row is of, where it says so.
    """
    if not names:
        return Role()
    own = names[0]
    if "quantiles" in names[:2]:
        return Role(frozenset({"quantile"}))
    words = frozenset(stem(word) for word in re.findall(r"[A-Za-z]{2,}", own)).union(_ALSO.get(own, ()))
    found = _METRIC_OF_NAME.search(metric or own)
    known = found[1] if found else None
    if own == "value" and known is not None:
        return Role(frozenset({known}), known)
    for pattern, roles in _OF_NAME:
        if pattern.search(own):
            return Role(roles, known if roles & {*_METRICS, "interval", "null", "p", "q", "foretold"} else None, words)
    return Role(frozenset(), None, words)


def of_words(text: str, spans: Sequence[tuple[int, int]]) -> list[Role]:
    """The roles of the numbers at some places of a sentence, as its words tell them."""
    pairs = [match.span() for match in _PAIR.finditer(text)]
    found: list[Role] = []
    counted = _counted(text, spans)
    last_end, last, metric = 0, frozenset[str](), None
    for number, (start, end) in enumerate(spans):
        before = text[last_end:start]
        cut = max((match.end() for match in _CLAUSE.finditer(before)), default=0)
        said = frozenset(role for role, pattern in _BEFORE.items() if pattern.search(text[last_end + cut : end]))
        named = [(match.end(), one) for one, pattern in _METRICS.items() for match in pattern.finditer(before)]
        metric = max(named)[1] if named else metric
        told = said if said or cut else last
        paired = any(a <= start and end <= b for a, b in pairs)
        ranged = (number > 0 and _RANGE.fullmatch(text[spans[number - 1][1] : start]) is not None) or (
            number + 1 < len(spans) and _RANGE.fullmatch(text[end : spans[number + 1][0]]) is not None
        )
        roles = told
        if paired or ranged:
            roles = frozenset({"interval"}) if told & _METRICS.keys() and paired else told | {
                "interval", "maximum", "minimum"}  # fmt: skip
        words, after = counted[number]
        if after and not paired and not ranged and not said:
            roles = frozenset()  # it counts something, and is no further value of what was spoken of before
        found.append(Role(roles, metric if roles & STRICT else None, words))
        last, last_end = told, end
    return found


def _counted(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[frozenset[str], bool]]:
    """Stems of the words after each number, else of those before it, and whether they come after it; of ``3 of 5
    places`` both numbers have those of the last."""
    found: list[tuple[frozenset[str], bool]] = [(frozenset(), False)] * len(spans)
    for number in range(len(spans) - 1, -1, -1):
        end = spans[number][1]
        following = spans[number + 1][0] if number + 1 < len(spans) else len(text)
        if number + 1 < len(spans) and _PART.fullmatch(text[end:following]):
            found[number] = found[number + 1]
        elif (match := _NEXT.match(text[:following], end)) is not None:
            found[number] = _stems(match), True
        if not found[number][0]:
            before = spans[number - 1][1] if number else 0
            if (match := _NAMED.search(text[before : spans[number][0]])) is not None:
                found[number] = _stems(match), False
    return found


def _stems(match: re.Match[str]) -> frozenset[str]:
    words = [word.lower() for word in match.groups() if word]
    return frozenset(stem(word) for word in words if word not in _STOP)


def stem(word: str) -> str:
    """A word without the ending of its plural, in small letters."""
    word = word.lower()
    for ending, instead in (("ses", "s"), ("ies", "y"), ("ches", "ch")):
        if word.endswith(ending):
            return word[: -len(ending)] + instead
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
