"""Attention heads by their edges: from where to where they attend.

An edge runs from a query position (destination) to a key position (source). Destinations 0 and 1 are left out, and so
is source 0 except in the score `first`: much attention rests on the first token when a head has nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tools import units
from tools.capture import Captured
from tools.errors import UnitError
from tools.subject import Subject
from tools.types import FloatArray, Site, UnitId

#: Edges scored, besides entropy and position.
EDGES = ("previous", "same", "first", "duplicate", "induction", "delimiter")
_FIRST_DESTINATION = 2


@dataclass(frozen=True)
class EdgeProfile:
    """Where a head attends, as means over destinations; `baseline` has the same scores for uniform attention.

    An edge score is the mean attention mass on edges of that kind, over the destinations at which one exists
    (`destinations` says how many; with none, the score and its baseline are 0).
    """

    unit: UnitId
    previous: float
    """To the token before."""
    same: float
    """To the destination itself."""
    first: float
    """To position 0."""
    duplicate: float
    """To earlier occurrences of the destination's token."""
    induction: float
    """To tokens that came after earlier occurrences of the destination's token (Olsson et al. 2022)."""
    delimiter: float
    """To earlier punctuation, line ends and special tokens."""
    entropy: float
    """Of the attention distribution, in nats."""
    positional: float
    """R² of attention weights explained by their mean at each relative offset, in [0, 1]."""
    best_offset: int
    """Offset (destination - source) with the largest mean attention."""
    destinations: dict[str, int]
    baseline: dict[str, float]


@dataclass(frozen=True)
class Edge:
    """One strong edge of a head."""

    context: int
    """Which of the given contexts."""
    query: int
    key: int
    weight: float
    """Attention weight."""
    write: float
    """Norm of what the head writes at the query."""
    query_piece: str
    key_piece: str


def edge_profiles(subject: Subject, layer: int, contexts: Sequence[Sequence[int]]) -> list[EdgeProfile]:
    """Edge scores of every head of a layer over some contexts (token ids).

    Raises:
        UnitError: The layer has no attention patterns, or no context has three tokens.
    """
    subject.plan(layer, f"head:{layer}")
    usable = _long_enough(contexts)
    longest = max(len(c) for c in usable)
    totals = _Totals(subject.sites.plans[layer].n_heads + 1, longest)
    for batch, patterns in layer_patterns(subject, layer, usable, []):
        for row, i in enumerate(batch):
            length = len(usable[i])
            pattern = patterns[Site(layer, "attn_pattern")][row, :, :length, :length].float()
            allowed = torch.ones(length, length, dtype=torch.bool, device=pattern.device)
            allowed = allowed.tril() if subject.causal else allowed
            uniform = allowed / allowed.sum(-1, keepdim=True)
            totals.add(torch.cat([pattern, uniform[None]]), edge_masks(subject, usable[i], allowed), allowed)
    scores = totals.scores()
    *heads, baseline = ({key: float(values[h]) for key, values in scores.items()} for h in range(totals.heads))
    best = totals.best_offsets()
    counts = {edge: int(totals.count[edge]) for edge in EDGES}
    return [
        EdgeProfile(UnitId(f"head:{layer}", h), best_offset=best[h], destinations=counts, baseline=baseline, **head)
        for h, head in enumerate(heads)
    ]


def top_edges(subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], k: int) -> list[Edge]:
    """The k edges that carry most of what a head writes: ranked by attention weight times norm of the write.

    At most one edge for each query, so that one strong query does not fill the list.

    Raises:
        UnitError: Not a head of this subject, or no context has three tokens.
    """
    units.check_unit(subject, unit)
    if unit.kind != "head":
        raise UnitError(f"'{unit}' is not an attention head: only heads have edges.")
    layer = int(unit.where)
    _long_enough(contexts)
    site, z = Site(layer, "attn_pattern"), Site(layer, "head_z")
    found: list[tuple[float, Edge]] = []
    for batch, captured in layer_patterns(subject, layer, contexts, [z]):
        writes = units.activations(subject, unit.group, captured)[..., unit.index]
        for row, i in enumerate(batch):
            length = len(contexts[i])
            if length <= _FIRST_DESTINATION:
                continue
            weights, keys = captured[site][row, unit.index, :length, 1:length].float().max(-1)
            ranks = weights * writes[row, :length]
            ranks[:_FIRST_DESTINATION] = -1.0
            best = ranks.topk(min(k, length - _FIRST_DESTINATION))
            pieces = subject.pieces(contexts[i])
            for rank, query in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                key = int(keys[query]) + 1
                weight, write = float(weights[query]), float(writes[row, query])
                found.append((rank, Edge(i, query, key, weight, write, pieces[query], pieces[key])))
        found = sorted(found, key=lambda item: (-item[0], item[1].context, item[1].query))[:k]
    return [edge for _, edge in found]


def pattern(subject: Subject, unit: UnitId, ids: Sequence[int]) -> FloatArray:
    """Where a head attends in one text.

    Returns:
        Weights [query, key]; each row sums to 1.

    Raises:
        UnitError: Not a head of this subject, or its layer has no patterns.
    """
    units.check_unit(subject, unit)
    if unit.kind != "head":
        raise UnitError(f"'{unit}' is not an attention head: only heads attend.")
    ((_, captured),) = layer_patterns(subject, int(unit.where), [ids], [])
    found: FloatArray = captured[Site(int(unit.where), "attn_pattern")][0, unit.index].float().cpu().numpy()
    return found


