"""Which tokens matter? Edits of the strongest explore examples, compared with what the rule mentions.

A token that only comes along with the cause leaves the activation as it was when it is replaced. So a rule that names
tokens which can be replaced without effect is right about the texts and wrong about the unit; the check says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explainers.pattern.plan import Rows
from explainers.rules.ast import InSet, Is, Literal, Rule, State
from explainers.rules.evaluate import clause_holds, reading_of
from explainers.rules.reading import Reading
from explainers.types import Evidence
from tools.types import BoolArray, IntArray

if TYPE_CHECKING:
    from tools.edits import EditEffect

EXAMPLES = 6
POOL = 12
"""Of so many strongest examples, those with the least text before them are edited: the cost grows with that text."""
WINDOW = 8
REPLACEMENTS = 2
SILENCED = 0.5
"""An edit silences the unit when at most this share of the activation is left."""


@dataclass(frozen=True)
class OffsetEffect:
    """What editing the token at one offset did, over the examples that have one there."""

    offset: int
    """0 is the position itself, -1 the token before."""
    examples: int
    silenced_by_replacing: int
    silenced_by_deleting: int
    mentioned: int
    """Examples in which the rule's clause refers to this token."""
    confirmed: bool | None
    """Whether replacing it silences the unit in at least half of the examples that mention it; None if none does."""

    @property
    def necessary(self) -> bool:
        """Whether replacing it silences the unit in at least half of the examples."""
        return self.examples > 0 and 2 * self.silenced_by_replacing >= self.examples


