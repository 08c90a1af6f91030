"""The JumpReLU sparse autoencoder: a ReLU with a threshold per latent (Rajamanoharan et al. 2024, arXiv 2407.14435)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.registry import register


@register("jumprelu")
class JumpReluDictionary(Dictionary):
    """z = ReLU(pre) * [pre > threshold]."""

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "b_enc": "s", "threshold": "s", "W_dec": "so", "b_dec": "o"}
    threshold: Tensor

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return pre.relu() * (pre > self.threshold)
