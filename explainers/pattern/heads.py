"""What a head attends to, in words: its roles by attention mass well above what uniform attention would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explainers.pattern.words import input_half, label
from explainers.rules.ast import Rule

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class Role:
    """One thing that a head attends to."""

    name: str
    mass: float
    """Mean attention mass on such edges, over destinations that have one."""
    baseline: float
    """The same under uniform attention."""


def roles(profile: EdgeProfile) -> list[Role]:
    """Roles with mass clearly above the baseline, the strongest first; empty for a head without a clear one."""
    found = []
    for name in _PHRASES:
        mass, baseline = float(getattr(profile, name)), float(profile.baseline.get(name, 0.0))
        enough = profile.destinations.get(name, 0) >= MINIMUM_DESTINATIONS
        if enough and mass >= MASS and mass >= LIFT * baseline:
            found.append(Role(name, mass, baseline))
    return sorted(found, key=lambda role: (-role.mass, role.name))


def _place(offset: int) -> str:
    return {0: "the current token", 1: "the token before"}.get(offset, f"{offset} tokens back")


def head_label(profile: EdgeProfile) -> str:
    """A few words: 'previous-token head', 'induction head', 'mixed head'."""
    found = roles(profile)
    if found:
        return _LABELS[found[0].name]
    if profile.positional >= POSITIONAL:
        return f"positional head, mostly {_place(profile.best_offset)}"
    return "head without one attention role"


def head_sentence(profile: EdgeProfile) -> str:
    """Where it attends from and to, with the mass against that of uniform attention."""
    found = roles(profile)
    if found:
        parts = [
            f"{_PHRASES[role.name]} ({role.mass:.0%} of its attention where there is one, against {role.baseline:.0%} "
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


def in_words(rule: Rule, shares: Sequence[float], threshold: float, profile: EdgeProfile | None) -> tuple[str, str]:
    """Label and input half of a rule; of a head's, what it attends to comes first.

    Args:
        rule: The rule.
        shares: Per clause the share of the unit's activity that it catches (explore).
        threshold: Magnitude above which the unit counts as active.
        profile: What a head attends to; None for other units.
    """
    text = input_half(rule, shares, threshold)
    if profile is None:
        return label(rule, shares, threshold), text
    return head_label(profile), f"{head_sentence(profile)} {text.replace('Fires ', 'Writes most ', 1)}"
