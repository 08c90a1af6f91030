"""Kinds of attention edges, how much of a head's attention goes to them, and where a head looks when it writes.

`tools.heads` scores a head over all places of a text. Many heads rest: where they have nothing to do they attend to the
first token, and write nearly nothing. What such a head is for shows at the places at which it writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tools import units
from tools.errors import UnitError
from tools.heads import EDGES, edge_masks, layer_patterns
from tools.subject import Subject
from tools.types import BoolArray, FloatArray, IntArray, Site, UnitId

#: Beside `tools.heads.EDGES`: to the token that stands so far back; from some tokens to others.
OFFSET, TOKENS = "offset", "tokens"
#: Destinations before this one are left out, as in `tools.heads`.
_FIRST_DESTINATION = 2
#: Offsets that are looked at.
_OFFSETS = 16
#: Weight from which on the strongest edge of a destination is told by its tokens.
CLEAR = 0.5
#: Token sets cover this share of the clear edges, with so many tokens at most.
_COVERED, _QUERIES, _KEYS = 0.95, 24, 64


@dataclass(frozen=True)
class EdgeKind:
    """A kind of attention edges."""

    name: str
    """One of `tools.heads.EDGES`, 'offset' or 'tokens'."""
    offset: int = 0
    """How far back the source stands; of 'offset'."""
    queries: tuple[str, ...] = ()
    """Tokens from which 'tokens' attends."""
    keys: tuple[str, ...] = ()
    """Earlier tokens to which it attends."""

    def __post_init__(self) -> None:
        if self.name not in (*EDGES, OFFSET, TOKENS):
            raise UnitError(f"'{self.name}' is no kind of edges. There are {', '.join((*EDGES, OFFSET, TOKENS))}.")


@dataclass(frozen=True)
class EdgeMasses:
    """Attention to edges of one kind, by destination."""

    mass: FloatArray
    """Of each head of the layer, [n_heads, n]."""
    uniform: FloatArray
    """Of uniform attention, [n]."""
    contexts: IntArray
    """Which of the given contexts each destination is in, [n]."""


@dataclass(frozen=True)
class KindMass:
    """Attention to one kind of edges, over the destinations that have one."""

    mass: float
    uniform: float
    """The same under uniform attention."""
    destinations: int


@dataclass(frozen=True)
class WrittenEdges:
    """Where a head attends at the destinations at which it writes."""

    unit: UnitId
    above: float
    """Norm of the write from which on it counts as one."""
    destinations: int
    kinds: dict[str, KindMass]
    """By name, of `tools.heads.EDGES`."""
    offset: int
    """That of the sources with most attention on average, the first position left out."""
    at_offset: KindMass
    clear: float
    """Share of the destinations whose strongest edge, not counting those to the first position, has a weight of `CLEAR`
    or more."""
    tokens: EdgeKind | None
    """From which to which tokens they run, where few tokens cover nearly all of them."""
    at_tokens: KindMass
    """Attention to such edges; nothing without them."""


def edge_mask(subject: Subject, kind: EdgeKind, ids: Sequence[int]) -> BoolArray:
    """Which edges of a text are of a kind, [query, key]."""
    length = len(ids)
    if kind.name in EDGES:
        return _plain_masks(subject, ids)[kind.name]
    if kind.name == OFFSET:
        return np.eye(length, k=-kind.offset, dtype=np.bool_)
    pieces = subject.pieces(ids)
    queries, keys = set(kind.queries), set(kind.keys)
    earlier = np.tri(length, k=-1, dtype=np.bool_)
    earlier[:, 0] = False
    found = np.array([piece in queries for piece in pieces])[:, None] & np.array([piece in keys for piece in pieces])
    return np.asarray(found & earlier, np.bool_)


def _plain_masks(subject: Subject, ids: Sequence[int]) -> dict[str, BoolArray]:
    """Masks of the kinds of `tools.heads`."""
    allowed = torch.ones(len(ids), len(ids), dtype=torch.bool)
    allowed = allowed.tril() if subject.causal else allowed
    return {name: (mask & allowed).numpy() for name, mask in edge_masks(subject, ids, allowed).items()}


def masses_at(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], asked: Sequence[tuple[int, int, Sequence[int]]]
) -> list[float]:
    """How much of a head's attention goes from one place to some others.

    Args:
        subject: The model.
        unit: The head.
        contexts: Token ids.
        asked: Number of a context, the query's position, positions of the keys.

    Returns:
        For each of `asked` the sum of its weights, 0 to 1.

    Raises:
        UnitError: Not a head of this subject, or a position is not in its context.
    """
    for context, query, keys in asked:
        n = len(contexts[context])
        if not 0 <= query < n or not keys or not 0 <= min(keys) <= max(keys) < n:
            raise UnitError(f"Text {context + 1} has {n} tokens: an edge from {query} to {list(keys)} is not in it.")
    found = [0.0] * len(asked)
    by_context: dict[int, list[int]] = {}
    for number, (context, *_) in enumerate(asked):
        by_context.setdefault(context, []).append(number)
    used = sorted(by_context)
    for i, pattern, _ in _of_head(subject, unit, [contexts[context] for context in used], writes=False):
        for number in by_context[used[i]]:
            _, query, keys = asked[number]
            found[number] = float(pattern[unit.index, query, list(dict.fromkeys(keys))].sum())
    return found


def edge_masses(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], kind: EdgeKind, above: float
) -> EdgeMasses:
    """Attention to edges of a kind at the destinations at which a head writes and has such an edge.

    Args:
        subject: The model.
        unit: The head; others of its layer are measured at the same destinations.
        contexts: Token ids.
        kind: Which edges.
        above: Norm of the head's write from which on it counts as one.

    Raises:
        UnitError: Not a head of this subject.
    """
    masses, uniforms, numbers = [], [], []
    for i, pattern, writes in _of_head(subject, unit, contexts, writes=True):
        mask = edge_mask(subject, kind, contexts[i])
        at = _places(mask, writes, above)
        masses.append((pattern[:, at] * mask[at]).sum(-1))
        uniforms.append(mask[at].sum(-1) / _reach(subject, len(contexts[i]))[at])
        numbers.append(np.full(len(at), i, np.int64))
    heads = subject.sites.plans[int(unit.where)].n_heads
    order = np.argsort(np.concatenate(numbers), kind="stable") if numbers else np.zeros(0, np.int64)
    return EdgeMasses(
        np.concatenate([np.zeros((heads, 0), np.float32), *masses], axis=1)[:, order].clip(0, 1),
        np.concatenate([np.zeros(0), *uniforms]).astype(np.float32)[order],
        np.concatenate([np.zeros(0, np.int64), *numbers])[order],
    )


def written_edges(subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], above: float) -> WrittenEdges:
    """Where a head attends at the places at which it writes.

    Args:
        subject: The model.
        unit: The head.
        contexts: Token ids.
        above: Norm of its write from which on it counts as one.

    Raises:
        UnitError: Not a head of this subject.
    """
    sums = {name: np.zeros(3) for name in EDGES}
    offsets = np.zeros((3, _OFFSETS))
    pairs: Counter[tuple[str, str]] = Counter()
    places = 0
    for i, pattern, writes in _of_head(subject, unit, contexts, writes=True):
        own, reach, pieces = pattern[unit.index], _reach(subject, len(contexts[i])), subject.pieces(contexts[i])
        for name, mask in _plain_masks(subject, contexts[i]).items():
            at = _places(mask, writes, above)
            sums[name] += (own[at] * mask[at]).sum(), (mask[at].sum(-1) / reach[at]).sum(), len(at)
        for query in _places(np.ones_like(own, np.bool_), writes, above).tolist():
            back = np.arange(min(query, _OFFSETS))  # sources from the query itself on, without the first position
            offsets[:, back] += own[query, query - back], np.full(len(back), 1 / reach[query]), np.ones(len(back))
            key = int(own[query, 1:].argmax()) + 1
            places += 1
            if own[query, key] >= CLEAR:
                pairs[pieces[query], pieces[key]] += 1
    common = offsets[2] >= 0.25 * max(float(offsets[2].max()), 1.0)
    best = int(np.where(common, offsets[0] / np.maximum(offsets[2], 1), -1.0).argmax())
    tokens, at_tokens = _token_sets(pairs), KindMass(0.0, 0.0, 0)
    if tokens is not None:
        found = edge_masses(subject, unit, contexts, tokens, above)
        n = len(found.uniform)
        at_tokens = _mean([float(found.mass[unit.index].sum()), float(found.uniform.sum()), n])
    return WrittenEdges(
        unit, above, places, {name: _mean(sums[name]) for name in EDGES}, best, _mean(offsets[:, best]),
        sum(pairs.values()) / max(places, 1), tokens, at_tokens,
    )  # fmt: skip


def _token_sets(pairs: Counter[tuple[str, str]]) -> EdgeKind | None:
    """The fewest query tokens, and key tokens, that cover nearly all edges; None where that takes too many."""
    sets = []
    for side, most in ((0, _QUERIES), (1, _KEYS)):
        counts: Counter[str] = Counter()
        for pair, count in pairs.items():
            counts[pair[side]] += count
        kept, covered = [], 0
        for piece, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if covered >= _COVERED * counts.total():
                break
            kept.append(piece)
            covered += count
        if not kept or len(kept) > most:
            return None
        sets.append(tuple(kept))
    return EdgeKind(TOKENS, queries=sets[0], keys=sets[1])


def _mean(found: Sequence[float] | npt.NDArray[np.float64]) -> KindMass:
    mass, uniform, count = (float(value) for value in found)
    return KindMass(mass / max(count, 1.0), uniform / max(count, 1.0), int(count))


def _of_head(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], *, writes: bool
) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Of each context its number, the layer's patterns [head, query, key] and the norm of the head's writes [query]."""
    units.check_unit(subject, unit)
    if unit.kind != "head":
        raise UnitError(f"'{unit}' is not an attention head: only heads have edges.")
    layer = int(unit.where)
    site, z = Site(layer, "attn_pattern"), Site(layer, "head_z")
    if not contexts:
        return
    for batch, captured in layer_patterns(subject, layer, contexts, [z] if writes else []):
        norms = units.activations(subject, unit.group, captured)[..., unit.index] if writes else None
        for row, i in enumerate(batch):
            length = len(contexts[i])
            pattern = captured[site][row, :, :length, :length].float().cpu().numpy()
            norm = np.zeros(length, np.float32) if norms is None else norms[row, :length].float().cpu().numpy()
            yield i, pattern, norm


def _places(mask: BoolArray, writes: FloatArray, above: float) -> IntArray:
    """Destinations at which the head writes and an edge of the mask exists."""
    on = (writes > above) & mask.any(-1)
    on[:_FIRST_DESTINATION] = False
    return np.flatnonzero(on)


def _reach(subject: Subject, length: int) -> FloatArray:
    """Positions that each destination may attend to."""
    return np.arange(1, length + 1, dtype=np.float32) if subject.causal else np.full(length, length, np.float32)
