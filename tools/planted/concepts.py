"""Concepts of planted subjects: named sets of tokens, each a dimension of the residual stream."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.planted.corpus import word_shares
from tools.planted.spec import PlantedSpec
from tools.planted.words import CATEGORIES, TOKENS, piece, pieces

#: Expected shares of tokens that concepts made for their prevalence aim at.
LADDER = (0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Concept:
    """A set of tokens."""

    name: str
    tokens: tuple[str, ...]
    kind: str
    """'category' (words of one meaning), 'class' (words of one form), 'set' (tokens without anything in common),
    'part' (some of a category) or 'ladder' (a set made for its prevalence)."""
    lagged: bool = False
    """Whether the subject also knows it of the tokens one, two and three back."""

    @property
    def share(self) -> float:
        """Expected share of a corpus's tokens."""
        shares = word_shares()
        return sum(shares.get(token, 0.0) for token in self.tokens)


#: Categories that are concepts, those known of earlier tokens first.
_LAGGED = (
    "colour", "size", "feeling", "animal", "fruit", "tool", "food", "place", "name", "took", "be", "prep", "negation",
    "digit", "unit", "did", "pronoun", "adverb", "metal", "stop", "comma", "science", "this", "and",
)  # fmt: skip
_PLAIN = ("vehicle", "doing", "music", "weather", "trade", "city", "gave", "give to", "said")


def _classes() -> dict[str, tuple[str, ...]]:
    words = [token.strip() for token in TOKENS[3:]]
    forms = {
        "title case": [w for w in words if w.istitle()],
        "upper case": [w for w in words if w.isupper()],
        "number": [w for w in words if w.isdigit()],
        "sign": [w for w in words if not any(c.isalnum() for c in w)],
        "ends in ed": [w for w in words if w.endswith("ed")],
        "ends in ing": [w for w in words if w.endswith("ing")],
        "begins with un": [w for w in words if w.startswith("un")],
        "begins with b": [w for w in words if w.startswith("b")],
        "begins with s": [w for w in words if w.startswith("s")],
    }
    return {name: tuple(piece(w) for w in members) for name, members in forms.items()}


def concepts(spec: PlantedSpec) -> tuple[Concept, ...]:
    """All concepts of a subject: the same for all but those that are drawn by its seed. Lagged ones come first."""
    found = [Concept(name, pieces(name), "category", lagged=True) for name in _LAGGED]
    found += [Concept(name, pieces(name), "category") for name in _PLAIN]
    found += [Concept(name, members, "class") for name, members in _classes().items()]
    # Halves of categories, word by word in turns, so that either is about as frequent.
    for name in ("animal", "colour", "tool", "place"):
        members = pieces(name)
        found += [Concept(f"{name}, part {k + 1}", members[k::2], "part") for k in range(2)]
    # Single words that have a latent of their own.
    for name in ("fruit", "size", "metal", "pronoun"):
        found.append(Concept(f"{name}, its second", pieces(name)[1:2], "part"))
    rng = random.Random(f"planted concepts 1 seed {spec.seed}")
    found += [_rung(rng, target) for target in LADDER]
    names = list(CATEGORIES)
    while sum(concept.kind == "set" for concept in found) < 8:
        chosen = rng.sample(names, rng.randint(3, 6))
        members = tuple(piece(rng.choice(CATEGORIES[name][:6])) for name in chosen)
        candidate = Concept(f"set {len(found)}", tuple(sorted(set(members))), "set")
        if 0.002 <= candidate.share <= 0.05:
            found.append(candidate)
    return tuple(found)


def _rung(rng: random.Random, target: float) -> Concept:
    """A random set of tokens whose share comes close to the target."""
    shares = word_shares()
    order = [token for token in TOKENS[3:] if 0 < shares.get(token, 0.0) <= target]
    rng.shuffle(order)
    members: list[str] = []
    total = 0.0
    for token in order:
        if total + shares[token] <= 1.03 * target:
            members.append(token)
            total += shares[token]
        if total >= 0.97 * target:
            break
    return Concept(f"ladder {target:g}", tuple(sorted(members)), "ladder")


def prevalences(spec: PlantedSpec) -> dict[str, float]:
    """Expected share of a corpus's tokens that belong to each concept, by the concept's name."""
    return {concept.name: concept.share for concept in concepts(spec)}
