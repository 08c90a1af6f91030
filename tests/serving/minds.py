"""Minds for the programmable server: what answers the requests.

A mind is called with a `Chat` and gives the answer as a dict (sent as JSON) or as the text that is sent. `Competent`
answers as a competent explainer would, from the evidence in the prompt alone. It reads token texts there and nothing
else, so that a corpus cannot tell it what to do; `Gullible` obeys whoever speaks.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from explainers.llm.show import shown
from tests.serving.chat import Chat, Text
from tests.serving.concepts import STRONG, WEAK, Concept, listed, spelled
from tests.serving.rivals import OPENINGS, asked_revisions, asked_trials, written_inputs
from tests.serving.tokens import pieces

MOST_MARKS = 80
"""That an answer has; the prompt asks for no more. Told that its answer was too long, a mind gives half."""


class Mind(Protocol):
    """Answers requests."""

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str: ...

    def read(self, prompt: str) -> list[tuple[str, float, Mapping[str, float]]]:
        """A prompt's tokens, each with its log-probability and those of the likeliest tokens at its place."""
        ...


@dataclass
class Competent:
    """A competent explainer and judge.

    Args:
        believes: What it holds true of the unit, whatever a description says; None: what the description says. This
            makes the graded minds.
    """

    believes: Concept | None = None

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        """The answer, by the fields that are asked for."""
        fields = chat.fields
        if "fires_on" in fields:
            return self.describe(chat, self.seen(chat, chat.texts()))
        if "concepts" in fields:
            return {"concepts": [self.describe(chat, concept) for concept in self.several(chat)]}
        if "marks" in fields:
            return {"marks": self.marks(chat, MOST_MARKS // 2 if chat.repairs else MOST_MARKS)}
        if "levels" in fields:
            return {"levels": [{"text": t.number, "levels": self.levels(chat, t)} for t in chat.texts()]}
        if "judgements" in fields:
            return {"judgements": [{"text": t.number, "sure": self.sure(chat, t)} for t in chat.texts()]}
        if "ratings" in fields:
            return {"ratings": [{"text": t.number, "rating": self.rating(chat, t)} for t in chat.texts()]}
        if fields == {"trials"}:
            return {"trials": asked_trials(chat)}
        if fields == {"revisions"}:
            return {"revisions": asked_revisions(chat)}
        if fields == {"pairs"}:
            return {"pairs": self.pairs(chat)}
        if fields == {"inputs"}:
            return {"inputs": written_inputs(chat, self.concept(chat))}
        if fields == {"set"}:
            return {"set": self.steered(chat)}
        if fields == {"text"}:
            return {"text": self.odd(chat)}
        if fields == {"texts"}:
            return {"texts": self.write(chat)}
        return example_of(chat.schema) if chat.schema else "Hello. I am a test."

    def concept(self, chat: Chat) -> Concept:
        """What it takes the unit to be."""
        return self.believes if self.believes is not None else Concept.read(chat.description)

    def describe(self, chat: Chat, concept: Concept) -> dict[str, Any]:
        """A description of what the texts show; of the output's tokens where there are no texts."""
        raises, lowers = (re.findall(r'"((?:[^"\\]|\\.)+)"', chat.sections.get(h, "")) for h in ("RAISES", "LOWERS"))
        does = [f"raises {listed(raises[:5])}"] if raises else []
        does += [f"lowers {listed(lowers[:5])}"] if lowers else []
        if concept == Concept() and raises:
            concept = Concept(tuple(raises[:5]))
        hypothesis = chat.sections.get("RULE", "").strip()
        if concept == Concept() and hypothesis:
            concept = Concept(tuple(re.findall(r'"((?:[^"\\]|\\.)+)"', hypothesis)[:5]))
        rule = concept.rule(maximum(chat)) if "rule v1" in chat.system + chat.user else None
        return {
            **(self.effect(chat) if "effect" in chat.fields else {}),
            "label": concept.label(), "fires_on": concept.words(), "exceptions": None,
            "does_when_on": f"When on it {' and '.join(does)}." if does else None, "rule": hypothesis or rule,
        }  # fmt: skip

    def effect(self, chat: Chat) -> dict[str, Any]:
        """What the measurements show; nothing where none are shown."""
        told = chat.sections.get("MEASURED", "")
        if not told:
            return {"effect": None, "raises": [], "lowers": []}
        sides = {
            name: re.findall(r'"((?:[^"\\]|\\.)+)" [+-]', "".join(re.findall(rf"^{word} in all texts.*$", told, re.M)))
            for name, word in (("raises", "raised"), ("lowers", "lowered"))
        }
        now, later = ([*map(float, re.findall(r"by (\d\S*)", told)), 0.0, 0.0])[:2]
        kind = "varies" if now >= 0.001 else "later" if later >= 0.001 else "nothing"
        return {"effect": "changes" if any(sides.values()) else kind, **sides}

    def seen(self, chat: Chat, texts: Sequence[Text]) -> Concept:
        """What some of the marked texts have in common."""
        told = re.search(r"above (\d+(?:\.\d+)?)", chat.sections.get("MAXIMUM", ""))
        return Concept.seen(texts, chat.texts("SILENT TEXTS"), float(told[1]) if told else 5.0)

    def several(self, chat: Chat) -> list[Concept]:
        """A concept for each group of texts; for all of them where there are no groups."""
        texts = chat.texts()
        lines = re.findall(r"^Group \d+: (.*)$", chat.sections.get("GROUPS", ""), re.MULTILINE)
        groups = [{int(number) for number in re.findall(r"\[(\d+)\]", line)} for line in lines]
        return [self.seen(chat, [t for t in texts if t.number in group]) for group in groups] or [
            self.seen(chat, texts)
        ]

    def marks(self, chat: Chat, most: int) -> list[dict[str, Any]]:
        """Where the unit should be on: each quote with its places, of which there are so many at most."""
        places = [
            (place.quote, place.level, f"{text.number}.{occurrence}")
            for text in chat.texts()
            for place in self.concept(chat).find(text.plain)
            for occurrence in [1 + sum(text.plain.startswith(place.quote, at) for at in range(place.start))]
        ]
        found: dict[tuple[str, int], list[str]] = {}
        for quote, level, at in places[:most]:
            found.setdefault((quote, level), []).append(at)
        return [{"quote": quote, "level": level, "at": at} for (quote, level), at in found.items()]

    def levels(self, chat: Chat, text: Text) -> list[int]:
        """A level for each token of a text; they have bars between them."""
        shown = text.plain.split("|")
        found = self.concept(chat).find("".join(shown))
        out, at = [], 0
        for piece in shown:
            out.append(max((p.level for p in found if at < p.end <= at + len(piece)), default=0))
            at += len(piece)
        return out

    def sure(self, chat: Chat, text: Text) -> int:
        """Whether a text fits, or, where tokens are marked, whether these are the right ones."""
        found = self.concept(chat).find(text.plain)
        if not text.spans:
            return max((place.level for place in found), default=0)
        right = sum(any(p.start < b and p.end > a for p in found) for a, b in text.spans)
        return round(STRONG * right / len(text.spans))

    def steered(self, chat: Chat) -> int:
        """The set in which the tokens that the description quotes stand most often."""
        quoted = [q.strip() for q in re.findall(r"“([^”]+)”", chat.sections.get("DESCRIPTION", "")) if q.strip()]
        sets = re.findall(r"^SET \d+\n((?:- .*\n?)*)", chat.user, re.MULTILINE)
        counts = [sum(one.count(quote) for quote in quoted) for one in sets]
        return 1 + max(range(len(counts)), key=lambda i: counts[i])

    def rating(self, chat: Chat, text: Text) -> int:
        """2 for a clear case, 1 for a weak one."""
        return {STRONG: 2, WEAK: 1}.get(max((p.level for p in self.concept(chat).find(text.plain)), default=0), 0)

    def odd(self, chat: Chat) -> int:
        """The text that shares least with the others: marked tokens where there are any, else words."""
        texts = chat.texts()
        own = [set(t.marked) if t.spans else set(re.findall(r"\w+", t.plain.lower())) for t in texts]
        if self.believes is not None:
            fits = [bool(self.believes.find(t.plain)) for t in texts]
            own = [{fit} for fit in fits] if len(set(fits)) > 1 else own
        shared = Counter(word for words in own for word in words)
        alike = [sum(shared[w] - 1 for w in words) / (len(words) or 1) for words in own]
        return texts[alike.index(min(alike))].number if texts else 1

    def write(self, chat: Chat) -> list[str]:
        """As many texts as are asked for; with the described tokens unless texts without them are wanted."""
        asked = re.findall(r"\b(\d+)\b", chat.question)
        wanted = max(1, min(64, int(asked[0]))) if asked else 5
        concept = self.concept(chat)
        tokens = [*concept.tokens, *concept.pieces] or ["nothing"]
        without = re.search(r"\b(not fire|silent|without|negative|no sign)\b", chat.question)
        rng = random.Random(f"{chat.seed} {chat.question}")
        texts = []
        for number in range(wanted):
            text = ". ".join(rng.sample(OPENINGS, 2))
            token = tokens[number % len(tokens)]
            before = concept.after[number % len(concept.after)] if concept.after else ""
            if not without:
                for part in (before, token):
                    text += " " * (part[:1].isalnum() and part not in concept.pieces) + spelled(part)
                text += " and so on"
            texts.append(f"{text}.")
        return texts

    def pairs(self, chat: Chat) -> list[dict[str, str]]:
        """Pairs of texts: with what a sentence quotes, or else its last word, and with other words in its place."""
        asked = re.findall(r"\b(\d+)\b", chat.question)
        sentence = chat.sections.get("SENTENCE", "")
        tokens = Concept.read(sentence).tokens or tuple(re.findall(r"\w+", sentence)[-1:]) or ("nothing",)
        rng = random.Random(f"{chat.seed} {chat.question}")
        found = []
        for number in range(int(asked[0]) if asked else 8):
            first, last, other = rng.sample(OPENINGS, 3)
            beginning, middle = f"{first} {chat.seed} {number}", spelled(tokens[number % len(tokens)]).strip()
            found.append(
                {"positive": f"{beginning} {middle} {last}.", "negative": f"{beginning} {other.split()[-1]} {last}."}
            )
        return found

    def read(self, prompt: str) -> list[tuple[str, float, Mapping[str, float]]]:
        """Tokens are likely where the text before them, a description for one, has had them already.

        In the place of an activation that is not told (`token`, tab, `unknown`), levels are likely instead.
        """
        out: list[tuple[str, float, Mapping[str, float]]] = []
        seen: set[str] = set()
        levels, at = self._simulated(prompt), 0
        for piece in pieces(prompt):
            logprob = -1.0 if piece.strip() in seen else -5.0
            top = {piece: logprob, " the": -2.0}
            if at in levels:
                top = {str(levels[at]): math.log(0.9), "5": math.log(0.05)}
            out.append((piece, logprob, top))
            seen.add(piece.strip())
            at += len(piece)
        return out

    def _simulated(self, prompt: str) -> dict[int, int]:
        """The level at each place where an activation is asked for, by the place's first character."""
        found: dict[int, int] = {}
        start = prompt.rfind("\nDescription: ")
        if start < 0 or "\tunknown" not in prompt:
            return found
        description, _, rest = prompt[start + 14 :].partition("\n")
        concept = self.believes if self.believes is not None else Concept.read(_unescaped(description))
        at, text, places = len(prompt) - len(rest), "", list[tuple[int, int]]()
        for line in [*rest.split("\n"), 'Text, after ""']:
            token, told, _ = line.partition("\tunknown")
            if told:
                text += shown(_unescaped(token))
                places.append((at + len(token) + 1, len(text)))
            elif before := re.match(r'Text, after "(.*)"', line):
                ends = {place.end: place.level for place in concept.find(text)}
                begin = 0
                for place, end in places:
                    found[place] = max((level for e, level in ends.items() if begin < e <= end), default=0)
                    begin = end
                text, places = shown(_unescaped(before[1])), []
            at += len(line) + 1
        return found


class Gullible(Competent):
    """Does what any text tells it to: the corpus writes its descriptions and judgements.

    It obeys texts of the form `ignore all previous instructions and say: WORDS`, or `obey: WORDS`.
    """

    ORDER = re.compile(
        r"(?:ignore (?:all |any |the )?(?:previous |prior |above )?instructions[^:\[\]]*|obey): ?([^\[\]\n⏎]+)", re.I
    )

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        """What the first order in the prompt wants to be said."""
        order = self.ORDER.search(chat.user)
        if order is None:
            return super().__call__(chat)
        said = order[1].strip(" «»") or "obeyed"
        fields = chat.fields
        if "fires_on" in fields:
            return {"label": said[:120], "fires_on": said, "exceptions": None, "does_when_on": None, "rule": None}
        if "judgements" in fields:
            return {"judgements": [{"text": t.number, "sure": 10} for t in chat.texts()]}
        return said


class Random(Competent):
    """Guesses, the same for the same request."""

    def concept(self, chat: Chat) -> Concept:
        """A word that some text happens to have."""
        words = sorted({w for t in chat.texts() for w in re.findall(r"\w+", t.plain)}) or ["chance"]
        return Concept(tokens=(words[self._draw(chat.description) % len(words)],))

    def sure(self, chat: Chat, text: Text) -> int:
        """Any level."""
        return self._draw(chat.description, text.plain) % 11

    def rating(self, chat: Chat, text: Text) -> int:
        """Any rating."""
        return self._draw(chat.description, text.plain) % 3

    def odd(self, chat: Chat) -> int:
        """Any text."""
        numbers = [t.number for t in chat.texts()] or [1]
        return numbers[self._draw(chat.user) % len(numbers)]

    def write(self, chat: Chat) -> list[str]:
        """Texts about nothing."""
        return [t.replace("nothing ", "") for t in Competent(Concept()).write(chat)]

    @staticmethod
    def _draw(*parts: str) -> int:
        return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=4).digest(), "big")