@dataclass(frozen=True)
class EditCheck:
    """The check's outcome."""

    effects: tuple[OffsetEffect, ...]
    """From the position itself backwards."""
    rows: tuple[dict[str, Any], ...]
    """One for each example: context, position, document, original activation and each edit's outcome."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "effects": [asdict(effect) for effect in self.effects],
            "examples": list(self.rows),
            "window": WINDOW,
            "replacements": REPLACEMENTS,
            "silenced_at": SILENCED,
            "seed": self.seed,
        }

    @property
    def doubtful(self) -> frozenset[int]:
        """Offsets of tokens that the rule refers to and that can mostly be replaced without effect."""
        return frozenset(effect.offset for effect in self.effects if effect.confirmed is False)

    def sentence(self) -> str:
        """The outcome in one or two sentences."""
        needed = [effect for effect in self.effects if effect.necessary]
        if not needed:
            return f"No single token among the last {WINDOW} is needed: replacing one leaves it on in most examples."
        parts = [
            f"{_name(effect.offset)} silences it in {effect.silenced_by_replacing} of {effect.examples} examples"
            for effect in needed[:3]
        ]
        text = f"Replacing {'; '.join(parts)}."
        if self.doubtful:
            names = " and ".join(_name(offset) for offset in sorted(self.doubtful, reverse=True)[:2])
            text += f" The rule also names {names}, which can mostly be replaced without silencing it."
        return text


def _name(offset: int) -> str:
    return {0: "the current token", -1: "the previous token"}.get(offset, f"the token {-offset} back")


def strongest(rows: Rows, n: int, among: BoolArray | None = None) -> IntArray:
    """Rows of n strong positions of distinct documents, active ones only: of `POOL`, those earliest in their text."""
    order = np.argsort(-rows.magnitude, kind="stable")
    order = order[(rows.active if among is None else rows.active & among)[order]]
    _, first = np.unique(rows.documents[order], return_index=True)
    pool = order[np.sort(first)][: max(n, POOL)]
    early = np.sort(np.argsort(rows.sample.positions[pool], kind="stable")[:n])
    return pool[early].astype(np.int64)


@dataclass(frozen=True)
class Edits:
    """Edits of the strongest examples, done once; any rule can be compared with them."""

    evidence: Evidence
    contexts: tuple[int, ...]
    positions: tuple[int, ...]
    found: tuple[tuple[EditEffect, ...], ...]
    """One for each example: an effect for each edited token."""

    def check(self, rule: Rule) -> EditCheck:
        """What the edits say of a rule."""
        texts = self.evidence.explore.texts
        mentioned = [
            mentioned_offsets(rule, reading_of(texts, context), position)
            for context, position in zip(self.contexts, self.positions, strict=True)
        ]
        described = tuple(
            {
                "context": context,
                "position": position,
                "document": texts.document_id(texts.document(context)),
                "mentioned": sorted(offsets),
                "effects": [asdict(effect) for effect in effects],
            }
            for context, position, offsets, effects in zip(
                self.contexts, self.positions, mentioned, self.found, strict=True
            )
        )
        return EditCheck(summarise(self.found, mentioned, self.evidence.sign), described, self.evidence.seed)


def edit_strongest(evidence: Evidence, rows: Rows, n: int = EXAMPLES, among: BoolArray | None = None) -> Edits | None:
    """Edits the strongest explore examples (among some rows); None when there is no subject or no active one."""
    if evidence.subject is None:
        return None
    from tools.edits import edit_effects

    chosen = strongest(rows, n, among)
    if not len(chosen):
        return None
    texts = evidence.explore.texts
    contexts, positions = rows.sample.contexts[chosen].tolist(), rows.sample.positions[chosen].tolist()
    found = edit_effects(
        evidence.subject, evidence.unit, [texts.ids(context).tolist() for context in contexts], positions,
        window=WINDOW, replacements=REPLACEMENTS, seed=evidence.seed % 2**32, pool=_pool(evidence),
    )  # fmt: skip
    return Edits(evidence, tuple(contexts), tuple(positions), tuple(tuple(effects) for effects in found))


def check_edits(evidence: Evidence, rows: Rows, rule: Rule) -> EditCheck | None:
    """Edits the strongest explore examples and compares them with a rule; None where they cannot be edited."""
    edits = edit_strongest(evidence, rows)
    return None if edits is None else edits.check(rule)


def _pool(evidence: Evidence) -> list[int]:
    """Ordinary tokens to draw replacements from: those of some panel contexts, with their frequency."""
    texts = evidence.explore.texts
    tokens: list[int] = []
    for context in evidence.explore.panel_contexts[:16].tolist():
        tokens += texts.ids(context).tolist()[1:]
    return tokens


def summarise(
    found: Sequence[Sequence[EditEffect]], mentioned: Sequence[set[int]], sign: float
) -> tuple[OffsetEffect, ...]:
    """Counts by offset over the examples."""
    effects = []
    for offset in range(0, -WINDOW, -1):
        here = [
            (effect, offset in offsets)
            for row, offsets in zip(found, mentioned, strict=True)
            for effect in row
            if effect.offset == offset
        ]
        if not here:
            continue
        replaced = [sign * effect.replaced <= SILENCED * sign * effect.original for effect, _ in here]
        deleted = [sign * effect.deleted <= SILENCED * sign * effect.original for effect, _ in here]
        named = [silenced for silenced, (_, mention) in zip(replaced, here, strict=True) if mention]
        effects.append(
            OffsetEffect(
                offset, len(here), sum(replaced), sum(deleted), len(named),
                2 * sum(named) >= len(named) if named else None,
            )
        )  # fmt: skip
    return tuple(effects)


def mentioned_offsets(rule: Rule, reading: Reading, position: int) -> set[int]:
    """Offsets (0 or less) of the tokens that the first matching clause refers to at a position."""
    for clause in rule.clauses:
        if clause_holds(reading, clause)[position]:
            offsets: set[int] = set()
            for literal in clause.literals:
                offsets |= _literal_offsets(literal, reading, position)
            return offsets
    return set()


def _literal_offsets(literal: Literal, reading: Reading, position: int) -> set[int]:
    if literal.negated:
        return set()
    if isinstance(literal, Is):
        return {-literal.offset}
    if isinstance(literal, State):
        return {"repeated token": {0}, "repeated word": {0}, "induction": {0, -1}}.get(literal.name, set())
    if not isinstance(literal, InSet):
        return set()
    place = literal.place
    if place.kind == "token":
        return {-place.offset}
    if place.kind == "near token":
        near = [o for o in range(min(place.offset, position + 1)) if reading.pieces[position - o] in literal.members]
        # Of several occurrences none is needed.
        return {-near[0]} if len(near) == 1 else set()
    end = reading.ends[position]
    if place.kind == "text":
        lengths = [len(member) for member in literal.members if reading.text.endswith(member, 0, end)]
        return _covering(reading, position, end - min(lengths)) if lengths else set()
    if place.kind == "word" and place.offset == 0:
        word = reading.column("word", 0)[position]
        return _covering(reading, position, end - len(word)) if word else set()
    return set()


def _covering(reading: Reading, position: int, start: int) -> set[int]:
    """Offsets of the tokens, up to the position, that reach beyond character `start`."""
    offsets = set()
    for i in range(position, -1, -1):
        if reading.ends[i] <= start:
            break
        offsets.add(i - position)
    return offsets
