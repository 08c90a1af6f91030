"""Batch-top-k autoencoders saved while training (Bussmann et al. 2024, arXiv 2412.06410).

In training, the k largest activations per token on average over a batch survive. What a token's latents are must not
depend on its neighbours in a batch, so for use it becomes a JumpReLU with one threshold for all latents, the running
mean of the smallest activation that survived (section 3 of the paper), exactly as SAELens does when it exports one.
"""

from __future__ import annotations

from torch import Tensor

from tools.dictionaries.config import DictionaryConfig
from tools.dictionaries.jumprelu import JumpReluDictionary
from tools.dictionaries.registry import register
from tools.errors import DictionaryError


@register("batchtopk", "matryoshka_batchtopk")
class BatchTopKDictionary(JumpReluDictionary):
    """A JumpReLU whose thresholds are the training's ``topk_threshold``; decoder norms are folded into the encoder."""

    @classmethod
    def adapt(cls, config: DictionaryConfig, weights: dict[str, Tensor]) -> tuple[DictionaryConfig, dict[str, Tensor]]:
        adapted = dict(weights)
        threshold = adapted.pop("topk_threshold", None)
        if threshold is None and "threshold" not in adapted:
            raise DictionaryError(
                f"The weights of a dictionary of architecture '{config.architecture}' lack topk_threshold. "
                "Save it with SAELens' save_inference_model."
            )
        if {"W_enc", "b_enc", "W_dec"} - adapted.keys():
            return config, adapted  # named as missing by the check of all weights
        if config.rescale_acts_by_decoder_norm:
            norms = adapted["W_dec"].norm(dim=-1).clamp(min=1e-8)
            adapted["W_enc"] = adapted["W_enc"] * norms
            adapted["b_enc"] = adapted["b_enc"] * norms
            adapted["W_dec"] = adapted["W_dec"] / norms[:, None]
        if threshold is not None:
            adapted["threshold"] = adapted["b_enc"].new_full(adapted["b_enc"].shape, threshold.item())
        return config, adapted