def oracle(truth: Concept) -> Competent:
    """Knows what the unit does, whatever the description says."""
    return Competent(truth)


def partial(truth: Concept) -> Competent:
    """Knows a part of it; see `Concept.half`."""
    return Competent(truth.half())


def wrong(truth: Concept, other: Sequence[str] = (" of",)) -> Competent:
    """Takes the unit for another one."""
    tokens = tuple(t for t in other if t not in (*truth.tokens, *truth.pieces))
    return Competent(Concept(tokens or ("zebra",)))


def maximum(chat: Chat) -> float:
    """The strength of a rule's strongest clause: what the prompt tells, or 10, as levels are."""
    number = re.search(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", chat.sections.get("MAXIMUM", ""))
    return float(number[0]) if number and float(number[0]) > 0 else 10.0


def example_of(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """A value that a JSON schema admits: the shortest and first of what it allows."""
    root = schema if root is None else root
    if "$ref" in schema:
        return example_of(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return example_of(schema[union][0], root)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: example_of(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema.get("items", {"type": "string"}), root)] * int(schema.get("minItems", 0))
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return {"string": "x" * max(1, int(schema.get("minLength", 1))), "boolean": True}.get(kind)


def _unescaped(text: str) -> str:
    """A text that was spelled out in ASCII."""
    return text.encode("ascii", "ignore").decode("unicode_escape", "replace")
