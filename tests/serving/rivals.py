"""How a competent mind takes part in a contest of rivals: it asks where they differ, and mends what came out wrong.

All from the evidence in the prompt: descriptions are read as `Concept.read` reads them, texts and results as `Chat`
shows them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.serving.chat import Chat, Text
from tests.serving.concepts import Concept, Found, spelled

OPENINGS = (
    "Nothing of note happened here", "It rained all night long", "Her uncle sold nine lamps", "Green hills lay beyond",
    "They kept walking slowly", "Dinner was ready early", "His map showed every road", "Some birds sang outside",
)  # fmt: skip
"""Beginnings of texts that are to be written."""
_RIVAL = re.compile(r"^([+-]\d+): (.*)$", re.MULTILINE)
_WEIGHT = re.compile(r"([+-]\d+) (\d+)%")
_CAME = re.compile(r"came: ([+-]\d+), (active|silent)")


@dataclass(frozen=True)
class Result:
    """What came of a probe."""

    text: Text
    active: bool

    @property
    def end(self) -> int:
        """Where the token that was read ends."""
        return self.text.spans[0][1]


def rivals_of(chat: Chat) -> dict[str, Concept]:
    """What each rival holds, by its key."""
    return {key: Concept.read(words) for key, words in _RIVAL.findall(chat.sections.get("RIVALS", ""))}


def results_of(chat: Chat) -> list[Result]:
    """What came of earlier probes."""
    lines = chat.sections.get("RESULTS", "").split("\n")
    found = []
    for text in chat.texts("RESULTS"):
        at = next((i for i, line in enumerate(lines) if line.startswith(f"[{text.number}] ")), len(lines))
        came = _CAME.search(lines[at + 1]) if at + 1 < len(lines) else None
        if came is not None and text.spans:
            found.append(Result(text, came[2] == "active"))
    return found


def fires(concept: Concept, text: str, end: int) -> bool:
    """Whether a concept expects activity at the token that ends there."""
    return any(place.start < end <= place.end for place in concept.find(text))


def asked_trials(chat: Chat) -> list[dict[str, Any]]:
    """A trial for what the likeliest rivals disagree on, then one that tries to break the likeliest."""
    rivals = rivals_of(chat)
    if not rivals:
        return []
    told = dict(_WEIGHT.findall(chat.sections.get("WEIGHTS", "")))
    order = sorted(rivals, key=lambda key: -int(told.get(key, 0)))
    rng = random.Random(f"{chat.user} {chat.repairs}")
    known = {text.plain.strip() for text in chat.texts("RESULTS")}
    openings = _openings(chat.texts())
    pool = [text for concept in rivals.values() for text in _written(concept, openings, rng)]
    fresh = [(text, at) for text, at in dict.fromkeys(pool) if _shown(text).strip() not in known]
    probes = [_probe(rivals, text, at) for text, at in fresh]
    apart = [p for p in probes if len({one["percent"] > 50 for one in p["active"]}) > 1]
    trials = []
    if apart:
        trials.append(_trial("Which of the rivals is right where they disagree?", apart[:4], 10))
    rest = [p for p in probes if p not in apart][:4]
    if rest:
        trials.append(_trial(f"Does {order[0]} hold, and is the unit silent where it says so?", rest, 20))
    if not known and fresh:
        edit = {"text": fresh[0][0], "at": fresh[0][1], "active": []}
        trials.append({"question": "Which tokens does it need?", "tool": "edit_tokens", "probes": [edit], "rivals": [],
                       "surprise": 20})  # fmt: skip
    return trials


def asked_revisions(chat: Chat) -> list[dict[str, Any]]:
    """A better description in the place of one that results speak against; rivals that are far behind are dropped."""
    rivals, results = rivals_of(chat), results_of(chat)
    if not rivals or not results or chat.repairs:
        return []
    texts = chat.texts()
    told = dict(_WEIGHT.findall(chat.sections.get("WEIGHTS", "")))
    best = max(rivals, key=lambda key: int(told.get(key, 0)))
    right = {key: _right(concept, results) for key, concept in rivals.items()}
    revisions: list[dict[str, Any]] = []
    mended = _mended(rivals[best], results, texts)
    if mended is not None and _right(mended, results) > right[best]:
        revisions.append(
            {
                "kind": "refine", "rivals": [best],
                "reason": f"It was right at {right[best]} of {len(results)} places.",
                "descriptions": [
                    {"label": mended.label(), "fires_on": mended.words(), "exceptions": None, "rule": mended.rule(10)}
                ],
            }
        )  # fmt: skip
    behind = [key for key in rivals if key != best and right[key] + 2 < right[best]]
    if behind:
        revisions.append(
            {"kind": "drop", "rivals": behind, "reason": f"{best} was right more often.", "descriptions": []}
        )
    return revisions


def written_inputs(chat: Chat, concept: Concept) -> list[dict[str, Any]]:
    """Texts with what a description expects of each: with its tokens, without what must come before, of others."""
    rng = random.Random(f"{chat.user} {chat.repairs}")
    found: list[dict[str, Any]] = []
    for opening in rng.sample(OPENINGS, 3):
        for text, at in _written(concept, [f"{opening} {rng.randrange(10, 99)} times"], rng):
            on = fires(concept, _shown(text), len(_shown(text)))
            kind = "fires" if on else "near miss" if at in map(spelled, concept.tokens) else "unrelated"
            found.append({"kind": kind, "text": text, "at": at, "percent": {"fires": 85, "near miss": 10}.get(kind, 3)})
    return found[:12]


def _right(concept: Concept, results: list[Result]) -> int:
    return sum(fires(concept, result.text.plain, result.end) == result.active for result in results)


def _mended(concept: Concept, results: list[Result], texts: list[Text]) -> Concept | None:
    """Without the tokens that were silent, with those that fired; None where nothing is left of it."""
    wrong = {_token(result, concept) for result in results if not result.active}
    fired = {result.text.marked[0] for result in results if result.active}
    fired |= {token for text in texts for token in text.marked}
    tokens = tuple(t for t in concept.tokens if t not in wrong or any(t.strip() == f.strip() for f in fired))
    added = tuple(sorted(result.text.marked[0] for result in results
                         if result.active and not fires(concept, result.text.plain, result.end)))  # fmt: skip
    kept = Concept((*tokens, *dict.fromkeys(added)), concept.pieces, concept.weak, concept.after)
    return kept if kept.tokens or kept.pieces else None


def _token(result: Result, concept: Concept) -> str:
    found: list[Found] = [p for p in concept.find(result.text.plain) if p.end == result.end]
    return found[0].quote if found else ""


def _openings(texts: Sequence[Text]) -> list[str]:
    """Beginnings of the texts that are shown, without the tokens that fire, so that they are of the same kind."""
    plain = [text.plain[: text.spans[0][0]] if text.spans else text.plain for text in texts]
    words = [" ".join(re.findall(r"[^\s⏎⇥]+", text)[:4]) for text in plain]
    return [text for text in words if text.count(" ") > 1] or list(OPENINGS)


def _written(concept: Concept, openings: Sequence[str], rng: random.Random) -> list[tuple[str, str]]:
    """Texts that end with a token of the concept: with what must stand before it, and without; and one of neither."""
    texts = []
    for token in [*concept.tokens, *concept.pieces, *concept.weak][:6]:
        meant = spelled(token)
        if not meant.strip():
            continue
        opening = rng.choice(openings)
        before = spelled(rng.choice(concept.after)) if concept.after else ""
        gap = "" if meant[:1].isspace() or not meant[:1].isalnum() else " "
        if before:
            texts.append((f"{opening} {before.strip()}{gap}{meant}", meant))
        texts.append((f"{opening}{gap}{meant}", meant))
    plain = rng.choice(openings)
    texts.append((plain, plain.rpartition(" ")[2]))
    return texts


def _probe(rivals: dict[str, Concept], text: str, at: str) -> dict[str, Any]:
    shown = _shown(text)
    return {
        "text": text, "at": at,
        "active": [
            {"rival": key, "percent": 90 if fires(concept, shown, len(shown)) else 10}
            for key, concept in rivals.items()
        ],
    }  # fmt: skip


def _shown(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥")


def _trial(question: str, probes: list[dict[str, Any]], surprise: int) -> dict[str, Any]:
    return {"question": question, "tool": "probe", "probes": probes, "rivals": [], "surprise": surprise}
