"""Trials about what a head attends to: texts on which its rivals' roles expect different sources.

- *repeat*: random tokens, some of them said twice, with a mark between: the token before, an earlier occurrence, what
  followed it, the first token, a mark and a fixed distance are all different places.
- *example*: texts at whose end the head writes.
- *longer*: the same with other tokens put between, so that distances change and tokens do not.
- *changed*: the same with other tokens where the roles look, so that tokens change and distances do not.
- *keys*: of a head that attends from some tokens to others, every frequent token where it looks in an example.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from agent.contest.edges import EdgeTexts, role_of
from agent.contest.pattern.bases import LONGEST, Material
from agent.contest.types import Probe, Trial
from agent.toolbox.probe import MOST
from tools.edge_kinds import TOKENS, EdgeKind

#: Texts of a trial.
TEXTS = 12
#: Attempts to make each text: random tokens that a tokenizer would read as others make none.
ATTEMPTS = 12
#: Tokens of a repetition, which is more than one: some heads compare the token before, too.
REPEATED = 4
#: Tokens that stay together at the end of an example, and that are put before them.
KEPT, INSERTED = 3, 3
#: Of the tokens tried where a head looks, the share beyond which it does not look for tokens.
IDLE = 0.5
#: How likely the policy holds it that the tokens to which a head attends are not all known.
INCOMPLETE = 0.3
#: How likely the policy holds it that a role that has no rival is wrong.
SURPRISE = 0.2
QUESTIONS = {
    "repeat": "Where does it attend among random tokens that are said twice?",
    "example": "Where does it attend in texts in which it writes?",
    "longer": "Where does it attend when tokens are put between?",
    "changed": "Does it attend to the same places when other tokens stand there?",
    "keys": "To which tokens does it attend in this place?",
}


class Attention:
    """Makes the trials about a head's roles.

    Args:
        material: Tokens and texts of the explore split.
    """

    def __init__(self, material: Material):
        self._material = material
        context = material.context
        self._texts = EdgeTexts(context.desk.bench.subject)
        found = [role.kind for role in map(role_of, context.rivals) if role is not None]
        self._kinds: list[EdgeKind] = list(dict.fromkeys(found))
        self._generator = np.random.default_rng([context.seed % 2**32, 27])

    def trials(self) -> list[Trial]:
        """Those that were not run yet, of which each tells roles apart, or tries the only one that there is."""
        if not self._kinds:
            return []
        done = {str(one.trial.aim.get("name")) for one in self._material.context.outcomes if one.trial.tool == "edges"}
        wanted = [name for name in QUESTIONS if name not in done]
        if not wanted:
            return []
        examples = self._examples()
        made = {
            "repeat": lambda: self._asked(self._repeats()),
            "example": lambda: self._asked(examples),
            "longer": lambda: self._asked(self._longer(body) for body in examples),
            "changed": lambda: self._changed(examples),
            "keys": self._keys,
        }
        alone = SURPRISE if len(self._kinds) == 1 else 0.0
        found = []
        for name in wanted:
            if probes := made[name]():
                surprise, aim = INCOMPLETE if name == "keys" else alone, {"kind": "edges", "name": name}
                found.append(Trial(QUESTIONS[name], tuple(probes), tool="edges", surprise=surprise, aim=aim))
        return found

    def keys(self, kind: EdgeKind) -> EdgeKind:
        """From some tokens to others as the trial of its keys has it, where it was run: to those that were attended to,
        and to those that were not tried."""
        tried: dict[str, bool] = {}
        for outcome in self._material.context.outcomes:
            if outcome.trial.tool == "edges" and outcome.trial.aim.get("name") == "keys" and outcome.error is None:
                subject = self._material.context.desk.bench.subject
                for probe, on in zip(outcome.trial.probes, outcome.active, strict=True):
                    tried[subject.pieces(subject.encode(probe.text))[probe.sources[-1]]] = on
        known = [piece for piece in kind.keys if tried.get(piece, True)]
        more = [piece for piece, on in tried.items() if on and piece not in kind.keys]
        if kind.name != TOKENS or not known or sum(tried.values()) > IDLE * len(tried):
            return kind
        return replace(kind, keys=(*known, *more))

    def _keys(self) -> list[Probe]:
        """Every frequent token in the places to which the head attended in an example; where it attended to one place
        rather than to several, and with little text before it."""
        [*kinds] = [kind for kind in self._kinds if kind.name == TOKENS]
        bases: list[tuple[int, int, Probe]] = []
        for outcome in self._material.context.outcomes:
            if outcome.trial.tool != "edges" or outcome.error is not None:
                continue
            for probe, on in zip(outcome.trial.probes, outcome.active, strict=True):
                if on and any(self._texts.sources(k, probe.text, probe.position) == probe.sources for k in kinds):
                    bases.append((len(probe.sources), probe.position, probe))
        if not bases:
            return []
        *_, base = min(bases, key=lambda one: one[:2])
        subject = self._material.context.desk.bench.subject
        ids, skip = subject.encode(base.text), len(subject.prefix)
        probes = []
        for token in self._material.candidates:
            body = [token if at in base.sources else known for at, known in enumerate(ids)][skip : base.position + 1]
            written = self._material.written(body)
            if written is not None:
                probes.append(Probe(written.text, written.position, base.sources))
        return probes[:MOST]

    def _asked(self, bodies: Iterable[list[int]]) -> list[Probe]:
        """Of each text one probe for each set of sources that some role expects there."""
        probes: list[Probe] = []
        for body in bodies:
            written = self._material.written(body)
            if written is not None:
                expected = [self._texts.sources(kind, written.text, written.position) for kind in self._kinds]
                probes += self._probes(written, expected)
        return probes

    def _probes(self, written: Probe, expected: Sequence[tuple[int, ...]]) -> list[Probe]:
        apart = [found for found in dict.fromkeys(expected) if found]
        if len(set(expected)) == 1 and len(self._kinds) > 1:
            return []
        return [Probe(written.text, written.position, found) for found in apart]

    def _changed(self, bodies: Sequence[list[int]]) -> list[Probe]:
        """Other tokens at all sources but the first position and the query itself; asked at the old sources, too."""
        skip = len(self._material.context.desk.bench.subject.prefix)
        probes: list[Probe] = []
        for body in bodies:
            written = self._material.written(body)
            if written is None:
                continue
            before = [self._texts.sources(kind, written.text, written.position) for kind in self._kinds]
            places = {at - skip for found in before for at in found if skip <= at < written.position}
            changed = list(body)
            for at, token in zip(sorted(places), self._draw(len(places), without=set(body)), strict=False):
                changed[at] = token
            now = self._material.written(changed)
            if places and now is not None:
                expected = [self._texts.sources(kind, now.text, now.position) for kind in self._kinds]
                probes += self._probes(now, [*expected, *(found for found in before if 0 not in found)])
        return probes

    def _longer(self, body: list[int]) -> list[int]:
        return [*body[:-KEPT], *self._draw(INSERTED, without=set(body)), *body[-KEPT:]]

    def _examples(self) -> list[list[int]]:
        """Ends of texts at which the head writes, of as many documents."""
        _, positions, *_, documents = self._material.rows
        rows = self._generator.permutation(np.flatnonzero(self._material.active & (positions > KEPT)))
        _, first = np.unique(documents[rows], return_index=True)
        bodies = [self._material.body(row)[-LONGEST:] for row in rows[np.sort(first)][: 2 * TEXTS].tolist()]
        return [body for body in bodies if self._material.written(body) is not None][:TEXTS]

    def _repeats(self) -> Iterator[list[int]]:
        """Random tokens of which the last ones stood earlier, with a mark between."""
        made = 0
        for _ in range(TEXTS * ATTEMPTS):
            before, between = self._generator.integers([3, 6], [9, 12]).tolist()
            tokens = self._draw(before + REPEATED + between)
            if len(tokens) < before + REPEATED + between or made >= TEXTS:
                return
            head, run, rest = tokens[:before], tokens[before : before + REPEATED], tokens[before + REPEATED :]
            marks = self._marks
            if marks:
                rest[int(self._generator.integers(2, between - 2))] = marks[int(self._generator.integers(len(marks)))]
            body = [*head, *run, *rest, *run]
            if self._material.written(body) is not None:
                made += 1
                yield body

    @property
    def _marks(self) -> list[int]:
        """Frequent tokens without a letter or a digit."""
        tokens = self._material.candidates
        pieces = self._material.pieces(tokens)
        return [token for token, piece in zip(tokens, pieces, strict=True) if piece.strip() and not _is_word(piece)]

    def _draw(self, n: int, without: Collection[int] = ()) -> list[int]:
        """Different frequent words; such as begin with a space, where there are enough: side by side they stay as they
        are."""
        tokens = [token for token in self._material.candidates if token not in without]
        pieces = self._material.pieces(tokens)
        words = [token for token, piece in zip(tokens, pieces, strict=True) if _is_word(piece)]
        spaced = [token for token, piece in zip(tokens, pieces, strict=True) if piece[:1] == " " and _is_word(piece)]
        left = spaced if len(spaced) >= 2 * n else words
        return [left[i] for i in self._generator.choice(len(left), min(n, len(left)), replace=False)]


def _is_word(piece: str) -> bool:
    return any(character.isalnum() for character in piece)
