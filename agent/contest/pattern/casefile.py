"""What trials said of one example that was taken apart: which tokens it needs, which others would do, what silences it.

A `CaseFile` is read off the outcomes of a contest; it keeps nothing that is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.contest.types import Outcome

#: Of the tokens put in a place, so many must silence the unit for the place to be needed.
NEEDED = 2 / 3
#: A place in which more than this share of all tokens will do is not one that is needed.
IDLE = 0.5


@dataclass
class CaseFile:
    """One example."""

    number: int
    body: list[int]
    """Its tokens, without the prefix of every text; read at the last one."""
    alive: bool = True
    """Whether the unit is active on the example as it is written."""
    needed: list[int] = field(default_factory=list)
    """How far back the tokens stand that silence the unit when they are replaced."""
    far: bool = False
    """Whether something farther back is needed."""
    placed: bool = False
    """Whether the position in the text seems to matter."""
    members: dict[int, set[int]] = field(default_factory=dict)
    """By distance: tokens that leave the unit active there."""
    tried: set[int] = field(default_factory=set)
    """Tokens that were tried in needed places."""
    suspects: list[tuple[tuple[int, int], ...]] = field(default_factory=list)
    """(distance, token) pairs that silenced the unit together."""
    silencers: set[tuple[int, int]] = field(default_factory=set)
    """(distance, token) pairs that silence it alone."""
    innocent: set[tuple[int, int]] = field(default_factory=set)
    """Pairs that do not."""
    reach: dict[int, set[int]] = field(default_factory=dict)
    """By distance of a needed token: distances at which it will do as well."""
    twins: set[int] | None = None
    """Tokens that will do when they stand in both places of a repetition; None where that was not asked."""
    lone: dict[int, set[int]] = field(default_factory=dict)
    """By distance: members that leave the unit active even where another needed token is gone."""
    positions: dict[int, bool] = field(default_factory=dict)
    """Positions at which it was read, and whether it is active there."""
    done: set[str] = field(default_factory=set)
    """Kinds of trials that were run."""

    @property
    def repeats(self) -> int | None:
        """How far back the token stands that the last one must repeat; None where nothing says so."""
        if 0 not in self.needed:
            return None
        last = self.body[-1]
        for distance in self.needed:
            if distance and self.body[-1 - distance] == last and self.members.get(distance, {last}) == {last}:
                return distance
        return None

    def explains(self, other: CaseFile) -> bool:
        """Whether another example is one of the same clause, as far as is known: it needs the same places, and its
        tokens there will do."""
        if not self.alive or self.far or self.placed != other.placed:
            return False
        if self.repeats is not None and other.repeats is not None:
            return self.twins is None or other.body[-1] in self.twins
        if self.needed != other.needed:
            return False
        return all(other.body[-1 - distance] in kept for distance, kept in self.members.items())

    @property
    def complete(self) -> bool:
        """Whether all that is needed has its tokens."""
        return self.alive and bool(self.needed) and all(distance in self.members for distance in self.needed)


def pursued(cases: Sequence[CaseFile]) -> list[CaseFile]:
    """Examples that are worth going on with: not those that an earlier one explains, or may once it is understood."""
    found: list[CaseFile] = []
    for case in cases:
        if case.members or not any(other.explains(case) for other in found):
            found.append(case)
    return found


def read(outcomes: Sequence[Outcome]) -> list[CaseFile]:
    """The examples that were taken apart so far, in order."""
    files: dict[int, CaseFile] = {}
    for outcome in outcomes:
        aim = outcome.trial.aim
        if "base" not in aim or outcome.error is not None:
            continue
        number = int(aim["base"])
        if number not in files:
            files[number] = CaseFile(number, list(aim["body"]))
        files[number].done.add(str(aim["name"]))
        _READERS[str(aim["kind"])](files[number], aim["asked"], outcome.active)
    return list(files.values())


def _places(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    silent: dict[int, list[bool]] = {}
    shifts: list[bool] = []
    for (what, *where), on in zip(asked, active, strict=True):
        if what == "whole":
            case.alive = on
        elif what == "at":
            silent.setdefault(int(where[0]), []).append(not on)
        elif what == "far":
            silent.setdefault(-1, []).append(not on)
        elif what == "shift":
            shifts.append(on)
    case.needed = sorted(d for d, found in silent.items() if d >= 0 and sum(found) >= NEEDED * len(found))
    case.far = bool(silent.get(-1)) and all(silent[-1])
    case.placed = bool(shifts) and not all(shifts)
    cuts = [int(where[0]) for (what, *where), on in zip(asked, active, strict=True) if what == "cut" and on]
    fitting = [length for length in cuts if length > max(case.needed, default=0)]
    if fitting and case.alive and not case.placed:
        case.body = case.body[-min(fitting) :]
        case.far = False


def _members(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    for (distance, token), on in zip(asked, active, strict=True):
        kept = case.members.setdefault(int(distance), {case.body[-1 - int(distance)]})
        case.tried.add(int(token))
        if on:
            kept.add(int(token))
    for distance, kept in list(case.members.items()):
        if len(kept) > IDLE * max(len(case.tried), 1):
            case.needed.remove(distance)
            del case.members[distance]


def _groups(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    for pairs, on in zip(asked, active, strict=True):
        group = tuple((int(d), int(t)) for d, t in pairs)
        if on:
            case.innocent |= set(group)
        else:
            case.suspects.append(group)


def _singles(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    for (distance, token), on in zip(asked, active, strict=True):
        pair = int(distance), int(token)
        (case.innocent if on else case.silencers).add(pair)


def _moves(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    for (distance, other), on in zip(asked, active, strict=True):
        reach = case.reach.setdefault(int(distance), {int(distance)})
        if on:
            reach.add(int(other))


def _twins(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    found = {int(token) for (token,), on in zip(asked, active, strict=True) if on}
    case.twins = found | {case.body[-1]}


def _lone(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    for (distance, token), on in zip(asked, active, strict=True):
        lone = case.lone.setdefault(int(distance), set())
        if on:
            lone.add(int(token))


def _position(case: CaseFile, asked: Sequence[Any], active: Sequence[bool]) -> None:
    case.positions |= {int(at): on for (at,), on in zip(asked, active, strict=True)}


_READERS = {
    "places": _places, "members": _members, "groups": _groups, "singles": _singles, "moves": _moves, "twins": _twins,
    "lone": _lone, "position": _position,
}  # fmt: skip
