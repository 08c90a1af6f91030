"""The top-k sparse autoencoder: a token keeps its k largest pre-activations (Gao et al. 2024, arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.config import DictionaryConfig
from tools.dictionaries.registry import register
from tools.errors import DictionaryError


@register("topk")
class TopKDictionary(Dictionary):
    """z = the k largest entries of pre, through a ReLU; the rest is zero.

    With ``rescale_acts_by_decoder_norm`` latents are ranked and reported by what they contribute: times the norm of
    their decoder row, which decoding divides out again.
    """

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "b_enc": "s", "W_dec": "so", "b_dec": "o"}

    def __init__(self, config: DictionaryConfig, weights: Mapping[str, Tensor], *, name: str, fingerprint: str) -> None:
        super().__init__(config, weights, name=name, fingerprint=fingerprint)
        if config.k is None or config.k != int(config.k) or not 0 < config.k <= self.d_sae:
            raise DictionaryError(
                f"Dictionary '{name}' is of architecture 'topk' and needs a whole number k from 1 to {self.d_sae} in "
                f"its cfg.json, not {config.k and f'{config.k:g}'}."
            )
        self.k = int(config.k)

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        if self.config.rescale_acts_by_decoder_norm:
            pre = pre * self.W_dec.norm(dim=-1)
        values, places = torch.topk(pre, self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter_(-1, places, values.relu())

    def decode(self, z: Tensor, like: Tensor | None = None) -> Tensor:
        if self.config.rescale_acts_by_decoder_norm:
            z = z * (1 / self.W_dec.norm(dim=-1))
        return super().decode(z, like)
