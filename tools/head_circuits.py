"""The OV and QK circuits of a head, read off its weights (Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits"; Dar et al. 2023, arXiv 2209.02535).

With E the tokens' embeddings behind the norm of the head's layer and U the unembedding with the final norm's gain,

    OV = E W_V W_O U     what attending to a token adds to the logits of every token        [vocabulary, vocabulary]
    QK = scale (E W_Q + b_Q) (E W_K + b_K)^T     which tokens a token attends to            [vocabulary, vocabulary]

Both are of rank d_head and kept as their two factors; the strongest entries are found block by block, and eigenvalues
come from the factors' product in the other order, which is d_head x d_head and has the same ones except zeros. Rows
are centred, for a constant added to all logits, or to all scores of a query, changes nothing. The value bias is left
out: it is written whatever the head attends to.

E is a choice. By default a token is what its stream is when it enters the layer alone after the text's first token,
with what earlier layers make of it. Elhage et al. take the embedding itself, which later layers never meet: in models
whose first layers do much to it, the circuits are then those of vectors that do not occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tools import units
from tools.embeddings import Streams, position_streams, token_streams
from tools.errors import UnitError
from tools.head_weights import ROTARY, attention_input, head_weights, rotation
from tools.kinds.neuron import behind_norm
from tools.normalisation import Unembedding
from tools.subject import Subject
from tools.types import Site, UnitId

#: Entries of a block of a circuit that exist at once (64 MB in float32).
_BLOCK = 2**24
#: Tokens, evenly spread over the vocabulary, whose own rank is looked up.
_SAMPLE = 1024
#: A token counts as copied when its own logit is among this many that attending to it raises most.
OWN = 10
#: Learned positions whose preference for each other is computed.
_POSITIONS = 512


@dataclass(frozen=True)
class TokenPair:
    """An entry of a circuit. OV: attending to `source` adds `score` to the logit of `target`. QK: the query `source`
    scores the key `target` by `score` more than the mean key."""

    source: int
    target: int
    source_piece: str
    target_piece: str
    score: float


@dataclass(frozen=True)
class OffsetMass:
    """Mean attention to the position `offset` back, by positions alone."""

    offset: int
    mass: float


@dataclass(frozen=True)
class HeadCircuit:
    """What a head's weights say of it; None where the subject has no such circuit."""

    unit: UnitId
    streams: Streams
    """What stood for the tokens."""
    raised: tuple[TokenPair, ...] | None
    """OV, largest entries first. None where the way to the logits is not linear up to a norm (BERT)."""
    lowered: tuple[TokenPair, ...] | None
    copying: float | None
    """Sum of the OV circuit's eigenvalues over the sum of their magnitudes, in [-1, 1]: 1 where it raises what is
    attended to, -1 where it lowers it (Elhage et al. 2021)."""
    own: float | None
    """Share of tokens whose own logit attending to them raises, as one of the `OWN` raised most."""
    attended: tuple[TokenPair, ...]
    """QK, largest entries first."""
    matching: float
    """The same ratio for the QK circuit: 1 where tokens attend to themselves, as those of duplicate-token heads do."""
    offsets: tuple[OffsetMass, ...] | None
    """By learned positions alone, on the mean embedding, most attended first. None where embeddings hold none."""
    left_out: tuple[str, ...]
    """What acts on the head's scores and is not in QK."""
    offset: int
    """How far behind its key the query of `attended` and `matching` stands; other than 0 with rotary embeddings only.
    """

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "unit": str(self.unit)}


