"""What a competent explainer makes of marked tokens: a small concept, which can be said, read again and found.

It is put into words that quote the tokens, with white space as prompts show it:

    Fires on " the", " a"; on the word pieces "ing"; weakly on " an"; only after "of".

`read` understands these sentences and, as far as they quote what they mean, those of other explainers.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.serving.chat import Text

MOST = 12
"""Tokens that a description names, at most."""
STRONG, WEAK = 10, 4
"""Levels that are predicted: above half of the strongest, and below."""

_QUOTE = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|“([^”]*)”")
_BEFORE = re.compile(r"(\s?\w+|[^\w\s])(\s*)$")
_MEANINGS = (
    ("output", r"rais|lower|promot|when on|suppress|more likely|less likely"),
    ("not", r"except|unless|never|\bnot\b|silent|other than"),
    ("after", r"after|preced|follows|following|token before|word before|back is|within|among"),
    ("pieces", r"pieces?\b|ends? (in|with)|starts? with|begins? with"),
    ("weak", r"weak|slight|sometimes"),
    ("tokens", r"\bon\b|\btokens?\b|\bwords?\b|[;.]"),
)
_SPELLED = {"⏎": "\n", "⇥": "\t", "␍": "\r", "␣": " "}


def spelled(token: str) -> str:
    """A token as it is in the corpus, out of what is shown of it."""
    return "".join(_SPELLED.get(c, c) for c in token)


@dataclass(frozen=True)
class Found:
    """A place that fits."""

    start: int
    end: int
    quote: str
    level: int


@dataclass(frozen=True)
class Concept:
    """Tokens, and what must stand before them. All texts as prompts show them."""

    tokens: tuple[str, ...] = ()
    pieces: tuple[str, ...] = ()
    """Parts of words, which may stand anywhere in one."""
    weak: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """One of these comes right before; empty when nothing must."""

    def words(self) -> str:
        """The concept in a sentence."""
        parts = [f"on {listed(self.tokens)}"] if self.tokens else []
        parts += [f"on the word pieces {listed(self.pieces)}"] if self.pieces else []
        parts += [f"weakly on {listed(self.weak)}"] if self.weak else []
        parts += [f"only after {listed(self.after)}"] if self.after else []
        return f"Fires {'; '.join(parts)}." if parts else "Fires on nothing that these texts have in common."

    def label(self) -> str:
        """The concept in a few words."""
        named = listed([*self.tokens, *self.pieces, *self.weak][:3])
        return (f"{named} after {listed(self.after[:2])}" if self.after else named or "nothing in common")[:120]

    def rule(self, maximum: float) -> str | None:
        """The concept in the rule language; see docs/rules.md."""
        lines = []
        for strength, tokens in ((maximum, [*self.tokens, *self.pieces]), (0.4 * maximum, list(self.weak))):
            if not tokens:
                continue
            members = [a + t for a in self.after for t in tokens] if self.after else tokens
            quoted = ", ".join(json.dumps(spelled(m)) for m in members)
            lines.append(f"{strength:g} if {'text ends' if self.after else 'token in'} {{{quoted}}}")
        return "\n".join(["rule v1", *lines, "else 0"]) if lines else None

    def find(self, text: str) -> list[Found]:
        """All places of a text that fit, from left to right, none twice."""
        found: dict[int, Found] = {}
        for level, tokens in ((WEAK, self.weak), (STRONG, self.pieces), (STRONG, self.tokens)):
            for token in sorted(tokens, key=len):
                at = text.find(token)
                while at >= 0 and token:
                    end = at + len(token)
                    if (token in self.pieces or _whole(text, at, end)) and self._fits_before(text, at):
                        found[end] = Found(at, end, token, level)
                    at = text.find(token, at + 1)
        return [found[end] for end in sorted(found)]

    def _fits_before(self, text: str, at: int) -> bool:
        before = text[:at].rstrip(" ")
        return not self.after or any(
            before.endswith(a.strip(" ")) and _whole(text, len(before) - len(a.strip(" ")), len(before))
            for a in self.after
        )

    def half(self) -> Concept:
        """A part of it: every second token and not what must stand before; of a single token its first letters."""
        if len(self.tokens) + len(self.pieces) == 1 and not self.after:
            token = (*self.tokens, *self.pieces)[0]
            return Concept(pieces=(token[: max(1, len(token) // 2)],))
        return Concept(self.tokens[::2], self.pieces[::2])

    @classmethod
    def read(cls, description: str) -> Concept:
        """The concept that a description quotes."""
        parts: dict[str, list[str]] = defaultdict(list)
        meaning, end = "tokens", 0
        for quote in _QUOTE.finditer(description):
            between = description[end : quote.start()].lower()
            end = quote.end()
            # What is said first of these counts: 'only after the word', 'on the word pieces'. Nothing said: as before.
            meaning = next((name for name, said in _MEANINGS if re.search(said, between)), meaning)
            token = quote[1] if quote[1] is not None else quote[2]
            token = re.sub(r"\\(.)", r"\1", token).replace("␣", " ")
            if token and token not in parts[meaning]:
                parts[meaning].append(token)
        # A label may name a token plainly of which more is said later.
        told = {t for name in ("pieces", "weak", "not") for t in parts[name]}
        parts["tokens"] = [t for t in parts["tokens"] if t not in told]
        return cls(*(tuple(parts[name]) for name in ("tokens", "pieces", "weak", "after")))

    @classmethod
    def seen(cls, texts: Sequence[Text], silent: Sequence[Text] = (), active_from: float = 5.0) -> Concept:
        """What marked tokens have in common: which they are, how strong, and what always stands before them.

        Args:
            texts: With marks.
            silent: Without.
            active_from: Level above which a token counts as active, and not as weak.
        """
        places = [place for text in texts for place in _places(text)]
        if not places:
            return cls()
        levels: dict[str, list[int]] = defaultdict(list)
        for place in places:
            levels[place.quote].append(place.level)
        total = sum(map(sum, levels.values())) or 1
        ranked = sorted(levels, key=lambda token: (-sum(levels[token]), token))
        often = len(levels[ranked[0]]) >= 4
        kept, covered = [], 0.0
        for token in ranked[:MOST]:
            # What was seen once, beside what was seen often, is no part of what the unit is about.
            if len(levels[token]) == 1 and (often or covered >= 0.95):
                continue
            kept.append(token)
            covered += sum(levels[token]) / total
        strong = [t for t in kept if sum(levels[t]) / len(levels[t]) > active_from] or kept[:1]
        inner = Counter(
            place.quote for text in texts for place in _places(text) if not _whole(text.plain, place.start, place.end)
        )
        inside = [t for t in strong if 2 * inner[t] > len(levels[t])]
        concept = cls(
            tuple(t for t in strong if t not in inside), tuple(inside), tuple(t for t in kept if t not in strong)
        )
        return replace(concept, after=_always_before(concept, texts, silent))


def _always_before(concept: Concept, texts: Sequence[Text], silent: Sequence[Text]) -> tuple[str, ...]:
    """What stands before each marked token and not before the same tokens where they are not marked; mostly nothing."""
    marked: Counter[str] = Counter()
    unmarked: Counter[str] = Counter()
    for text in [*texts, *silent]:
        active = {place.end for place in _places(text)}
        for place in concept.find(text.plain):
            if before := _BEFORE.search(text.plain[: place.start]):
                (marked if place.end in active else unmarked)[before[1].strip()] += 1
    few = [before for before, _ in marked.most_common(3)]
    if sum(marked.values()) < 4 or sum(marked[b] for b in few) < 0.9 * sum(marked.values()):
        return ()
    elsewhere = sum(n for before, n in unmarked.items() if before not in few)
    return tuple(few) if elsewhere >= 2 and elsewhere > sum(unmarked[b] for b in few) else ()


def _places(text: Text) -> list[Found]:
    """Where the marked tokens are, each with its level; whole runs where no levels are told."""
    if not text.levels:
        return [Found(a, b, text.plain[a:b], STRONG) for a, b in text.spans if b > a]
    found, at = [], text.spans[0][0] if text.spans else 0
    for token, level in text.levels:
        start = text.plain.find(token, at)
        if token and start >= 0:
            found.append(Found(start, start + len(token), token, level))
            at = start + len(token)
    return found


def _whole(text: str, start: int, end: int) -> bool:
    """Whether a place does not cut a word."""
    cuts_left = start > 0 and text[start].isalnum() and text[start - 1].isalnum()
    cuts_right = end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (cuts_left or cuts_right)


def listed(tokens: Sequence[str]) -> str:
    """Quoted, with commas."""
    return ", ".join('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in tokens)
