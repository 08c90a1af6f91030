"""What the output side says of the input: a unit that raises tokens may fire on them, before them, or near them.

Descriptions from the output alone (Gur-Arieh et al. 2025, arXiv 2501.08319) are often wrong about the input and
sometimes right where texts mislead. So they are rivals beside the explainer's, and are compared with these like any
other. Neither looks at where the unit fires until it is there:

- *on*: the current token is one of those that the unit raises;
- *near*: one of the last tokens is, as where a text's topic raises its own words;
- *before*: the current token is one after which one of them often comes. These are taken from the corpus: tokens in
  the order in which they are followed by one, as many of them as tell best where one follows.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np

from explainers.output.claim import OutputClaim, measured_claim
from explainers.pattern.adopt import adopted
from explainers.rules.ast import MAX_TEXT, Clause, InSet, Place, Rule
from explainers.types import Evidence, Explanation

#: By what these descriptions are known.
OUTPUT = "output"
#: Kinds of unit whose write is one direction, with an input that tokens may decide.
KINDS = ("mlp", "sae")
#: Tokens that count as near, the current one among them.
NEAR = 8
#: Tokens before others that are named, at most.
MOST_BEFORE = 64
#: How often a token must come in the explore panel to be counted among those before others.
FEWEST = 3


def output_rivals(evidence: Evidence) -> list[Explanation]:
    """Up to three descriptions of what a unit fires on, by the tokens that it raises: those that fit something."""
    raised, basis = raised_by(evidence)
    if evidence.unit.kind not in KINDS or not raised:
        return []
    here, before = Place("token", 0), tokens_before(evidence, raised)
    found: list[Explanation] = []
    for sense, place, members in (
        ("on", here, raised), ("before", here, before), ("near", Place("near token", NEAR), raised),
    ):  # fmt: skip
        if not members:
            continue
        rule = Rule((Clause(1.0, (InSet(place, "in", tuple(members)),)),), 0.0)
        details = {"raises": raised, "basis": basis, "sense": sense}
        made = adopted(rule, [True], evidence, OUTPUT, details)
        if made is not None and made.rule not in {other.rule for other in found}:
            found.append(made)
    return found


def raised_by(evidence: Evidence) -> tuple[list[str], str]:
    """Texts of the tokens that a unit raises when it is on, strongest first, and whether that was 'measured' or is what
    its 'weights' say."""
    claim: OutputClaim = measured_claim(evidence.output)
    if claim.raised:
        return _named(token.piece for token in claim.raised), "measured"
    promotion = evidence.promotion
    if promotion is None:
        return [], "weights"
    pairs = promotion.promoted if evidence.polarity == "+" else promotion.suppressed
    return _named(piece for piece, _ in pairs), "weights"


def _named(pieces: Iterable[str]) -> list[str]:
    return [piece for piece in dict.fromkeys(pieces) if 0 < len(piece) <= MAX_TEXT]


def tokens_before(evidence: Evidence, wanted: list[str]) -> list[str]:
    """Tokens after which one of `wanted` often comes in the explore panel.

    Of the tokens in the order of how often (as a share) one of `wanted` follows, the first so many that predict best
    that one follows: with the highest F1 over the panel's positions.
    """
    among = frozenset(wanted)
    times: Counter[str] = Counter()
    followed: Counter[str] = Counter()
    for context in evidence.explore.panel_contexts.tolist():
        pieces = evidence.explore.texts.pieces(context)
        for piece, after in itertools.pairwise(pieces[1:]):
            times[piece] += 1
            followed[piece] += after in among
    known = [piece for piece in followed if followed[piece] and times[piece] >= FEWEST and 0 < len(piece) <= MAX_TEXT]
    order = sorted(known, key=lambda piece: (-followed[piece] / times[piece], -times[piece], piece))[:MOST_BEFORE]
    if not order:
        return []
    right = np.cumsum([followed[piece] for piece in order])
    claimed = np.cumsum([times[piece] for piece in order])
    f1 = 2 * right / (claimed + sum(followed.values()))
    return order[: int(f1.argmax()) + 1]
