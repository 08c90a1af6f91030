"""Tiny models of ours as TransformerLens' HookedTransformer, with the same weights, for comparisons."""

from __future__ import annotations

from typing import Any

import torch

from tools.subject import Subject


def hooked_transformer(subject: Subject, *, fold: bool = False) -> Any:
    """A HookedTransformer with a GPT-2's or Llama's weights.

    Args:
        subject: The model.
        fold: Fold norms' gains into the weights behind them, as TransformerLens' attribution of logits wants it.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions

    config: Any = subject.model.config
    llama = config.model_type == "llama"
    plan = subject.sites.plans[0]
    options: dict[str, Any] = {
        "n_layers": subject.n_layers, "d_model": subject.d_model, "d_head": plan.d_head, "n_heads": plan.n_heads,
        "d_mlp": plan.n_neurons, "d_vocab": subject.vocabulary, "n_ctx": subject.context, "device": "cpu",
        "default_prepend_bos": False,
    }  # fmt: skip
    if llama:
        options |= {
            "act_fn": "silu", "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
            "rotary_dim": plan.d_head, "rotary_adjacent_pairs": False, "eps": config.rms_norm_eps, "final_rms": True,
            "n_key_value_heads": config.num_key_value_heads, "original_architecture": "LlamaForCausalLM",
        }  # fmt: skip
    else:
        names = {"gelu_new": "gelu_new", "relu": "relu"}
        options |= {
            "act_fn": names[config.activation_function], "normalization_type": "LN",
            "eps": config.layer_norm_epsilon, "original_architecture": "GPT2LMHeadModel",
        }  # fmt: skip
    model = HookedTransformer(HookedTransformerConfig(**options))
    convert = weight_conversions.convert_llama_weights if llama else weight_conversions.convert_gpt2_weights
    with torch.no_grad():
        model.load_and_process_state_dict(
            convert(subject.model, model.cfg), fold_ln=fold, center_writing_weights=False, center_unembed=False,
            fold_value_biases=False,
        )  # fmt: skip
    return model.eval()