def head_circuit(
    subject: Subject, unit: UnitId, k: int = 10, streams: Streams = "alone", *, offset: int = 0
) -> HeadCircuit:
    """The circuits of one head.

    Args:
        subject: The model.
        unit: A head.
        k: How many token pairs of each kind.
        streams: What stands for a token.
        offset: How many positions a query stands behind its key, in models with rotary embeddings: QK is then the
            preference at that distance.

    Raises:
        UnitError: Not a head of this subject, its weights cannot be read, or it turns no queries by an offset.
    """
    units.check_unit(subject, unit)
    if unit.kind != "head":
        raise UnitError(f"'{unit}' is not an attention head: only heads have OV and QK circuits.")
    layer = int(unit.where)
    weights = head_weights(subject, layer)
    tokens = _tokens(subject)
    parts = [_factors(subject, unit, x) for x in _inputs(subject, layer, tokens, streams)]
    queries, keys, values = (torch.cat(column) for column in zip(*parts, strict=True))
    raised = lowered = copying = own = None
    if subject.unembedding is not None:
        with torch.inference_mode():
            out = _read_writes(subject, unit, subject.unembedding)[:, : len(tokens)]
        copying = eigenvalue_ratio(values, out)
        out = out - out.mean(-1, keepdim=True)
        raised, lowered = (_pairs(subject, sign * values, out, k, sign) for sign in (1.0, -1.0))
        own = _own_share(values, out)
    queries, left_out = weights.scale * queries, weights.left_out
    if offset:
        queries = queries @ rotation(subject, layer, offset)
        left_out = tuple(one for one in left_out if one != ROTARY)
    return HeadCircuit(
        unit, streams, raised, lowered, copying, own,
        attended=_pairs(subject, queries, (keys - keys.mean(0)).T, k, 1.0),
        matching=eigenvalue_ratio(queries, keys.T),
        offsets=_offsets(subject, unit, tokens, k),
        left_out=left_out,
        offset=offset,
    )  # fmt: skip


@dataclass(frozen=True)
class HeadCopying:
    """The figures of a `HeadCircuit` without its token pairs."""

    unit: UnitId
    copying: float | None
    own: float | None
    matching: float


def layer_copying(subject: Subject, layer: int, streams: Streams = "alone") -> list[HeadCopying]:
    """How far each head of a layer copies what it attends to, and attends to what is like the query.

    Raises:
        UnitError: The layer is beyond the model, or the weights of its heads cannot be read.
    """
    weights = head_weights(subject, layer)
    tokens = _tokens(subject)
    x = torch.cat(list(_inputs(subject, layer, tokens, streams)))
    found = []
    for head in range(len(weights.W_Q)):
        unit = UnitId(f"head:{layer}", head)
        queries, keys, values = _factors(subject, unit, x)
        copying = own = None
        if subject.unembedding is not None:
            out = _read_writes(subject, unit, subject.unembedding)[:, : len(tokens)]
            copying, own = eigenvalue_ratio(values, out), _own_share(values, out - out.mean(-1, keepdim=True))
        found.append(HeadCopying(unit, copying, own, eigenvalue_ratio(weights.scale * queries, keys.T)))
    return found


def eigenvalue_ratio(left: Tensor, right: Tensor) -> float:
    """Sum of the eigenvalues of a circuit over the sum of their magnitudes; 0 where all are zero.

    The circuit is ``left @ right`` with each row centred. Singular values that rounding could have made count as zero.

    Args:
        left: [n, rank].
        right: [rank, n].
    """
    left, right = left.double().cpu(), right.double().cpu()
    rounding = 1e-6 * float(left.norm() * right.norm())
    u, s, vh = torch.linalg.svd((right - right.mean(-1, keepdim=True)) @ left)
    kept = s > rounding
    values = torch.linalg.eigvals(s[kept, None] * (vh[kept] @ u[:, kept]))
    total = float(values.abs().sum())
    return float(values.real.sum()) / total if total > 0 else 0.0


