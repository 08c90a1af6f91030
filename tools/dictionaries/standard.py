"""The standard sparse autoencoder: a ReLU over the encoder (Bricken et al. 2023; Cunningham et al. 2023)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.registry import register


@register("standard")
class StandardDictionary(Dictionary):
    """z = ReLU(pre)."""

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "b_enc": "s", "W_dec": "so", "b_dec": "o"}

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return pre.relu()
