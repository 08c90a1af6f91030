"""The gated sparse autoencoder: which latents are on, and how strongly, are decided apart (Rajamanoharan et al. 2024).

Both paths share the encoder up to a scale per latent, exp(r_mag) (arXiv 2404.16014, equations 6 and 7).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.registry import register


@register("gated")
class GatedDictionary(Dictionary):
    """z = [x W_enc + b_gate > 0] * ReLU(exp(r_mag) * x W_enc + b_mag)."""

    shapes: ClassVar[dict[str, str]] = {
        "W_enc": "is",
        "b_gate": "s",
        "r_mag": "s",
        "b_mag": "s",
        "W_dec": "so",
        "b_dec": "o",
    }
    b_gate: Tensor
    r_mag: Tensor
    b_mag: Tensor

    def pre_bias(self) -> Tensor:
        return self.b_gate

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        magnitude = normalised @ (self.W_enc * self.r_mag.exp()) + self.b_mag
        return magnitude.relu() * (pre > 0)