def top_entries(left: Tensor, right: Tensor, k: int) -> list[tuple[int, int, float]]:
    """The k largest entries of ``left @ right`` as (row, column, value), without forming it.

    Rows are taken by falling norm, block by block, until no later one can hold a larger entry: by Cauchy and Schwarz
    none exceeds its row's norm times the largest norm of a column.

    Args:
        left: [n, rank].
        right: [rank, m].
        k: How many.
    """
    norms, order = left.norm(dim=-1).sort(descending=True)
    reach = float(right.norm(dim=0).max())
    block = max(1, _BLOCK // right.shape[1])
    best = torch.full((0,), -torch.inf, device=left.device)
    places = torch.zeros(0, dtype=torch.int64, device=left.device)
    for start in range(0, len(left), block):
        if len(best) == k and float(norms[start]) * reach <= float(best[-1]):
            break
        rows = order[start : start + block]
        entries = (left[rows] @ right).flatten()
        found = entries.topk(min(k, len(entries)))
        row, column = found.indices // right.shape[1], found.indices % right.shape[1]
        values = torch.cat([best, found.values])
        at = torch.cat([places, rows[row] * right.shape[1] + column])
        kept = values.topk(min(k, len(values)))
        best, places = kept.values, at[kept.indices]
    width = right.shape[1]
    return [(p // width, p % width, v) for p, v in zip(places.tolist(), best.tolist(), strict=True)]


def _tokens(subject: Subject) -> list[int]:
    """All tokens that there are: rows beyond the tokenizer are padding of the embedding matrix."""
    return list(range(min(len(subject.tokenizer), subject.vocabulary)))


def _inputs(subject: Subject, layer: int, tokens: list[int], streams: Streams) -> Iterator[Tensor]:
    """What the layer's attention reads of each token, block by block: [some, d_model]."""
    block, site = max(1, _BLOCK // subject.d_model), Site(layer if streams == "alone" else 0, "resid_pre")
    for start in range(0, len(tokens), block):
        yield attention_input(subject, layer, token_streams(subject, tokens[start : start + block], site))


def _factors(subject: Subject, unit: UnitId, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys with their biases, and values without theirs: float32 [token, d_head] each."""
    weights, head = head_weights(subject, int(unit.where)), unit.index
    return x @ weights.W_Q[head] + weights.b_Q[head], x @ weights.W_K[head] + weights.b_K[head], x @ weights.W_V[head]


def _read_writes(subject: Subject, unit: UnitId, unembedding: Unembedding) -> Tensor:
    """What each dimension of a head's output adds to the logits, [d_head, vocabulary]; rounding counts as nothing."""
    layer = int(unit.where)
    write = head_weights(subject, layer).W_O[unit.index]
    generator = torch.Generator(write.device).manual_seed(0)
    other = torch.randn(write.shape, generator=generator, device=write.device)
    other *= write.norm(dim=-1, keepdim=True) / other.norm(dim=-1, keepdim=True)
    path = subject.sites.plans[layer].attention_norm
    read, typical = (unembedding.project(behind_norm(subject, layer, path, w)) for w in (write, other))
    # Writes into dimensions that the unembedding does not read come out as what the floats leave over.
    seen = read.abs().amax(-1, keepdim=True) > 1e-5 * typical.abs().amax(-1, keepdim=True)
    return torch.where(seen, read, 0.0)


def _pairs(subject: Subject, left: Tensor, right: Tensor, k: int, sign: float) -> tuple[TokenPair, ...]:
    found = top_entries(left, right, k)
    sources = subject.pieces([row for row, _, _ in found])
    targets = subject.pieces([column for _, column, _ in found])
    return tuple(
        TokenPair(row, column, source, target, sign * value)
        for (row, column, value), source, target in zip(found, sources, targets, strict=True)
        if value > 0
    )


def _own_share(values: Tensor, out: Tensor) -> float:
    step = max(1, len(values) // _SAMPLE)
    rows = torch.arange(0, len(values), step, device=values.device)
    hits = 0
    for part in torch.split(rows, max(1, _BLOCK // out.shape[1])):
        scores = values[part] @ out
        own = scores.gather(1, part[:, None])
        hits += int((((scores > own).sum(-1) < OWN) & (own[:, 0] > 0)).sum())
    return hits / len(rows)


def _offsets(subject: Subject, unit: UnitId, tokens: list[int], k: int) -> tuple[OffsetMass, ...] | None:
    """Attention of the mean token at each position to mean tokens at others, by offset; position 0 left out."""
    positions = min(subject.context, _POSITIONS)
    added = position_streams(subject, positions)
    if added is None:
        return None
    layer, head = int(unit.where), unit.index
    weights = head_weights(subject, layer)
    x = attention_input(subject, layer, token_streams(subject, tokens, Site(0, "resid_pre")).float().mean(0) + added)
    queries = x @ weights.W_Q[head] + weights.b_Q[head]
    scores = weights.scale * queries @ (x @ weights.W_K[head] + weights.b_K[head]).T
    place = torch.arange(positions, device=scores.device)
    offset = place[:, None] - place[None]
    if subject.causal:
        scores = scores.masked_fill(offset < 0, -torch.inf)
    # As in the scores of heads' edges, destinations 0 and 1 and source 0 are left out.
    pattern = scores.softmax(-1)[2:, 1:]
    offset = offset[2:, 1:]
    allowed = offset >= 0 if subject.causal else torch.ones_like(offset, dtype=torch.bool)
    shifted = offset[allowed] + positions
    sums = torch.zeros(2 * positions, device=scores.device).index_add_(0, shifted, pattern[allowed])
    counts = torch.bincount(shifted, minlength=2 * positions)
    means = torch.where(counts >= 0.25 * counts.max(), sums / counts.clamp(min=1), 0.0)
    best = means.topk(min(k, len(means)))
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(OffsetMass(i - positions, mass) for i, mass in found if mass > 0)
