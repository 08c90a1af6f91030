"""Trials that take an example apart, step by step: each begins where the answers to the last ones end.

1. *places*: each of the last tokens is replaced by a few others; what stands before is cut off; all is moved.
2. *members*: every token of the corpus in each needed place. *groups*: the places that are not needed are filled with
   tokens, several at once, until each token has stood in each of them (group testing; Dorfman 1943). *position*: where
   the text begins, token by token.
3. *singles*: what silenced the unit in company, alone. *moves*: a needed token at other distances. *twins*: both places
   of a repetition changed alike. *lone*: members that need no company, for they belong to another rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from agent.contest.pattern.bases import Material
from agent.contest.pattern.casefile import CaseFile
from agent.contest.types import Probe, Trial
from agent.toolbox.probe import MOST
from explainers.rules.features import TOKENS_BACK

#: Tokens put in a place to see whether it is needed.
TRIED = 3
#: Lengths to which an example is cut.
CUTS = (3, 6, TOKENS_BACK)
#: Positions to which an example is moved, to see whether it matters.
SHIFTS = (13, 21, 34, 50)
#: Beyond this position only every eighth one is asked for.
CLOSE = 64
#: Pairs that silenced the unit in company that are tried alone, at most.
ALONE = 384
#: How likely the policy holds it that an answer is one that no rival gives, by kind of trial.
SURPRISE = {
    "places": 0.5, "members": 0.3, "groups": 0.2, "position": 0.5, "singles": 0.5, "moves": 0.3, "twins": 0.5,
    "lone": 0.2,
}  # fmt: skip


class Taking:
    """Makes the trials of one example.

    Args:
        material: Tokens and texts.
        case: What is known of the example.
    """

    def __init__(self, material: Material, case: CaseFile):
        self._material, self._case = material, case
        self._generator = np.random.default_rng([material.context.seed % 2**32, case.number])

    def first(self) -> Trial | None:
        """Which places matter?"""
        body = self._case.body
        asked: list[tuple[list[object], list[int]]] = [(["whole"], body)]
        asked += [(["cut", length], body[-length:]) for length in CUTS if length < len(body)]
        for distance in range(min(len(body), TOKENS_BACK)):
            asked += [(["at", distance], self._put(body, {distance: token})) for token in self._draw(TRIED)]
        if len(body) > TOKENS_BACK:
            kept = body[-TOKENS_BACK:]
            asked += [(["far"], [*self._material.filler(len(body) - len(kept), n), *kept]) for n in range(2)]
        # The example's own beginning goes with it, as far as it fits.
        tail = body[-TOKENS_BACK:]
        limit = self._limit
        asked += [
            (["shift", at], [*self._material.filler(at - len(tail), at), *tail])
            for at in SHIFTS
            if len(tail) < at < limit
        ]
        return self._trial("places", f"Which tokens of {self._shown} does it need?", asked)

    def next(self) -> Iterator[Trial]:
        """What follows from what is known."""
        case = self._case
        if not case.alive or case.far or not case.needed:
            return
        trials: list[Trial | None] = []
        if not case.members:
            trials += [self._members(distance) for distance in case.needed]
            trials.append(self._groups())
            if case.placed:
                trials.append(self._position())
        elif case.complete:
            trials += [self._singles(), self._moves(), self._twins(), self._lone()]
        yield from (trial for trial in trials if trial is not None)

    @property
    def _shown(self) -> str:
        return repr("".join(self._material.pieces(self._case.body[-6:])))

    @property
    def _limit(self) -> int:
        """Tokens that a body may have."""
        subject = self._material.context.desk.bench.subject
        return subject.context - len(subject.prefix)

    def _draw(self, n: int, without: Iterable[int] = ()) -> list[int]:
        left = [token for token in self._material.candidates if token not in set(without)]
        return [left[i] for i in self._generator.choice(len(left), min(n, len(left)), replace=False)] if left else []

    @staticmethod
    def _put(body: Sequence[int], tokens: dict[int, int]) -> list[int]:
        """A body with other tokens at some distances."""
        changed = list(body)
        for distance, token in tokens.items():
            changed[-1 - distance] = token
        return changed

    def _free(self) -> list[int]:
        """Distances at which any token might stand."""
        return [d for d in range(1, min(len(self._wide), TOKENS_BACK)) if d not in self._case.needed]

    @property
    def _wide(self) -> list[int]:
        """The example with some ordinary text before it where it is short, so that there are places to fill."""
        body = self._case.body
        lacking = TOKENS_BACK - len(body)
        return body if self._case.placed or lacking <= 0 else [*self._material.filler(lacking, 99), *body]

    def _members(self, distance: int) -> Trial | None:
        body = self._case.body
        asked: list[tuple[list[object], list[int]]] = [
            ([distance, token], self._put(body, {distance: token}))
            for token in self._material.candidates
            if token != body[-1 - distance]
        ]
        where = "as its last token" if not distance else f"{distance} before the last token"
        return self._trial("members", f"Which tokens will do {where} in {self._shown}?", asked, str(distance))

    def _groups(self) -> Trial | None:
        free, tokens = self._free(), self._material.candidates
        if not free:
            return None
        stride = max(len(tokens) // len(free), 1)
        asked: list[tuple[list[object], list[int]]] = []
        for i in range(len(tokens)):
            pairs = {distance: tokens[(i + j * stride) % len(tokens)] for j, distance in enumerate(free)}
            asked.append(([[d, t] for d, t in pairs.items()], self._put(self._wide, pairs)))
        return self._trial("groups", f"Which tokens beside it silence {self._shown}?", asked)

    def _position(self) -> Trial | None:
        reach = max(self._case.needed) + 1
        tail, limit = self._case.body[-reach:], self._limit
        wanted = [at for at in range(reach, limit) if at <= CLOSE or at % 8 == 0]
        asked: list[tuple[list[object], list[int]]] = [
            ([at], [*self._material.filler(at - reach, 1000 + at), *tail]) for at in wanted
        ]
        return self._trial("position", f"At which positions is it active on {self._shown}?", asked)

    def _singles(self) -> Trial | None:
        case = self._case
        known = case.innocent | case.silencers
        pairs = [pair for group in case.suspects for pair in group if pair not in known]
        asked: list[tuple[list[object], list[int]]] = [
            (list(pair), self._put(self._wide, {pair[0]: pair[1]})) for pair in dict.fromkeys(pairs)
        ]
        return self._trial("singles", f"Which of them silences {self._shown} alone?", asked[:ALONE])

    def _moves(self) -> Trial | None:
        case, body = self._case, self._wide
        asked: list[tuple[list[object], list[int]]] = []
        for distance in case.needed:
            if not distance:
                continue
            plain = self._draw(1, without=set().union(*case.members.values()) | {t for _, t in case.silencers})
            token = body[-1 - distance]
            for other in range(1, min(len(body), TOKENS_BACK)):
                if other in case.needed or not plain:
                    continue
                asked.append(([distance, other], self._put(body, {distance: plain[0], other: token})))
        return self._trial("moves", f"At which distances will the tokens of {self._shown} do?", asked)

    def _twins(self) -> Trial | None:
        distance = self._case.repeats
        if distance is None:
            return None
        asked: list[tuple[list[object], list[int]]] = [
            ([token], self._put(self._case.body, {0: token, distance: token})) for token in self._material.candidates
        ]
        return self._trial("twins", f"Which tokens will do when they are repeated as in {self._shown}?", asked)

    def _lone(self) -> Trial | None:
        case = self._case
        asked: list[tuple[list[object], list[int]]] = []
        if len(case.needed) < 2 or case.repeats is not None:
            return None
        for distance in case.needed:
            other = next(d for d in case.needed if d != distance)
            broken = self._draw(1, without=case.members[other])
            if not broken:
                continue
            asked += [
                ([distance, token], self._put(case.body, {distance: token, other: broken[0]}))
                for token in sorted(case.members[distance])
            ]
        return self._trial("lone", f"Which tokens of {self._shown} need no other?", asked)

    def _trial(
        self, kind: str, question: str, asked: Sequence[tuple[list[object], list[int]]], part: str = ""
    ) -> Trial | None:
        case, name = self._case, f"{kind} {part}".strip()
        if name in case.done:
            return None
        probes: list[Probe] = []
        labels: list[list[object]] = []
        for label, body in asked[:MOST]:
            probe = self._material.written(body) if len(body) <= self._limit else None
            if probe is not None:
                probes.append(probe)
                labels.append(label)
        if not probes:
            return None
        aim = {"kind": kind, "name": name, "base": case.number, "body": case.body, "asked": labels}
        return Trial(question, tuple(probes), surprise=SURPRISE[kind], aim=aim)
