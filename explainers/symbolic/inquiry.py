"""What asking a unit has come to."""

from __future__ import annotations

from dataclasses import dataclass

from tools.functions import Expr


@dataclass(frozen=True)
class Inquiry:
    """What asking a unit has come to; the same for both of its tails."""

    domain: str
    formula: Expr
    stretch: list[float | None] | None
    """Ends of an interval of numbers in which another rule holds; None is an end that is open."""
    other_words: str | None
    """The same of words: a condition."""
    other_is_noise: bool
    other_spread: float
    noise: float
    rms: float
    refine_nmse: float | None
    elsewhere: float
    queries: int
    contexts: int
    asked: tuple[tuple[str, float], ...]
    steps: tuple[str, ...]
