"""A mind that reasons about units: it finds rules in marked texts, thinks of trials, and mends rules by what came.

It reads the prompt and nothing else. It can do what `tests.serving.induction` can: sets of tokens, tokens before them
at a distance of up to four or among the last few, classes and affixes, repetition, what must not be there, several
things in one unit. It knows which English words belong together (`tests.serving.lexicon`), and takes a set of words
that seem to be of one kind for that kind, now and then. What it cannot: positions in a text (excerpts do not tell
them), matters of meaning beyond those kinds, brackets, quotes.

Of one request a seed makes several samples, as temperature does: each looks at most of the texts, not at all of them,
and decides anew what is equally good. The sample without temperature looks at all.

In a contest it takes the results of trials and the texts shown as mistakes for labelled places beside the marked
texts; mends the rule of the best rival; and asks what its rule leaves open: other members, other things before, another
distance, whether each condition is needed, what might keep the unit silent.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from explainers.rules.ast import Clause, InSet, Rule
from explainers.rules.english import clause_phrase
from tests.serving.chat import Chat, Text, read_text
from tests.serving.concepts import spelled
from tests.serving.induction import UNKNOWN, Example, Induction, Labelled, read, written
from tests.serving.lexicon import kinds_of
from tests.serving.minds import Competent

_TOKEN = re.compile(r" ?\w+| ?[^\w\s]|\s")
_RIVAL = re.compile(r"^([+-]\d+): .*$", re.MULTILINE)
_FIT = re.compile(r"^([+-]\d+) catches (\d+)%.*; (\d+)%", re.MULTILINE)
_WEIGHT = re.compile(r"([+-]\d+) (\d+)%")
_CAME = re.compile(r"came: ([+-]\d+)(?:, (active|silent))?(?:.*in the place of: (.*))?")
_EDITED = re.compile(r'"((?:[^"\\]|\\.)*)" ([+-]\d+)')
_VARIED = re.compile(r"(with others in its place(?:, read at the end)?|changed): active (.*) \| silent (.*)$")
_MISTAKE = re.compile(r"^(missed, is active|named, is silent): (.*)$", re.MULTILINE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WITHOUT = re.compile(r'without "(.*)"$')
_PUT = re.compile(r'"(.*)" before "(.*)"$')
#: Share of the texts that a sample looks at.
LOOKS = 0.8
#: Words that stand for any other.
FILLERS = (" quite", " then", " also", " there", " now", " just")
#: Words that are tried where no kind says which.
TRIED = (" the", " and", " he", " said", " 7", " .", " big", " red", " of", " not", " house", " dog")


class Reasoner(Competent):
    """See the module."""

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        """The answer, by the fields that are asked for."""
        fields = chat.fields
        if "fires_on" in fields:
            return self.proposal(chat)
        if fields == {"trials"}:
            return {"trials": Inquiry(chat).trials()}
        if fields == {"revisions"}:
            return {"revisions": Inquiry(chat).revisions()}
        return super().__call__(chat)

    def proposal(self, chat: Chat) -> dict[str, Any]:
        """A description of what the marked texts have that others lack."""
        rng = random.Random(f"{chat.seed} {chat.user}")
        texts, silent = chat.texts(), chat.texts("SILENT TEXTS")
        sampled = bool(chat.body.get("temperature"))
        if sampled:
            kept = [text for text in texts if rng.random() < LOOKS]
            texts, silent = kept or texts, [text for text in silent if rng.random() < LOOKS]
        found = Induction(
            Labelled([one for text in [*texts, *silent] for one in places(text)]), rng, active_from(chat),
            0.5 if sampled else 1.0,
        ).found()  # fmt: skip
        told = described(found) if found is not None else None
        if told is None:
            told = {"label": "nothing in common", "fires_on": "Nothing that these texts have in common.", "rule": None}
        return {"exceptions": None, "does_when_on": None, **told}


def described(rule: Rule) -> dict[str, Any]:
    """A rule in words, and itself."""
    phrases = [clause_phrase(clause) for clause in rule.clauses]
    return {"label": phrases[0][:110], "fires_on": f"Fires {'; or '.join(phrases)}."[:1190], "rule": written(rule)}


def active_from(chat: Chat) -> float:
    """The level above which a token is active."""
    told = re.search(r"above (\d+(?:\.\d+)?)", chat.sections.get("MAXIMUM", ""))
    return float(told[1]) if told else 5.0


def tokens_of(shown: str) -> tuple[str, ...]:
    """The tokens of a shown text, as far as one can tell."""
    return tuple(_TOKEN.findall(spelled(shown)))


def places(text: Text) -> list[Example]:
    """Every place of a text, with whether it is marked."""
    ends = {end for _, end in text.spans}
    inside = [(a, b) for a, b in text.spans]
    levels = dict(text.levels)
    found, at, tokens = [], 0, list[str]()
    for piece in _TOKEN.findall(text.plain):
        start, at = at, at + len(piece)
        tokens.append(spelled(piece))
        active = at in ends or any(a <= start and at <= b for a, b in inside)
        if len(tokens) > 1:
            found.append(Example(tuple(tokens), active, float(levels.get(piece, 10 if active else 0))))
    return found


class Inquiry:
    """What a contest's prompt says, and what the mind makes of it."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.above = active_from(chat)
        self.rng = random.Random(f"{chat.user} {chat.repairs}")
        self.rules = self._rules()
        weights = {key: int(n) for key, n in _WEIGHT.findall(chat.sections.get("WEIGHTS", ""))}
        self.fits = {
            key: 2 * int(p) * int(r) / max(int(p) + int(r), 1)
            for key, r, p in _FIT.findall(chat.sections.get("FIT", ""))
        }
        self.order = sorted(self.rules, key=lambda key: (-round(self.fits.get(key, 0)), -weights.get(key, 0)))
        self.tested = [*self._results(), *self._mistakes()]
        self.examples = [one for text in chat.texts() for one in places(text)]

    def _rules(self) -> dict[str, Rule]:
        told = self.chat.sections.get("RIVALS", "")
        heads = list(_RIVAL.finditer(told))
        found = {}
        for head, after in zip(heads, [*heads[1:], None], strict=True):
            lines = told[head.end() : after.start() if after else len(told)]
            rule = read("\n".join(line.strip() for line in lines.strip().split("\n")))
            if rule is not None:
                found[head[1]] = rule
        return found

    def _results(self) -> list[Example]:
        """What came of trials, as labelled places."""
        lines = self.chat.sections.get("RESULTS", "").split("\n")
        found: list[Example] = []
        for head, tail in itertools.pairwise(lines):
            numbered = re.match(r"^\[(\d+)\] (.*)$", head)
            if numbered is None:
                continue
            text = read_text(0, numbered[2])
            if not text.spans:
                continue
            tokens = tokens_of(text.plain[: text.spans[0][1]])
            if came := _CAME.search(tail):
                active = came[2] == "active" if came[2] else float(came[1]) > self.above
                found.append(Example(tokens, active))
                found += self._edits(tokens, came[3] or "")
            elif varied := _VARIED.search(tail):
                found += self._varied(text, tokens, *varied.groups())
        return [one for one in found if len(one.tokens) > 1]

    def _edits(self, tokens: tuple[str, ...], told: str) -> list[Example]:
        """The text with some other token in the place of one."""
        found = []
        for piece, level in _EDITED.findall(told):
            back = [i for i, token in enumerate(tokens) if token == spelled(piece)]
            if back:
                changed = (*tokens[: back[-1]], UNKNOWN, *tokens[back[-1] + 1 :])
                found.append(Example(changed, float(level) > self.above, weight=0.5))
        return found

    def _varied(self, text: Text, tokens: tuple[str, ...], what: str, active: str, silent: str) -> list[Example]:
        found = []
        after = tokens_of(text.plain[text.spans[0][1] :]) if "at the end" in what else ()
        for told, on in ((active, True), (silent, False)):
            if what != "changed":
                for piece in _QUOTED.findall(told):
                    token = spelled(re.sub(r"\\(.)", r"\1", piece))
                    found.append(Example((*tokens[:-1], token, *after), on, weight=1.0 if on else 0.5))
                continue
            for one in told.split("; "):
                changed = _rearranged(tokens, one)
                if changed is not None:
                    found.append(Example(changed, on))
        return found

    def _mistakes(self) -> list[Example]:
        found = []
        for kind, shown in _MISTAKE.findall(self.chat.sections.get("MISTAKES", "")):
            text = read_text(0, shown)
            if text.spans:
                found.append(Example(tokens_of(text.plain[: text.spans[0][1]]), kind.startswith("missed")))
        return [one for one in found if len(one.tokens) > 1]

    def revisions(self) -> list[dict[str, Any]]:
        """The best rule mended, and what is far behind dropped."""
        if not self.order:
            return []
        best = self.order[0]
        rule = self.rules[best]
        search = Induction(Labelled([*self.examples, *self.tested]), self.rng, self.above, 0.8)
        mended = search.mended(rule, 2 if self.chat.repairs else 8)
        found: list[dict[str, Any]] = []
        if mended != rule and mended.clauses and search.errors(mended) < search.errors(rule):
            was, now = (f"{search.errors(one):g}" for one in (rule, mended))
            reason = f"What is shown speaks against it with {was} places, against this with {now}."
            found.append({
                "kind": "refine", "rivals": [best], "reason": reason,
                "descriptions": [{"exceptions": None, **described(mended)}],
            })  # fmt: skip
        behind = [key for key in self.order[1:] if self.fits.get(key, 0) < self.fits.get(best, 0) - 15]
        if behind:
            found.append({"kind": "drop", "rivals": behind, "reason": f"{best} does much better.", "descriptions": []})
        return found

    def trials(self) -> list[dict[str, Any]]:
        """What the best rule leaves open."""
        if not self.order or self.chat.repairs:
            return []
        asked = re.search(r"At most (\d+) trials, each with at most (\d+) probes", self.chat.question)
        n, most = (int(asked[1]), int(asked[2])) if asked else (3, 4)
        known = {("".join(one.tokens)).strip() for one in self.tested}
        trials: list[dict[str, Any]] = []
        rule = self.rules[self.order[0]]
        clauses = sorted(rule.clauses, key=lambda clause: -clause.strength)
        pool: list[tuple[str, tuple[str, ...]]] = []
        for clause in clauses:
            base = self._base(clause)
            if base is None:
                continue
            pool += self._varied_texts(clause, base)
            context = [one for one in clause.literals if isinstance(one, InSet) and not one.negated
                       and not (one.place.kind == "token" and one.place.offset == 0)]  # fmt: skip
            for literal in context[:1]:
                at = next((i for i in range(len(base) - 1, -1, -1) if base[i] in literal.members), None)
                if at is not None and len(trials) < n - 1:
                    trials.append(self._trial("What else may stand before?", "substitute", [base], replace=base[at]))
        fresh = [(question, tokens) for question, tokens in pool if "".join(tokens).strip() not in known]
        said = {key: Labelled([Example(tokens, False) for _, tokens in fresh]) for key in self.order[:1]}
        if fresh:
            data = said[self.order[0]]
            answers = {key: data.said(one, self.above) for key, one in self.rules.items()}
            apart = [i for i in range(len(fresh)) if len({bool(row[i]) for row in answers.values()}) > 1]
            order = [*apart, *(i for i in range(len(fresh)) if i not in apart)]
            for start in range(0, len(order), most):
                if len(trials) == n:
                    break
                part = [fresh[i] for i in order[start : start + most]]
                trials.append(self._trial(part[0][0], "probe", [tokens for _, tokens in part]))
        return trials[:n]

    def _base(self, clause: Clause) -> tuple[str, ...] | None:
        """A short text on which a clause is right."""
        fits = [one for one in [*self.tested, *self.examples] if one.active and UNKNOWN not in one.tokens]
        held = Labelled(fits).clause(clause) if fits else []
        found = [one.tokens[-8:] for one, holds in zip(fits, held, strict=True) if holds and len(one.tokens) > 3]
        data = Labelled([Example(tokens, True) for tokens in found]) if found else None
        kept = [tokens for tokens, holds in zip(found, data.clause(clause), strict=True) if holds] if data else []
        return self.rng.choice(kept) if kept else None

    def _varied_texts(self, clause: Clause, base: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Texts that differ from one in a thing that the rule may be wrong about."""
        found: list[tuple[str, tuple[str, ...]]] = []
        token = base[-1]
        for literal in clause.literals:
            if not isinstance(literal, InSet):
                if getattr(literal, "name", "") == "repeated token":
                    first = [FILLERS[0] if one == token else one for one in base[:-1]]
                    found.append(("Must it have come before?", (*first, token)))
                continue
            k = literal.place.offset
            kinds = kinds_of(list(literal.members))
            mates = sorted({f" {word}" for word in kinds[0]} - set(literal.members)) if kinds else []
            others = mates or [one for one in TRIED if one not in literal.members]
            at = len(base) - 1 - k if literal.place.kind == "token" else next(
                (i for i in range(len(base) - 1, -1, -1) if base[i] in literal.members), -1)  # fmt: skip
            if literal.negated:
                at = len(base) - 1 - (k if literal.place.kind == "token" else 1)
                members = [*self.rng.sample(literal.members, min(2, len(literal.members))), *mates[:4]]
                found += [("Is this what keeps it silent?", _at(base, at, member)) for member in members if at >= 0]
                continue
            if at < 0:
                continue
            unseen = [member for member in literal.members if not self._seen(member)]
            found += [("Do all of these belong to it?", _at(base, at, member)) for member in unseen[:8]]
            found += [("Would others of the kind do?", _at(base, at, mate)) for mate in others[:6]]
            if at < len(base) - 1:
                filler = self.rng.choice(FILLERS)
                found.append(("Is it needed there?", _at(base, at, filler)))
                found.append(("May something stand between?", (*base[: at + 1], filler, *base[at + 1 :])))
                found.append(
                    ("May more stand between?", (*base[: at + 1], filler, self.rng.choice(FILLERS), *base[at + 1 :]))
                )
                if at + 2 < len(base):
                    found.append(("May it stand nearer?", (*base[: at + 1], *base[at + 2 :])))
        if not any(isinstance(one, InSet) and one.place.offset for one in clause.literals):
            found.append(("Does it stand alone?", (*[self.rng.choice(FILLERS) for _ in base[:-1]], token)))
        return found

    def _seen(self, member: str) -> bool:
        return any(one.active and member in one.tokens for one in [*self.tested, *self.examples])

    def _trial(self, question: str, tool: str, texts: Sequence[tuple[str, ...]], replace: str = "") -> dict[str, Any]:
        filed = 'leave "active" empty' not in self.chat.question
        probes = []
        for tokens in texts:
            active = []
            if filed and tool == "probe":
                data = Labelled([Example(tokens, False)])
                active = [{"rival": key, "percent": 90 if data.said(rule, self.above)[0] else 10}
                          for key, rule in self.rules.items()]  # fmt: skip
            probes.append({"text": "".join(tokens), "at": tokens[-1], "active": active})
        asked = {"question": question, "tool": tool, "probes": probes, "rivals": [], "surprise": 30}
        return {**asked, "replace": replace} if replace else asked


def _at(base: tuple[str, ...], at: int, token: str) -> tuple[str, ...]:
    return (*base[:at], token, *base[at + 1 :])


def _rearranged(tokens: tuple[str, ...], told: str) -> tuple[str, ...] | None:
    """A text changed as it is told; None where it is not told which place is meant."""
    if without := _WITHOUT.match(told.strip()):
        at = _last(tokens[:-1], without[1])
        return None if at is None else (*tokens[:at], *tokens[at + 1 :])
    if put := _PUT.match(told.strip()):
        at = _last(tokens, put[2])
        return None if at is None else (*tokens[:at], spelled(put[1]), *tokens[at:])
    if told.strip().startswith("in the order "):
        order = tokens_of(" " + told.strip().removeprefix("in the order "))
        return (*order, tokens[-1]) if len(order) == len(tokens) - 1 else None
    return None


def _last(tokens: Sequence[str], piece: str) -> int | None:
    at = [i for i, token in enumerate(tokens) if token == spelled(piece)]
    return at[-1] if at else None


__all__ = ["Reasoner"]
