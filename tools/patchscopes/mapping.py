"""Affine maps from the stream of one layer to that of another, of the same model or of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.subject import Subject
from tools.types import Site
from tools.units import length_batches

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class AffineMap:
    """h -> h W + b; `fit_affine` makes it."""

    source: Site
    target: Site
    weight: Tensor
    """float32 [d_model of the source, d_model of the target]."""
    bias: Tensor
    positions: int
    """That it was fitted on."""
    explained: float
    """Share of the target's variance on them that the map explains."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Mapped vectors [..., d_model of the target], float32."""
        return vectors.float() @ self.weight.to(vectors.device) + self.bias.to(vectors.device)

    def to_json(self) -> dict[str, Any]:
        """What it is, without its weights."""
        about = {"source": str(self.source), "target": str(self.target), "positions": self.positions}
        return {**about, "explained": self.explained}


def fit_affine(
    subject: Subject, source: Site, target: Site, contexts: Sequence[Sequence[int]], *, into: Subject | None = None
) -> AffineMap:
    """Least squares of the target's stream on the source's, with a bias; the paper takes 10 000 positions.

    Args:
        subject: Whose stream is mapped.
        source: Where it is read; a stream, such as ``resid_post.3``.
        target: Where it is to be put.
        contexts: Token ids; position 0 of each is left out, where many models rest.
        into: The model that it is put into; None: the same one.

    Raises:
        UnitError: A site is not there.
        InterventionError: The two models read texts in different tokens, or there are fewer positions than the map has
            weights for each dimension.
    """
    other = into or subject
    if other is not subject and other.tokenizer.get_vocab() != subject.tokenizer.get_vocab():
        raise InterventionError(
            f"'{subject.name}' and '{other.name}' have different tokenizers: their positions are not of the same text."
        )
    usable = [list(map(int, context)) for context in contexts if len(context) > 1]
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for batch in length_batches([len(context) for context in usable], _BATCH_TOKENS):
        ids, mask = subject.pad([usable[i] for i in batch])
        real = mask.bool()
        real[:, 0] = False
        for one, site, kept in ((subject, source, xs), (other, target, ys)):
            kept.append(one.capture(ids, mask, [site])[site][real.to(one.device)].double().cpu())
    x = torch.cat(xs) if xs else torch.zeros(0, subject.d_model, dtype=torch.float64)
    if len(x) <= subject.d_model:
        raise InterventionError(
            f"A map of width {subject.d_model} needs more than {subject.d_model} positions to be fitted, and these "
            f"texts have {len(x)}. Give more texts."
        )
    y = torch.cat(ys)
    centre, aim = x.mean(0), y.mean(0)
    # By singular values, for streams that do not fill their space.
    weight = torch.linalg.lstsq(x - centre, y - aim, driver="gelsd").solution
    left = (y - aim) - (x - centre) @ weight
    spread = float((y - aim).square().sum())
    explained = 1 - float(left.square().sum()) / spread if spread > 0 else 1.0
    bias = aim - centre @ weight
    return AffineMap(source, target, weight.float(), bias.float(), len(x), explained)
