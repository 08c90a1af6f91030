"""What units look for and what they promote in the vocabulary, read off their weights.

Logit lens of weights (Dar et al. 2023, arXiv 2209.02535; Geva et al. 2022): W_U^T (γ ⊙ (w - mean(w))), with the final
norm's gain γ folded in and, where that norm is a LayerNorm, the mean removed. Scores are relative to their mean over
the vocabulary, for a constant added to all logits changes no prediction. They leave out what later layers do with the
write, and the positive factor by which the final norm scales the whole stream.

A read direction r is seen from two sides. The tokens that excite the unit: each token's stream, alone after the text's
first token where the unit reads it (or its embedding), behind the norm that the unit reads through, times r. And the
tokens whose logits the same direction would raise, r W_U, which Dar et al. propose: a unit that looks for what others
have written to predict a token shows that token there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tools import units
from tools.embeddings import Streams, token_streams
from tools.errors import UnitError
from tools.kinds.head import output_weights
from tools.kinds.neuron import behind_norm
from tools.loading import quiet
from tools.normalisation import norm_before, read_norm
from tools.sites import STREAMS
from tools.structure import first_tensor
from tools.subject import Subject
from tools.types import Site, UnitId


@dataclass(frozen=True)
class Promotion:
    """Tokens whose logits a write raises and lowers most, strongest first, as (piece, score)."""

    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class HeadWrite:
    """What a head writes when it attends to one source token only."""

    token: int
    piece: str
    norm: float
    """Norm of the write."""
    promotion: Promotion


def write_lens(subject: Subject, unit: UnitId, k: int = 10) -> Promotion | None:
    """Tokens that a unit promotes and suppresses when its activation is positive.

    Returns:
        None where a unit has no single write direction in the residual stream (heads: see `head_writes`; dictionaries
        of other sites), or where the way from the residual stream to the logits is not linear up to a norm (BERT).

    Raises:
        UnitError: The subject has no such unit.
    """
    direction = units.write_direction(subject, unit)
    if direction is None or subject.unembedding is None:
        return None
    return promotions(subject, direction[None], k)[0]


@dataclass(frozen=True)
class ReadLens:
    """What a unit's read direction says; see the module's text."""

    exciting: Promotion
    """Tokens that excite it most (`promoted`) and least (`suppressed`), relative to the mean token."""
    unembedding: Promotion | None
    """The direction through the unembedding; None where the way to the logits is not linear up to a norm (BERT)."""


def read_lens(subject: Subject, unit: UnitId, k: int = 10, streams: Streams = "alone") -> ReadLens | None:
    """Tokens that a unit looks for.

    Args:
        subject: The model.
        unit: A neuron (of a gated one, its gate is what reads), a latent or direction of a residual stream.
        k: How many tokens of each kind.
        streams: What stands for a token: its stream where the unit reads, alone, or its embedding.

    Returns:
        None for units without one read direction in the residual stream (heads, dictionaries of other sites).

    Raises:
        UnitError: The subject has no such unit.
    """
    direction = units.read_direction(subject, unit)
    site = units.group_site(subject, unit.group)
    norm: nn.Module | None = None
    if unit.kind == "mlp":
        plan = subject.sites.plans[site.layer]
        if direction is None or plan.mlp_in is None:
            return None
        with quiet():
            path = norm_before(subject.model, subject.sites.blocks[site.layer], plan.mlp_in)
        norm = None if path is None or plan.normalised_stream else subject.sites.module(site.layer, path)
        site = Site(site.layer, "resid_mid" if "resid_mid" in plan.taps else "resid_pre")
    elif direction is None or site.kind not in STREAMS:
        return None
    tokens = list(range(min(len(subject.tokenizer), subject.vocabulary)))
    with torch.inference_mode():
        stream = token_streams(subject, tokens, site if streams == "alone" else Site(0, "resid_pre"))
        scores = (stream if norm is None else norm(stream)).float() @ direction
        folded = direction
        if norm is not None and (known := read_norm(norm, subject.d_model, subject.device)) is not None:
            # Behind a norm, r reads from the stream what r itself reads from behind it: fold the other way round.
            folded = known.gain * direction
            folded = folded - folded.mean() if known.centred else folded
    exciting = _top(subject, (scores - scores.mean())[None], k)[0]
    return ReadLens(exciting, None if subject.unembedding is None else promotions(subject, folded[None], k)[0])


def head_writes(subject: Subject, unit: UnitId, token_ids: Sequence[int], k: int = 10) -> list[HeadWrite] | None:
    """The full OV circuit (Elhage et al. 2021) of a head on given source tokens.

    Each token's embedding, as it enters the first block at position 1, is put into the head's layer at a sequence of
    length one, where all attention must rest on it; what the head then writes is read through the final norm and
    unembedding. So W_V need not be found, whatever its layout, and its bias and the layer's norm are accounted for.

    Returns:
        One entry for each token, or None where the way to the logits is not linear up to a norm (BERT).

    Raises:
        UnitError: Not a head of this subject.
    """
    units.check_unit(subject, unit)
    if unit.kind != "head":
        raise UnitError(f"'{unit}' is not an attention head; write_lens shows what other units write.")
    if subject.unembedding is None or not token_ids:
        return None if subject.unembedding is None else []
    layer = int(unit.where)
    z = _values_of_tokens(subject, layer, token_ids)[:, unit.index]
    with torch.inference_mode():
        writes = z.float() @ output_weights(subject, layer)[unit.index]
        added = behind_norm(subject, layer, subject.sites.plans[layer].attention_norm, writes)
    promoted = promotions(subject, added, k)
    norms = writes.norm(dim=-1).tolist()
    rows = zip(token_ids, subject.pieces(token_ids), norms, promoted, strict=True)
    return [HeadWrite(token, piece, norm, promotion) for token, piece, norm, promotion in rows]


def _values_of_tokens(subject: Subject, layer: int, token_ids: Sequence[int]) -> Tensor:
    """Heads' outputs [token, head, d_head] when each token's embedding is all there is to attend to."""
    stream = token_streams(subject, token_ids, Site(0, "resid_pre"))[:, None]
    ids = torch.tensor(token_ids)[:, None]
    site = Site(layer, "head_z")

    def replace(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = first_tensor(args, kwargs)
        return (
            tuple(stream if a is given else a for a in args),
            {key: stream if a is given else a for key, a in kwargs.items()},
        )

    with subject.lock:
        handle = subject.sites.blocks[layer].register_forward_pre_hook(replace, with_kwargs=True)
        try:
            return subject.capture(ids, None, [site])[site][:, 0]
        finally:
            handle.remove()


def promotions(subject: Subject, directions: Tensor, k: int) -> list[Promotion]:
    """What directions [n, d_model] of the residual stream promote, for a subject that has an `unembedding`."""
    assert subject.unembedding is not None
    with torch.inference_mode():
        scores = subject.unembedding.project(directions)
        # Rows beyond the tokenizer are padding of the embedding matrix.
        scores = scores[:, : len(subject.tokenizer)]
        return _top(subject, scores - scores.mean(-1, keepdim=True), k)


def _top(subject: Subject, scores: Tensor, k: int) -> list[Promotion]:
    """The largest and smallest scores of each row of [row, token]."""
    k = min(k, scores.shape[-1])
    high, low = scores.topk(k), scores.topk(k, largest=False)

    def rows(values: Tensor, ids: Tensor) -> tuple[tuple[str, float], ...]:
        return tuple(zip(subject.pieces(ids.tolist()), values.tolist(), strict=True))

    return [
        Promotion(rows(high.values[i], high.indices[i]), rows(low.values[i], low.indices[i]))
        for i in range(len(scores))
    ]
