"""What a head attends to, in words: its roles by attention mass well above what uniform attention would give.

Roles over all tokens come from `tools.heads`. A head that rests at most tokens, on the first one, has the role 'first'
by them, whatever it is for; so there are roles by the tokens at which it writes, too (`tools.edge_kinds`). Which of
several is asserted is for trials to say: each is a rival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from explainers.pattern.words import input_half, label
from explainers.rules.ast import Rule
from explainers.rules.english import listing, show

if TYPE_CHECKING:
    from explainers.types import Explanation
    from tools.edge_kinds import EdgeKind, WrittenEdges
    from tools.heads import EdgeProfile

_PHRASES = {
    "previous": "the token before",
    "same": "the token itself",
    "first": "the first token of the context (a resting place)",
    "duplicate": "earlier occurrences of the same token",
    "induction": "what came after earlier occurrences of the same token",
    "delimiter": "earlier punctuation and line ends",
}
_LABELS = {
    "previous": "previous-token head",
    "same": "same-token head",
    "first": "first-token (resting) head",
    "duplicate": "duplicate-token head",
    "induction": "induction head",
    "delimiter": "delimiter head",
}
MASS = 0.3
"""Attention mass that a role needs at least."""
LIFT = 2.0
"""How many times the mass under uniform attention it needs at least."""
MINIMUM_DESTINATIONS = 20
POSITIONAL = 0.5
"""R² by relative offset from which a head without another role counts as positional."""


CERTAIN = 0.5
"""Share of its writes that must come over one strong edge each for a head to be told by the tokens at their ends. The
others may come over several: where a token stands twice, attention is divided."""
TOKENS_SHOWN = 5


@dataclass(frozen=True)
class Role:
    """One thing that a head attends to."""

    name: str
    """As `tools.edge_kinds.EdgeKind` has it."""
    mass: float
    """Mean attention mass on such edges, over destinations that have one."""
    baseline: float
    """The same under uniform attention."""
    offset: int = 0
    queries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    where_it_writes: bool = False
    """Whether destinations count only where the head is active."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Role:
        """The role of a description's details; figures that are not known are 0."""
        return cls(**{
            "mass": 0.0, "baseline": 0.0, **data,
            "queries": tuple(data.get("queries", ())), "keys": tuple(data.get("keys", ())),
        })  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that the kind of edges does not have."""
        return {name: value for name, value in asdict(self).items() if name in ("name", "mass", "baseline") or value}

    @property
    def kind(self) -> EdgeKind:
        """The kind of edges."""
        from tools.edge_kinds import EdgeKind

        return EdgeKind(self.name, self.offset, self.queries, self.keys)

    @property
    def phrase(self) -> str:
        """What it attends to."""
        if self.name == "offset":
            return f"the token {self.offset} back"
        if self.name == "tokens":
            return f"earlier {listing(self.keys, TOKENS_SHOWN)}"
        return _PHRASES[self.name]


def asserted_role(details: Mapping[str, Any]) -> Role | None:
    """The role that a description stands for first; None where it has none."""
    found = details.get("roles") or []
    return Role.from_json(found[0]) if found else None


def roles(profile: EdgeProfile) -> list[Role]:
    """Roles with mass clearly above the baseline, the strongest first; empty for a head without a clear one."""
    found = []
    for name in _PHRASES:
        mass, baseline = float(getattr(profile, name)), float(profile.baseline.get(name, 0.0))
        if _enough(mass, baseline, profile.destinations.get(name, 0)):
            found.append(Role(name, mass, baseline))
    return sorted(found, key=lambda role: (-role.mass, role.name))


def roles_where_it_writes(profile: EdgeProfile, written: WrittenEdges) -> list[Role]:
    """Roles by the tokens at which the head writes, the strongest first.

    Left out are those that it has over all tokens, unless it rests more than that; and 'first', for no head is there to
    rest. From some tokens to others it attends where none of the other kinds says more.
    """
    known = {role.name for role in _before_resting(roles(profile))}
    found = [
        Role(name, one.mass, one.uniform, where_it_writes=True)
        for name, one in written.kinds.items()
        if name not in known and name != "first" and _enough(one.mass, one.uniform, one.destinations)
    ]
    special = len(found) > 0 or len(known) > 0
    back = written.at_offset
    if written.offset > 1 and _enough(back.mass, back.uniform, back.destinations):
        found.append(Role("offset", back.mass, back.uniform, offset=written.offset, where_it_writes=True))
    sets, pairs = written.tokens, written.at_tokens
    clear = not special and written.clear >= CERTAIN and _enough(pairs.mass, pairs.uniform, pairs.destinations)
    if sets is not None and clear:
        found.append(Role("tokens", pairs.mass, pairs.uniform, 0, sets.queries, sets.keys, where_it_writes=True))
    return sorted(found, key=lambda role: (-role.mass, role.name))


def _enough(mass: float, baseline: float, destinations: int) -> bool:
    return destinations >= MINIMUM_DESTINATIONS and mass >= MASS and mass >= LIFT * baseline


def role_rivals(profile: EdgeProfile, written: WrittenEdges | None) -> list[list[Role]]:
    """Roles as rival descriptions have them, what each asserts first: by text, then every other role put first."""
    own = roles(profile)
    more = [] if written is None else roles_where_it_writes(profile, written)
    left = [role for role in own[1:] if role.name not in {one.name for one in more}]
    others = [[role, *(one for one in own if one is not role)] for role in left]
    return [own, *others, *([role] for role in more)]


def _before_resting(found: Sequence[Role]) -> list[Role]:
    names = [role.name for role in found]
    return list(found[: names.index("first")] if "first" in names else found)


def _place(offset: int) -> str:
    return {0: "the current token", 1: "the token before"}.get(offset, f"{offset} tokens back")


def with_roles(explanation: Explanation, profile: EdgeProfile, said: Sequence[Role]) -> Explanation:
    """The description of a head with other roles; what it says of the tokens at which it writes stays."""
    before = [Role.from_json(role) for role in explanation.details.get("roles") or []]
    text = explanation.input_half.replace(head_sentence(profile, before), head_sentence(profile, said), 1)
    details = {**explanation.details, "roles": [role.to_json() for role in said]}
    return replace(explanation, label=head_label(profile, said), input_half=text, details=details)


def head_label(profile: EdgeProfile, said: Sequence[Role] | None = None) -> str:
    """A few words: 'previous-token head', 'induction head', 'mixed head'.

    Args:
        profile: Where it attends.
        said: Its roles, what is asserted first; left out: those over all tokens.
    """
    found = roles(profile) if said is None else said
    if found and found[0].name == "offset":
        return f"positional head, {_place(found[0].offset)}"
    if found and found[0].name == "tokens":
        queries = " or ".join(show(piece) for piece in found[0].queries[:2])
        return f"head from {queries} to {show(found[0].keys[0])} and others"
    if found:
        return _LABELS[found[0].name]
    if profile.positional >= POSITIONAL:
        return f"positional head, mostly {_place(profile.best_offset)}"
    return "head without one attention role"


def head_sentence(profile: EdgeProfile, said: Sequence[Role] | None = None) -> str:
    """Where it attends from and to, with the mass against that of uniform attention.

    Args:
        profile: Where it attends.
        said: Its roles, what is asserted first; left out: those over all tokens.
    """
    found = roles(profile) if said is None else said
    if found and found[0].where_it_writes:
        return _where_it_writes(found[0], profile)
    if found:
        parts = [
            f"{role.phrase} ({role.mass:.0%} of its attention where there is one, against {role.baseline:.0%} "
            "if it were spread evenly)"
            for role in found[:3]
        ]
        return f"Attends from each token to {'; and to '.join(parts)}."
    if profile.positional >= POSITIONAL:
        return (
            f"Attends by position, most to {_place(profile.best_offset)} (relative position explains "
            f"{profile.positional:.0%} of its attention)."
        )
    strongest = max(_PHRASES, key=lambda name: float(getattr(profile, name)) - profile.baseline.get(name, 0.0))
    return (
        "Has no single attention role: its attention is mixed, the largest share above even spread going to "
        f"{_PHRASES[strongest]} ({float(getattr(profile, strongest)):.0%})."
    )


def _where_it_writes(role: Role, profile: EdgeProfile) -> str:
    """A role at the tokens at which a head writes, and what it does at the others."""
    queries = f" from {listing(role.queries, TOKENS_SHOWN)}" if role.queries else ""
    rests = " Elsewhere it rests on the first token." if any(one.name == "first" for one in roles(profile)) else ""
    return (
        f"Where it writes, attends{queries} to {role.phrase} ({role.mass:.0%} of its attention where there is one, "
        f"against {role.baseline:.0%} if it were spread evenly).{rests}"
    )


def in_words(
    rule: Rule,
    shares: Sequence[float],
    threshold: float,
    profile: EdgeProfile | None,
    said: Sequence[Role] | None = None,
) -> tuple[str, str]:
    """Label and input half of a rule; of a head's, what it attends to comes first.

    Args:
        rule: The rule.
        shares: Per clause the share of the unit's activity that it catches (explore).
        threshold: Magnitude above which the unit counts as active.
        profile: What a head attends to; None for other units.
        said: Its roles, what is asserted first; left out: those over all tokens.
    """
    text = input_half(rule, shares, threshold)
    if profile is None:
        return label(rule, shares, threshold), text
    return head_label(profile, said), f"{head_sentence(profile, said)} {text.replace('Fires ', 'Writes most ', 1)}"
