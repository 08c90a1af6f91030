"""Transcoders: dictionaries that predict an MLP's output from its input (Dunefsky et al. 2024, arXiv 2406.11944).

A skip transcoder adds a linear map of the raw input (Paulo et al. 2025, arXiv 2501.18823). Outputs are never scaled
back: the input's scale belongs to another site.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tools.dictionaries.base import Dictionary
from tools.dictionaries.hooks import site_of_hook
from tools.dictionaries.registry import register
from tools.errors import DictionaryError
from tools.types import Site


@register("transcoder")
class Transcoder(Dictionary):
    """z = ReLU(n(x) W_enc + b_enc), y = z W_dec + b_dec at another site."""

    shapes: ClassVar[dict[str, str]] = {"W_enc": "is", "b_enc": "s", "W_dec": "so", "b_dec": "o"}

    def _output_site(self) -> Site:
        if self.config.hook_name_out is None:
            raise DictionaryError(
                f"The transcoder '{self.name}' does not say where its output belongs. Add \"hook_name_out\", for "
                'example "blocks.2.hook_mlp_out", to the "metadata" of its cfg.json.'
            )
        if self.config.apply_b_dec_to_input:
            raise DictionaryError(
                f"Transcoder '{self.name}': apply_b_dec_to_input is set, but b_dec belongs to the output, not the "
                "input. Set it to false in cfg.json."
            )
        return site_of_hook(self.config.hook_name_out)

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return pre.relu()

    def _denormalise(self, y: Tensor, like: Tensor | None) -> Tensor:
        return y


@register("skip_transcoder")
class SkipTranscoder(Transcoder):
    """A transcoder whose reconstruction adds x W_skip^T; `decode` gives the latents' part alone."""

    shapes: ClassVar[dict[str, str]] = {**Transcoder.shapes, "W_skip": "oi"}
    W_skip: Tensor

    def reconstruct(self, x: Tensor) -> Tensor:
        return super().reconstruct(x) + self._flat(x) @ self.W_skip.T


@register("jumprelu_transcoder")
class JumpReluTranscoder(Transcoder):
    """A transcoder with a threshold per latent."""

    shapes: ClassVar[dict[str, str]] = {**Transcoder.shapes, "threshold": "s"}
    threshold: Tensor

    def activate(self, pre: Tensor, normalised: Tensor) -> Tensor:
        return pre.relu() * (pre > self.threshold)


@register("jumprelu_skip_transcoder")
class JumpReluSkipTranscoder(JumpReluTranscoder, SkipTranscoder):
    """A transcoder with thresholds and a skip connection."""

    shapes: ClassVar[dict[str, str]] = {**JumpReluTranscoder.shapes, "W_skip": "oi"}