def _long_enough(contexts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    usable = [c for c in contexts if len(c) > _FIRST_DESTINATION]
    if not usable:
        raise UnitError("Attention edges need contexts of at least 3 tokens; none of the given contexts has as many.")
    return usable


def layer_patterns(
    subject: Subject, layer: int, contexts: Sequence[Sequence[int]], more: Sequence[Site]
) -> Iterator[tuple[list[int], Captured]]:
    """Batches of contexts (by index) with the layer's patterns and what else is wanted."""
    longest = max(len(c) for c in contexts)
    heads = subject.sites.plans[layer].n_heads
    # Patterns grow with the square of the context; 2^24 entries are 64 MB in float32.
    for batch in units.length_batches([len(c) for c in contexts], max(1, 2**24 // (heads * longest))):
        ids, mask = subject.pad([contexts[i] for i in batch])
        yield batch, subject.capture(ids, mask, [Site(layer, "attn_pattern"), *more])


def edge_masks(subject: Subject, ids: Sequence[int], allowed: Tensor) -> dict[str, Tensor]:
    """For each kind of edge a mask [query, key]."""
    device = allowed.device
    tokens = torch.tensor(list(ids), device=device)
    length = len(tokens)
    query, key = torch.arange(length, device=device)[:, None], torch.arange(length, device=device)[None]
    earlier = (key < query) & (key > 0)
    special = set(subject.tokenizer.all_special_ids)
    delimiters = torch.tensor(
        [
            i in special or not any(c.isalnum() for c in piece)
            for i, piece in zip(ids, subject.pieces(ids), strict=True)
        ],
        device=device,
    )
    # The token before each key equals the query's token; keys 0 and 1 have none but the first before them.
    follows = torch.zeros(length, length, dtype=torch.bool, device=device)
    follows[:, 2:] = tokens[:, None] == tokens[None, 1:-1]
    return {
        "previous": key == query - 1,
        "same": key == query,
        "first": (key == 0).expand(length, length),
        "duplicate": earlier & (tokens[:, None] == tokens[None]),
        "induction": earlier & follows,
        "delimiter": earlier & delimiters[None],
    }


class _Totals:
    """Sums over destinations, for each head and (as one more head) for uniform attention."""

    def __init__(self, heads: int, longest: int) -> None:
        self.heads, self.longest = heads, longest
        self.mass = {edge: torch.zeros(heads, dtype=torch.float64) for edge in EDGES}
        self.count: dict[str, int] = dict.fromkeys(EDGES, 0)
        self.entropy, self.rows = torch.zeros(heads, dtype=torch.float64), 0
        self.squares = torch.zeros(heads, dtype=torch.float64)
        self.offset_sum = torch.zeros(heads, 2 * longest, dtype=torch.float64)
        self.offset_count = torch.zeros(2 * longest, dtype=torch.float64)

    def add(self, patterns: Tensor, masks: dict[str, Tensor], allowed: Tensor) -> None:
        """Count one context: patterns [head, query, key], masks and allowed [query, key]."""
        rows = slice(_FIRST_DESTINATION, None)
        patterns, allowed = patterns[:, rows], allowed[rows]
        flat = patterns.flatten(1)
        chosen = torch.stack([masks[edge][rows] for edge in EDGES])
        mass = (flat @ chosen.flatten(1).T.to(flat.dtype)).double().cpu()
        counts = chosen.any(-1).sum(-1).tolist()
        for column, edge in enumerate(EDGES):
            self.mass[edge] += mass[:, column]
            self.count[edge] += counts[column]
        self.entropy += torch.special.entr(flat).sum(-1).double().cpu()
        self.rows += patterns.shape[1]
        queries = torch.arange(patterns.shape[1], device=flat.device)[:, None] + _FIRST_DESTINATION
        keys = torch.arange(patterns.shape[2], device=flat.device)[None]
        related = allowed & (keys > 0)
        offsets = (queries - keys + self.longest).flatten()
        values = flat * related.flatten()
        sums = torch.zeros(self.heads, 2 * self.longest, device=flat.device).index_add_(1, offsets, values)
        self.offset_sum += sums.double().cpu()
        self.offset_count += torch.bincount(offsets[related.flatten()], minlength=2 * self.longest).double().cpu()
        self.squares += values.square().sum(-1).double().cpu()

    def scores(self) -> dict[str, Tensor]:
        """Each score as [head]."""
        scores = {edge: self.mass[edge] / max(self.count[edge], 1) for edge in EDGES}
        scores["entropy"] = self.entropy / self.rows
        n = self.offset_count.sum()
        explained = (self.offset_sum.square() / self.offset_count.clamp(min=1)).sum(-1)
        total_mean = self.offset_sum.sum(-1).square() / n
        total = self.squares - total_mean
        varies = total > 1e-12 * self.squares
        ratio = (explained - total_mean) / torch.where(varies, total, 1.0)
        scores["positional"] = torch.where(varies, ratio, 0.0).clamp(0.0, 1.0)
        return scores

    def best_offsets(self) -> list[int]:
        """Offset of the largest mean attention, among offsets that at least a quarter of destinations have."""
        common = self.offset_count >= 0.25 * self.offset_count.max()
        means = torch.where(common, self.offset_sum / self.offset_count.clamp(min=1), -1.0)
        return [int(i) - self.longest for i in means.argmax(-1)]
